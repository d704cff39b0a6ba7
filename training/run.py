"""One training from a name to an exported row: recipe -> loop -> measured -> safetensors + row."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from robust_zoo import architectures
from robust_zoo.errors import UsageError
from robust_zoo.normalize import PixelModel
from robust_zoo.registry import get
from robust_zoo.training.data import load_npz
from robust_zoo.training.export import export
from robust_zoo.training.loop import has_native_bf16, train
from robust_zoo.training.recipes import recipe_for
