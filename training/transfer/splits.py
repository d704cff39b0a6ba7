"""Splits of labelled images by class: so many of each, or a part of each held out."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_zoo.errors import UsageError
from robust_zoo.training.data.dataset import seed_of


def stratified_split(labels: Tensor, per_class: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """A stratified split: some images of each class, and the others.

    A class always keeps at least one image on each side where it has two.

    Args:
        labels: (N,) int64.
        per_class: How many images of each class; a float: that part of each.
        seed: Decides which images.

    Returns:
        Indices of the chosen images and of the others, both sorted.
    """
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed_of(seed, 0x5717))
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        count = round(per_class * len(members)) if isinstance(per_class, float) else per_class
        count = min(max(count, 1), max(len(members) - 1, 1))
        chosen[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()


def hold_out(labels: Tensor, part: float, seed: int) -> tuple[Tensor, Tensor]:
    """Holds a part of each class's images out, to choose by or to test on; a class's only image is not.

    Args:
        labels: (N,) int64.
        part: Of each class.
        seed: Decides which images.

    Returns:
        Indices of the images held out and of the others, both sorted.

    Raises:
        UsageError: No class has two images.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[stratified_split(labels, part, seed)[0]] = True
    held &= labels.bincount()[labels] > 1
    if not held.any():
        raise UsageError(
            "too few images to hold some out",
            expected="two training images or more in a class, or images of their own to choose by (val)",
            actual="one in each" if len(labels) else "none",
            next="add images of each class, or a folder val beside train",
        )
    return held.nonzero().flatten(), (~held).nonzero().flatten()
