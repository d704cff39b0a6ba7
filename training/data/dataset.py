"""Small datasets in memory, as uint8 tensors; and the order in which any dataset is seen.

Order and augmentation are functions of (seed, epoch, index): nothing of them has to be saved, and neither the
number of workers nor of devices changes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robust_zoo.errors import UsageError

_PAD = 4  # crop offset in pixels, the field's standard CIFAR augmentation
_CPU = torch.device("cpu")

Batches = Iterator[tuple[Tensor, Tensor]]  # images (B, 3, H, W) float in [0, 1], labels (B,) int64


class Dataset(Protocol):
    """What the loop and the evaluation need: `Images` in memory, `ImageFiles` on disk (training.files)."""

    @property
    def labels(self) -> Tensor: ...

    def __len__(self) -> int: ...

    @property
    def sha256(self) -> str: ...

    @property
    def contents_sha256(self) -> str: ...

    def subset(self, indices: Tensor) -> Dataset: ...

    def batches(self, size: int) -> Batches: ...

    def train_batches(self, indices: Sequence[Tensor], *, seed: int, epoch: int, device: torch.device) -> Batches: ...


@dataclass(frozen=True)
class Images:
    """A labelled dataset in memory. images: (N, 3, H, W) uint8; labels: (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """Fingerprint of the pixels and labels, in order."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    @property
    def contents_sha256(self) -> str:
        return self.sha256

    def subset(self, indices: Tensor) -> Images:
        return Images(self.images[indices], self.labels[indices])

    def batches(self, size: int) -> Batches:
        """In order, unaugmented."""
        for start in range(0, len(self), size):
            yield self.images[start : start + size].float() / 255, self.labels[start : start + size]

    def train_batches(
        self, indices: Sequence[Tensor], *, seed: int, epoch: int, device: torch.device = _CPU
    ) -> Batches:
        """Batches of the given images, reflect-padded, randomly cropped and flipped on `device`."""
        _, offsets, flips = _draws(len(self), seed, epoch)
        for index in indices:
            images = _crop(self.images[index].to(device), offsets[index].to(device))
            images = torch.where(flips[index].to(device).view(-1, 1, 1, 1), images.flip(-1), images)
            yield images.float() / 255, self.labels[index].to(device)


def _draws(n: int, seed: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
    """The order of an epoch, and each image's crop offsets (N, 2) in [0, 2 * _PAD] and flip, read at its own index."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(n, generator=generator)
    offsets = torch.randint(0, 2 * _PAD + 1, (n, 2), generator=generator)
    return order, offsets, torch.rand(n, generator=generator) < 0.5


def seed_of(*numbers: int) -> int:
    """A generator's seed from several numbers. Mixed into 32 bits, for torch's CPU generator looks at no more."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest(), "little")


def epoch_order(n: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, ranks: int = 1) -> list[Tensor]:
    """The indices of each batch of an epoch that fall to `rank`; the short last batch is dropped.

    batch_size: images an update over all ranks. Together the ranks see what one would.
    """
    order, _, _ = _draws(n, seed, epoch)
    share = batch_size // ranks
    starts = range(rank * share, n - batch_size + rank * share + 1, batch_size)
    return [order[start : start + share] for start in starts]


def spread(data: Dataset, n: int) -> Dataset:
    """`n` images evenly spaced through the dataset (all of it when it has fewer): every class of a sorted one."""
    return data.subset(torch.arange(min(n, len(data))) * len(data) // min(n, len(data)))


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


def _crop(images: Tensor, offsets: Tensor) -> Tensor:
    """images (B, C, H, W) uint8, offsets (B, 2) in [0, 2 * _PAD] -> crops of the reflect-padded images, same shape."""
    batch, channels, height, width = images.shape
    padded = F.pad(images.float(), (_PAD,) * 4, mode="reflect").to(images.dtype)
    here = images.device
    rows = (offsets[:, :1] + torch.arange(height, device=here)).view(-1, 1, height, 1)
    columns = (offsets[:, 1:] + torch.arange(width, device=here)).view(-1, 1, 1, width)
    every = torch.arange(batch, device=here).view(-1, 1, 1, 1), torch.arange(channels, device=here).view(1, -1, 1, 1)
    return padded[*every, rows, columns]
