"""So many of so many: an accuracy as the count it is, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z = 1.959964  # of a two-sided 95 % interval


@dataclass(frozen=True)
class Count:
    """`correct` of `n` images; percentages are derived, never stored.

    Attributes:
        correct: How many were right.
        n: Of how many, at least 1.
    """

    correct: int
    n: int

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100 * self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % score interval of the accuracy, in percent (Wilson 1927)."""
        p, n = self.correct / self.n, self.n
        centre, spread = p + _Z * _Z / (2 * n), _Z * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
        scale = 100 / (1 + _Z * _Z / n)
        return max(0.0, (centre - spread) * scale), min(100.0, (centre + spread) * scale)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.accuracy:.2f} % ({self.correct} of {self.n}, 95 % interval {low:.1f}-{high:.1f})"


def sign_test(wins: int, losses: int) -> float:
    """How likely so uneven a split is where both outcomes are equally likely: McNemar's test, exact, two-sided.

    Args:
        wins: Images that one model gets right and the other wrong.
        losses: The reverse.

    Returns:
        p, in (0, 1]; 1 where no image tells the two apart.

    Example:
        >>> sign_test(0, 5)
        0.0625
    """
    n, term, total = wins + losses, 1, 0
    for k in range(min(wins, losses) + 1):
        total += term  # n over k
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * total / 2**n)
