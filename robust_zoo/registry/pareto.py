"""Clean against robust accuracy against size: who is on the front, among figures that may be compared. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robust_zoo.registry.comparison import Kind, by_kind
from robust_zoo.registry.robustness import STRONGEST, Figure, figures
from robust_zoo.registry.rows import Checkpoint


@dataclass(frozen=True)
class Rival:
    """A checkpoint in a field.

    Attributes:
        checkpoint: Which.
        clean: Its clean accuracy, by whoever has the other.
        robust: Its robust accuracy, of the field's kind.
        front: Whether no rival of at most as many parameters is at least as good in both accuracies, and better in one
            of the three.
    """

    checkpoint: Checkpoint
    clean: Figure
    robust: Figure
    front: bool = False


def fields(checkpoints: Sequence[Checkpoint], least: int = 3) -> dict[Kind, tuple[Rival, ...]]:
    """Robust accuracies under AutoAttack that may be compared, each kind by itself.

    A kind is one of registry/comparison.py: one dataset, threat model, number of images and size of images. Figures are
    taken as they are: two within each other's interval are not equal here.

    Args:
        checkpoints: Of whom.
        least: Kinds of fewer rivals are left out.

    Returns:
        Kind -> its rivals from the most accurate without an attack, kinds of most rivals first.
    """
    kinds: dict[Kind, list[Rival]] = {}
    for checkpoint in checkpoints:
        clean = {figure.by: figure for figure in reversed(figures(checkpoint)) if figure.attack == "none"}
        for kind, figure in by_kind(checkpoint).items():
            if figure.attack == STRONGEST and figure.by in clean:
                kinds.setdefault(kind, []).append(Rival(checkpoint, clean[figure.by], figure))
    large = sorted((item for item in kinds.items() if len(item[1]) >= least), key=lambda item: -len(item[1]))
    return {kind: _judged(rivals) for kind, rivals in large}


def _judged(rivals: Sequence[Rival]) -> tuple[Rival, ...]:
    ordered = sorted(rivals, key=lambda r: (-r.clean.value, -r.robust.value, r.checkpoint.name))
    return tuple(replace(rival, front=not any(_beats(other, rival) for other in rivals)) for rival in ordered)


def _beats(one: Rival, other: Rival) -> bool:
    a, b = _merits(one), _merits(other)
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def _merits(rival: Rival) -> tuple[float, ...]:
    return rival.clean.value, rival.robust.value, -rival.checkpoint.network.parameters
