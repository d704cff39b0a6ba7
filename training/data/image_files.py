"""ImageNet-sized datasets: decoded, cropped and flipped by loader processes as uint8, coloured on the device.

Every random choice of an image is a function of (seed, epoch, index), so workers and batches do not matter.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torchvision.transforms.v2 import functional as F

from robust_zoo.errors import ZooError, cannot_read
from robust_zoo.training.data.colour import colour, draw, unchanged
from robust_zoo.training.data.contents import digests_of
from robust_zoo.training.data.dataset import Batches
from robust_zoo.training.data.decode import decode
from robust_zoo.training.data.encoded import EncodedImages
from robust_zoo.views import View

_USUAL = View()
_ALONE = ContextVar("_ALONE", default=False)


@contextmanager
def no_loaders() -> Iterator[None]:
    """Within it images are decoded by this process: loaders of one that shares work would start anew for each piece."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


@dataclass(frozen=True)
class ImageFiles:
    """A labelled dataset of encoded images, which loader processes decode.

    Attributes:
        source: Where the images are read.
        view: What of an image is tested on; its size is that of training crops too.
        augment: "robustness" (random resized crop, flip, jitter of brightness, contrast and saturation, colour noise)
            or "crop_flip" (the first two).
        workers: Loader processes, as many as there are cores at most.
        shrink: The shorter side that images are first brought to, 0 for none (Salman et al. 2020 take away ImageNet's
            finer grain so).
        indices: Of the images that this is a subset of, in order; None for all of them.
    """

    source: EncodedImages
    view: View = _USUAL
    augment: str = "robustness"
    workers: int = 0
    shrink: int = 0
    indices: Tensor | None = None

    def __len__(self) -> int:
        return len(self.source) if self.indices is None else len(self.indices)

    @property
    def labels(self) -> Tensor:
        """(N,) int64, in order."""
        return self.source.labels if self.indices is None else self.source.labels[self.indices]

    @property
    def rows(self) -> Sequence[int]:
        """Indices of the images in the source, in order."""
        return range(len(self.source)) if self.indices is None else self.indices.tolist()

    @cached_property
    def sha256(self) -> str:
        """Of every image's bytes and label, in order, and of `shrink`; each file is read once in a process."""
        digest, rows = hashlib.sha256(b"shrink %d" % self.shrink if self.shrink else b""), self.rows
        found = digests_of(rows, self._content, self.source.digests)
        for one, label in zip(found, self.labels.tolist(), strict=True):
            digest.update(one + label.to_bytes(8, "little"))
        return digest.hexdigest()

    def subset(self, indices: Tensor) -> ImageFiles:
        """The images at `indices`, in that order."""
        return replace(self, indices=indices if self.indices is None else self.indices[indices])

    def batches(self, size: int) -> Batches:
        """All images in order, `size` at a time, as the view shows them."""
        rows = torch.arange(len(self.source)) if self.indices is None else self.indices
        for images, _, labels in self._load(rows.split(size), self._for_test):
            yield images.float() / 255, labels

    def train_batches(self, indices: Sequence[Tensor], *, seed: int, epoch: int, device: torch.device) -> Batches:
        """Batches of the given images, augmented.

        Args:
            indices: For each batch the indices of its images.
            seed: With `epoch` and an image's index, decides how the image is changed.
            epoch: Counted from 0.
            device: Where the batches are wanted.

        Yields:
            Images (B, 3, S, S) float in [0, 1], and labels (B,) int64.

        Raises:
            VerificationFailed: A file cannot be decoded; the error names it.
        """
        chosen = indices if self.indices is None else [self.indices[index] for index in indices]
        for batch in self._load(chosen, Augment(self, seed, epoch), device):
            images, draws, labels = (part.to(device, non_blocking=True) for part in batch)
            yield colour(images, draws) if self.augment == "robustness" else images.float() / 255, labels

    def _load(
        self, indices: Sequence[Tensor], one: Callable[[int], tuple[Tensor, Tensor]], device: torch.device | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        loader: DataLoader = DataLoader(
            _Rows(self.source.labels, one),  # type: ignore[arg-type]
            batch_sampler=[index.tolist() for index in indices],
            num_workers=0 if _ALONE.get() else min(self.workers, os.cpu_count() or 1),
            collate_fn=_collate,
            pin_memory=device is not None and device.type == "cuda",
            generator=torch.Generator(),  # or the loader would draw a seed from everyone's generator
        )
        for batch in loader:
            if isinstance(batch, ZooError):
                raise batch
            yield batch

    def _for_test(self, index: int) -> tuple[Tensor, Tensor]:
        return self.view(self.decode(index)), unchanged()

    def decode(self, index: int) -> Tensor:
        """(3, H, W) uint8 of an image of the source, as `training.data.decode.decode` reads it.

        Raises:
            VerificationFailed: The file cannot be decoded; the error names it.
        """
        image = decode(self._content(index), self.source.names[index])
        return F.resize(image, [self.shrink], antialias=True) if self.shrink else image

    def _content(self, index: int) -> bytes:
        try:
            return self.source.read(index)
        except (OSError, ValueError) as error:  # gone, grown or locked since the folder was looked through
            name = self.source.names[index]
            raise cannot_read(name, name, "an image's file", error, "put a sound copy in its place") from None


@dataclass(frozen=True)
class Augment:
    """index -> (image (3, S, S) uint8, how its colours change), by a generator of (seed, epoch, index).

    Attributes:
        files: Whose images, and how they are augmented.
        seed: The recipe's.
        epoch: Counted from 0.
    """

    files: ImageFiles
    seed: int
    epoch: int

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.files.decode(index)
        rng = np.random.default_rng((self.seed, self.epoch, index))
        window = crop_window(image.shape[1], image.shape[2], rng)
        image = F.resized_crop(image, *window, [self.files.view.size] * 2, antialias=True)
        image = image.flip(-1) if rng.random() < 0.5 else image
        return image, draw(rng) if self.files.augment == "robustness" else unchanged()


def crop_window(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A window of 8 % to all of an image at a ratio of 3/4 to 4/3, as torchvision's RandomResizedCrop (Szegedy et al.
    2015, section 6); the largest central window when ten tries do not fit.

    Args:
        height: Of the image, in pixels.
        width: The same.
        rng: Draws the window.

    Returns:
        (top, left, height, width) of the window.
    """
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


@dataclass(frozen=True)
class _Rows:
    """What a DataLoader asks for, one index at a time."""

    labels: Tensor
    one: Callable[[int], tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor] | ZooError:
        try:
            return *self.one(index), self.labels[index]
        except ZooError as error:  # sent as a value: the loader would wrap it in a traceback and lose its fields
            return error


def _collate(items: list) -> Any:
    """A batch of `_Rows`, or the first error among them."""
    return next((item for item in items if isinstance(item, ZooError)), None) or default_collate(items)
