"""create_model: a name -> the row -> verified weights -> a timm model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from robust_zoo import architectures
