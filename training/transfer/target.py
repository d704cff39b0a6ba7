"""What a transfer is made to: a labelled dataset, split; and what came out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robust_zoo.stats import wilson_interval
from robust_zoo.training.data import Dataset

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


@dataclass(frozen=True)
class Outcome:
    """One transfer, tested once. mean_per_class: percent. tried: hyper-parameters with their validation accuracy.

    details: what else a protocol reports (seconds, robust accuracy, quirks), JSON values only.
    """

    correct: int
    n: int
    mean_per_class: float
    chosen: dict[str, Any] = field(default_factory=dict)
    tried: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Top-1, in percent."""
        return 100 * self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval of the top-1 accuracy, in percent."""
        return wilson_interval(self.correct, self.n)


def score(predictions: Tensor, labels: Tensor) -> tuple[int, int, float]:
    """Correct ones, n, and the mean over the classes that occur of each one's accuracy, in percent.

    predictions, labels: (N,) int64.
    """
    hits = (predictions == labels).double()
    count = torch.bincount(labels).double()
    per_class = torch.bincount(labels, weights=hits)[count > 0] / count[count > 0]
    return int(hits.sum()), len(labels), 100 * float(per_class.mean())
