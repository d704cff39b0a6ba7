"""Small datasets in memory, as uint8 tensors, shuffled and augmented as functions of (seed, epoch, index)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robust_zoo.errors import UsageError

_PAD = 4  # crop offset in pixels, the field's standard CIFAR augmentation


@dataclass(frozen=True)
class Images:
    """A labelled dataset in memory. images: (N, 3, H, W) uint8; labels: (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """In order, unaugmented: images (B, 3, H, W) float in [0, 1], labels (B,)."""
        for start in range(0, len(self), size):
            yield self.images[start : start + size].float() / 255, self.labels[start : start + size]

    def first(self, n: int) -> Images:
        return Images(self.images[:n], self.labels[:n])

    @property
    def sha256(self) -> str:
        """Fingerprint of the pixels and labels, in order."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def load_npz(path: Path, split: str) -> Images:
    """Reads `x_{split}` (N, H, W, 3) uint8 and `y_{split}` (N,) from an .npz file.

    Raises UsageError when the file or the split is missing.
    """
    expected = f"an .npz with x_{split} (N, H, W, 3) uint8 and y_{split} (N,)"
    try:
        with np.load(path) as file:
            images, labels = file[f"x_{split}"], file[f"y_{split}"]
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(
            f"cannot read {split} images", source=str(path), expected=expected, actual=str(error)
        ) from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) != len(labels):
        found = f"images {images.dtype} {images.shape}, labels {labels.shape}"
        raise UsageError(f"not a dataset of {split} images", source=str(path), expected=expected, actual=found)
    return Images(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels).long())


def train_batches(data: Images, size: int, *, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order with a reflect-padded random crop and a random flip; the short last batch is dropped.

    Every random choice is drawn for the whole dataset from a generator seeded by (seed, epoch) and read
    at the image's own index, so an image's augmentation does not depend on batch size or order.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(data), generator=generator)
    offsets = torch.randint(0, 2 * _PAD + 1, (len(data), 2), generator=generator)
    flips = torch.rand(len(data), generator=generator) < 0.5
    for start in range(0, len(data) - size + 1, size):
        index = order[start : start + size]
        images = _crop(data.images[index], offsets[index])
        images = torch.where(flips[index].view(-1, 1, 1, 1), images.flip(-1), images)
        yield images.float() / 255, data.labels[index]


def _crop(images: Tensor, offsets: Tensor) -> Tensor:
    """images (B, C, H, W) uint8, offsets (B, 2) in [0, 2 * _PAD] -> crops of the reflect-padded images, same shape."""
    height, width = images.shape[-2:]
    padded = F.pad(images.float(), (_PAD,) * 4, mode="reflect").to(images.dtype)
    rows = (offsets[:, :1] + torch.arange(height)).view(-1, 1, height, 1)
    columns = (offsets[:, 1:] + torch.arange(width)).view(-1, 1, 1, width)
    batch, channels = len(images), images.shape[1]
    return padded[torch.arange(batch).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1), rows, columns]
