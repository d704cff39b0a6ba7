"""What a transfer is made to: a labelled dataset, split; and what came out of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from robust_zoo.counts import Count
from robust_zoo.errors import UsageError
from robust_zoo.training.data.dataset import Dataset, Images
from robust_zoo.training.data.encoded import EncodedImages
from robust_zoo.training.data.fit import as_dataset
from robust_zoo.training.data.image_files import ImageFiles

METRICS = ("top-1", "mean per-class", "AP")
"""What a figure is, in percent: of all images, the mean over classes, COCO's average precision of boxes."""


@dataclass(frozen=True)
class Target:
    """A dataset to transfer to.

    Attributes:
        name: As figures carry it.
        classes: Their names; labels of every split count them from 0.
        train: The training images.
        val: The official validation split where there is one; else None, and protocols that choose anything hold out
            a part of `train`.
        test: The test images.
        metric: What the field reports, one of METRICS.
        note: What differs from the official dataset, shown with figures.

    Raises:
        UsageError: A split has no images, or labels that `classes` does not have.
    """

    name: str
    classes: tuple[str, ...]
    train: Dataset
    val: Dataset | None
    test: Dataset
    metric: str = "top-1"
    note: str = ""

    def __post_init__(self) -> None:
        for split, data in (("train", self.train), ("val", self.val), ("test", self.test)):
            if data is not None and int(as_dataset(data).labels.max()) >= len(self.classes):
                first = int((data.labels >= len(self.classes)).nonzero()[0])
                raise UsageError(
                    f"{self.name} has {len(self.classes)} classes",
                    source=f"{split} of {self.name}",
                    expected=f"labels 0 to {len(self.classes) - 1}",
                    actual=f"label {int(data.labels[first])} of image {first}",
                    next="name every class, or number the labels 0, 1, 2, ...",
                )

    @property
    def train_and_val(self) -> Dataset:
        """Training and validation images, in this order."""
        return self.train if self.val is None else joined(self.train, self.val)


def joined(first: Dataset, second: Dataset) -> Dataset:
    """Joins two datasets.

    Args:
        first: In memory, or files.
        second: The same kind, of the same classes.

    Returns:
        One dataset, the images of `first` before those of `second`, with the transforms of `first`.
    """
    if isinstance(first, Images) and isinstance(second, Images):
        return Images(torch.cat((first.images, second.images)), torch.cat((first.labels, second.labels)))
    assert isinstance(first, ImageFiles) and isinstance(second, ImageFiles)
    parts = (first, second)
    places = [(part, row) for part, data in enumerate(parts) for row in data.rows]
    sources = (first.source, second.source)
    listed = EncodedImages(
        [sources[part].names[row] for part, row in places],
        [sources[part].sizes[row] for part, row in places],
        torch.cat([data.labels for data in parts]),
        first.source.classes,
        partial(_read, sources, places),
    )
    return replace(first, source=listed, indices=None)


def _read(sources: tuple[EncodedImages, ...], places: list[tuple[int, int]], index: int) -> bytes:
    part, row = places[index]
    return sources[part].read(row)


@dataclass(frozen=True)
class Outcome(Count):
    """One transfer, tested once.

    Attributes:
        correct: Test images classified right.
        n: Test images.
        mean_per_class: Mean over the classes of each one's accuracy, in percent.
        chosen: The hyper-parameters.
        tried: Hyper-parameters with their validation accuracy, in percent.
        details: What else a protocol reports (losses, robust accuracy, quirks), JSON values only.
    """

    mean_per_class: float
    chosen: dict[str, Any] = field(default_factory=dict)
    tried: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def score(predictions: Tensor, labels: Tensor) -> tuple[int, int, float]:
    """Counts what is right.

    Args:
        predictions: (N,) int64.
        labels: (N,) int64.

    Returns:
        Correct ones, N, and the mean over the classes that occur of each one's accuracy, in percent.
    """
    hits = (predictions == labels).double()
    count = torch.bincount(labels).double()
    per_class = torch.bincount(labels, weights=hits)[count > 0] / count[count > 0]
    return int(hits.sum()), len(labels), 100 * float(per_class.mean())
