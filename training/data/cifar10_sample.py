"""The bundled sample images: 1,000 CIFAR-10 test images, 100 per class."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from PIL import Image

from robust_zoo.errors import damaged
from robust_zoo.registry.lookup import get_dataset
from robust_zoo.registry.rows import DATA
from robust_zoo.training.data.dataset import Images

CLASSES = 10
PER_CLASS = 100
_SIZE = 32
_SHEET = DATA / "cifar10_sample.png"  # row r: the first 100 test images of class r, in test-set order
_SHEET_SHA256 = "b607bcf95f1c169b99cba5f3e15c1cb88c06614ee492f45d9b4dbc2661e53158"


def cifar10_classes() -> tuple[str, ...]:
    """The names of the sample's classes, by label."""
    return get_dataset("cifar10").class_names


def cifar10_sample(per_class: int = PER_CLASS) -> Images:
    """The bundled CIFAR-10 test images, class by class.

    Args:
        per_class: The first so many of each class, 100 at most.

    Returns:
        Images (10 * per_class, 3, 32, 32) uint8 and their labels.

    Raises:
        VerificationFailed: The bundled sheet is not the one that was published.

    Example:
        >>> len(cifar10_sample(per_class=5))
        50
    """
    found = hashlib.sha256(_SHEET.read_bytes()).hexdigest()
    if found != _SHEET_SHA256:
        what = "the bundled sample images are"
        raise damaged(what, "the installed package", _SHEET_SHA256, found, model=_SHEET.name)
    sheet = np.asarray(Image.open(_SHEET).convert("RGB"))
    tiles = sheet.reshape(CLASSES, _SIZE, PER_CLASS, _SIZE, 3).transpose(0, 2, 4, 1, 3)[:, :per_class]
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    return Images(torch.from_numpy(np.ascontiguousarray(tiles)).flatten(0, 1), labels)


def sheet_from(data: Images) -> Image.Image:
    """The sheet of a CIFAR-10 test split: how the bundled file was made, and can be made again.

    Args:
        data: The test split, (10000, 3, 32, 32) uint8.

    Returns:
        The sheet: a row of 100 images for each class.
    """
    rows = [data.images[data.labels == c][:PER_CLASS] for c in range(CLASSES)]
    tiles = torch.stack(rows).numpy()  # (10, 100, 3, 32, 32)
    height, width = CLASSES * _SIZE, PER_CLASS * _SIZE
    return Image.fromarray(tiles.transpose(0, 3, 1, 4, 2).reshape(height, width, 3))
