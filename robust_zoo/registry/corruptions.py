"""What a checkpoint makes of corrupted images: noise, blur, weather, what is done to files. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robust_zoo.counts import Count


@dataclass(frozen=True)
class Corruptions:
    """Accuracies under corruptions, measured here on the same images.

    Attributes:
        data: Which images.
        n: How many.
        correct: Each corruption, with how many were right at severities 1 to 5.
        interval: 95 % of `mean`, in percent.
        weights_sha256: Of the file that was measured.
        code: The version that measured.
        entry: Its evidence, in results/NAME/tables.
        clean: How many were right without any; None where that is not known.
        mce: Mean corruption error, in percent of AlexNet's: of ImageNet-C alone.

    Raises:
        ValueError: Counts of other images, or not five of them.
    """

    data: str
    n: int
    correct: tuple[tuple[str, tuple[int, ...]], ...]
    interval: tuple[float, float]
    weights_sha256: str
    code: str
    entry: str
    clean: int | None = None
    mce: float | None = None

    def __post_init__(self) -> None:
        counts = [count for _, severities in self.correct for count in severities]
        counts += [] if self.clean is None else [self.clean]
        if not self.correct or not all(type(count) is int and 0 <= count <= self.n for count in counts):
            raise ValueError(f"corruptions of {self.n!r} images with other counts than of them")
        if any(len(severities) != 5 for _, severities in self.correct):
            raise ValueError("corruptions at other severities than five")

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Corruptions:
        """A row of measured.json."""
        if row["table"] != "corruptions":
            raise ValueError(f"a table of {row['table']!r:.80}")
        fixed: dict[str, Any] = {
            "correct": tuple((kind, tuple(counts)) for kind, counts in row["correct"].items()),
            "interval": tuple(row["interval"]),
        }
        return cls(**{key: value for key, value in row.items() if key != "table"} | fixed)

    @property
    def by_kind(self) -> dict[str, float]:
        """Means over severities, in percent."""
        return {kind: 100 * sum(counts) / (len(counts) * self.n) for kind, counts in self.correct}

    @property
    def mean(self) -> float:
        """Over corruptions and severities, in percent."""
        return sum(self.by_kind.values()) / len(self.correct)

    @property
    def clean_accuracy(self) -> float | None:
        """Without any corruption, in percent."""
        return None if self.clean is None else Count(self.clean, self.n).accuracy

    def tied(self, other: Corruptions) -> bool:
        """Whether the intervals leave it open which mean is higher."""
        halves = [(high - low) / 2 for low, high in (self.interval, other.interval)]
        return abs(self.mean - other.mean) <= sum(half**2 for half in halves) ** 0.5
