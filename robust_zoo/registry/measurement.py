"""One accuracy that this project measured, with its evidence and with what it is an accuracy under."""

from __future__ import annotations

import re
from dataclasses import dataclass

from robust_zoo.counts import Count
from robust_zoo.threat import ThreatModel

_ENTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,180}__[0-9a-f]{12}")  # as evaluation/entries.py names its files


@dataclass(frozen=True)
class Measurement:
    """One accuracy measured by this project: `correct` of `n` images, with everything needed to repeat it.

    Attributes:
        attack: "none" (clean) or e.g. "pgd-20".
        correct: How many images were classified right.
        n: Of how many.
        data: Which images, in words.
        weights_sha256: Of the file that was measured.
        code: The version that measured.
        norm: What the attack was bounded in, None for clean.
        eps: Its radius in [0, 1] units, None for clean.
        settings: The attack's, in words.
        entry: The name of its evidence: the file in the checkpoint's folder of results/, without its ending. "" where
            it has none, as in a file that was just trained.

    Raises:
        ValueError: An attack without norm and eps, or these without an attack; no count of images; words that are none;
            an entry that is no name of one.
        UsageError: No such norm or radius.
    """

    attack: str
    correct: int
    n: int
    data: str
    weights_sha256: str
    code: str
    norm: str | None = None
    eps: float | None = None
    settings: str = ""
    entry: str = ""

    def __post_init__(self) -> None:
        given = (self.norm is not None, self.eps is not None)
        if given != (self.attack != "none",) * 2:
            raise ValueError(f"a figure of attack {self.attack!r} has norm {self.norm!r} and eps {self.eps!r}")
        if not all(type(number) is int for number in (self.correct, self.n)) or not 0 <= self.correct <= self.n > 0:
            raise ValueError(f"a figure of {self.correct!r} of {self.n!r} images")
        if not all(isinstance(words, str) for words in (self.attack, self.data, self.code, self.settings)):
            raise ValueError(f"a figure whose words are no text: {self}")
        if self.entry and not (isinstance(self.entry, str) and _ENTRY.fullmatch(self.entry)):
            raise ValueError(f"a figure whose evidence is {self.entry!r:.80}")
        _ = self.threat

    @property
    def threat(self) -> ThreatModel | None:
        """What the attack was bounded by, None for clean."""
        return None if self.norm is None or self.eps is None else ThreatModel(self.norm, self.eps)

    @property
    def title(self) -> str:
        """What it is an accuracy under, as text: "clean accuracy", "pgd-20 accuracy at l2 eps 0.5"."""
        return f"{self.attack} accuracy at {self.threat}" if self.threat else "clean accuracy"

    @property
    def digits(self) -> str:
        """The twelve digits that tell the entry from all others; "" where there is none."""
        return self.entry[-12:]

    @property
    def count(self) -> Count:
        """With its interval."""
        return Count(self.correct, self.n)

    @property
    def accuracy(self) -> float:
        """In percent."""
        return self.count.accuracy
