"""Accuracies of several backbones under several draws of labels: their mean, and how far it can be off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Crossed:
    """Every backbone under every draw.

    Attributes:
        values: In percent, or in points, [backbones, draws], at least two draws.
    """

    values: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Over backbones and draws."""
        return float(self.values.mean())

    @property
    def error(self) -> float:
        """The mean's standard error, were other backbones trained and other labels drawn.

        Both are random and crossed. The mean squares of their two-way analysis of variance expect, of b backbones and d
        draws, d B + e, b D + e and (what is left) e; the mean varies by B / b + D / d + e / (b d). A part below zero
        counts as zero (Searle, Casella and McCulloch 1992, Variance Components, chapter 4). Of one
        backbone it is over draws alone.
        """
        values = self.values
        backbones, draws = values.shape
        if backbones == 1:
            return float(values.std(ddof=1) / draws**0.5)
        rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
        by_backbone, by_draw = draws * rows.var(ddof=1), backbones * columns.var(ddof=1)
        left = ((values - rows - columns + values.mean()) ** 2).sum() / ((backbones - 1) * (draws - 1))
        return float(((max(by_backbone, left) + max(by_draw, left) - left) / values.size) ** 0.5)

    def __sub__(self, other: Crossed) -> Crossed:
        """Draw by draw; backbones were trained apart, so which stands beside which does not matter."""
        return Crossed(self.values - other.values)

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.error:.1f}"
