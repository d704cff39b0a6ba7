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


@dataclass(frozen=True)
class MeanCount:
    """Images that were classified several times each, under several conditions: how often on average they were right.

    Attributes:
        total: How often all of them were right, together.
        squares: The sum over images of how often each was right, squared: what the interval is of.
        times: How often each was classified, at least once.
        n: Of how many images, at least 1.
    """

    total: int
    squares: int
    times: int
    n: int

    @property
    def accuracy(self) -> float:
        """The mean over conditions, in percent."""
        return 100 * self.total / (self.times * self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the mean over images, in percent: conditions share the images, so that more of them prove no more."""
        if self.n == 1:
            return 0.0, 100.0
        variance = (self.squares - self.total**2 / self.n) / (self.n - 1)
        half = 100 * _Z * math.sqrt(max(0.0, variance) / self.n) / self.times
        return max(0.0, self.accuracy - half), min(100.0, self.accuracy + half)


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


@dataclass(frozen=True)
class PairedCount:
    """Two models on the same images: only the images that one gets right and the other wrong tell them apart.

    Attributes:
        wins: Images that only the first gets right.
        losses: Images that only the second gets right.
        n: Of how many, at least `wins + losses`.
    """

    wins: int
    losses: int
    n: int

    @property
    def p(self) -> float:
        """Of `sign_test`: how likely so uneven a split is where both are equally good."""
        return sign_test(self.wins, self.losses)

    @property
    def difference(self) -> float:
        """Accuracy of the first less that of the second, in percentage points."""
        return 100 * (self.wins - self.losses) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % score interval of `difference`, in percentage points (Tango 1998, Statistics in Medicine 17, 891)."""
        return -100 * _largest(self.losses, self.wins, self.n), 100 * _largest(self.wins, self.losses, self.n)


def _largest(wins: int, losses: int, n: int) -> float:
    """The largest difference of two paired proportions, in [-1, 1], that the score test does not reject, by bisection.

    Under a difference d the likeliest share of images that only the second gets right is q, the larger root of
    2 n q^2 + linear q - losses d (1 - d) = 0, and the difference that is seen has the variance (2 q + d - d^2) / n.
    """
    low, high = (wins - losses) / n, 1.0
    for _ in range(52):  # to the last bit of a double
        d = (low + high) / 2
        linear = (2 * n - wins + losses) * d - wins - losses
        q = (math.sqrt(max(0.0, linear * linear + 8 * n * losses * d * (1 - d))) - linear) / (4 * n)
        accepted = n * d - (wins - losses) <= _Z * math.sqrt(max(0.0, n * (2 * q + d - d * d)))
        low, high = (d, high) if accepted else (low, d)
    return low
