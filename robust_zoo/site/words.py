"""Words of pages: what states of weights mean, who has a figure, threat models as headings. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from robust_zoo.registry.families import Preprocessing
from robust_zoo.registry.robustness import figures
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS

# What describe.promise says -> what it means.
STATES = {
    "bundled": "comes with the package",
    "pinned": "the row has its sha256; whatever source serves it, other bytes are refused",
    "hub-declared": "the sha256 that the hub records at the pinned revision must match",
    "unverified": "no hash is public: taken only when asked for, then noted, and other bytes later are an alarm",
}
KINDS = {"classifier": "classifier", "encoder": "image encoder"}


def radius_key(text: str) -> tuple[bool, float]:
    """Sorts written radii: numbers, then counts of 1/255, each by value."""
    count, slash, _ = text.partition("/")
    return bool(slash), float(count)


def letters(checkpoints: Iterable[Checkpoint]) -> dict[str, str]:
    """A letter for each author of reported figures, those with most figures first.

    Args:
        checkpoints: Whose figures.

    Returns:
        Author -> "a", "b", ...
    """
    counts: dict[str, int] = {}
    for checkpoint in checkpoints:
        for figure in figures(checkpoint):
            if not figure.measured:
                counts[figure.by] = counts.get(figure.by, 0) + 1
    ordered = sorted(counts, key=lambda by: (-counts[by], by))
    return {by: chr(ord("a") + i) if i < 26 else f"a{i}" for i, by in enumerate(ordered)}


def norm_title(norm: str) -> str:
    """A norm in sentences: "Linf"."""
    return NORMS[norm].label


_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of every first network for ImageNet, and of timm's default


def statistics_of(preprocessing: Preprocessing) -> str:
    """What a network's images are normalised with."""
    mean, std = preprocessing.mean, preprocessing.std
    if (mean, std) == _IMAGENET:
        return "ImageNet's mean and std"
    return f"mean {', '.join(map(str, mean))}; std {', '.join(map(str, std))}"
