"""Intervals for counted accuracies."""

from __future__ import annotations

import math


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % score interval of `correct` of `n`, in percent (Wilson 1927)."""
    z, p = 1.959964, correct / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 100 / (1 + z * z / n)
    return max(0.0, (centre - spread) * scale), min(100.0, (centre + spread) * scale)
