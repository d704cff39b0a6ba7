"""Which code made a figure or a file."""

from __future__ import annotations

import torch

from robust_zoo import __version__


def code_version() -> str:
    """This package and torch, without the build: "robust_zoo 0.1.0, torch 2.14.0"."""
    return f"robust_zoo {__version__}, torch {torch.__version__.split('+')[0]}"
