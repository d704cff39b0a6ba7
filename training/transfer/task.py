"""What a transfer is made to: a labelled dataset, split; and what came out of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from robust_zoo.counts import Count
from robust_zoo.training.data.dataset import Dataset, Images
from robust_zoo.training.data.encoded import EncodedImages
from robust_zoo.training.data.image_files import ImageFiles

METRICS = ("top-1", "mean per-class")


@dataclass(frozen=True)
class Target:
    """A dataset to transfer to. Labels of every split count the `classes` from 0.

    val: the official validation split where there is one; else None, and protocols that choose anything hold out a
    part of `train`. metric: what the field reports. note: what differs from the official dataset, shown with figures.
    """

    name: str
    classes: tuple[str, ...]
    train: Dataset
    val: Dataset | None
    test: Dataset
    metric: str = "top-1"
    note: str = ""

    @property
    def train_and_val(self) -> Dataset:
        return self.train if self.val is None else joined(self.train, self.val)


def joined(first: Dataset, second: Dataset) -> Dataset:
    """One dataset, the images of `first` before those of `second`; both in memory or both files of the same classes."""
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
    """One transfer, tested once. mean_per_class: percent. tried: hyper-parameters with their validation accuracy.

    details: what else a protocol reports (seconds, robust accuracy, quirks), JSON values only.
    """

    mean_per_class: float
    chosen: dict[str, Any] = field(default_factory=dict)
    tried: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def score(predictions: Tensor, labels: Tensor) -> tuple[int, int, float]:
    """Correct ones, n, and the mean over the classes that occur of each one's accuracy, in percent.

    predictions, labels: (N,) int64.
    """
    hits = (predictions == labels).double()
    count = torch.bincount(labels).double()
    per_class = torch.bincount(labels, weights=hits)[count > 0] / count[count > 0]
    return int(hits.sum()), len(labels), 100 * float(per_class.mean())
