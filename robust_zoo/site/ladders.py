"""Ladders: checkpoints that differ in the radius they were trained for alone. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robust_zoo.registry.curves import Curve, Point
from robust_zoo.registry.lookup import natural_key
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS

_DRAWN = 4  # rungs that make a curve worth drawing


@dataclass(frozen=True)
class Ladder:
    """Checkpoints of one architecture, collection and dataset, by radius of one norm; 0 is a rung of every norm.

    Attributes:
        norm: A name of NORMS.
        rungs: From the lowest radius.
    """

    norm: str
    rungs: tuple[Checkpoint, ...]

    @property
    def label(self) -> str:
        """What its checkpoints share: "resnet50", or with the variant "resnet50 fare"."""
        first = self.rungs[0]
        return " ".join(filter(None, [first.architecture, first.variant]))

    @property
    def curve(self) -> Curve:
        """Clean accuracy over the radius of training."""
        points = [Point(rung.eps, rung.clean_accuracy) for rung in self.rungs if rung.clean_accuracy is not None]
        return Curve(self.label, tuple(points), measured=not self.rungs[0].reported_by, joined=True)


@dataclass(frozen=True)
class Table:
    """Ladders of one collection and norm.

    Attributes:
        title: The collection and the norm.
        ladders: The lines, those with most rungs first.
        radii: The columns.
    """

    title: str
    ladders: tuple[Ladder, ...]
    radii: tuple[float, ...]

    @property
    def norm(self) -> str:
        """Of all its ladders."""
        return self.ladders[0].norm

    @property
    def written(self) -> list[str]:
        """The columns' names."""
        return [NORMS[self.norm].spell(radius) for radius in self.radii]

    @property
    def lines(self) -> list[tuple[str, list[Checkpoint | None]]]:
        """Each ladder's name, and its checkpoints by column."""
        rungs = [(ladder.label, {rung.eps: rung for rung in ladder.rungs}) for ladder in self.ladders]
        return [(label, [at.get(radius) for radius in self.radii]) for label, at in rungs]

    @property
    def drawn(self) -> list[Curve]:
        """Curves of the ladders that have rungs enough."""
        return [ladder.curve for ladder in self.ladders if len(ladder.curve.points) >= _DRAWN]


def ladders(checkpoints: Sequence[Checkpoint]) -> list[Ladder]:
    """All ladders of two rungs or more.

    Args:
        checkpoints: All of them.

    Returns:
        The ladders, in the checkpoints' order.
    """
    families: dict[tuple[str, ...], list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        key = (checkpoint.architecture, checkpoint.collection.name, checkpoint.dataset, checkpoint.variant)
        families.setdefault(key, []).append(checkpoint)
    found = []
    for family in families.values():
        for norm in NORMS:
            rungs = sorted((c for c in family if not c.eps or c.norm == norm), key=lambda c: c.eps)
            if len(rungs) > 1:
                found.append(Ladder(norm, tuple(rungs)))
    return found


def tables(found: Sequence[Ladder]) -> list[Table]:
    """Ladders as tables, a table for each collection and norm.

    Args:
        found: Of `ladders`.

    Returns:
        The tables, those of most checkpoints first; encoders, which have no accuracy, are left out.
    """
    groups: dict[tuple[str, str], list[Ladder]] = {}
    for ladder in found:
        if any(rung.clean_accuracy is not None for rung in ladder.rungs):
            groups.setdefault((ladder.rungs[0].collection.title, ladder.norm), []).append(ladder)
    made = []
    for (title, norm), group in groups.items():
        radii = tuple(sorted({rung.eps for ladder in group for rung in ladder.rungs}))
        ordered = sorted(group, key=lambda ladder: (-len(ladder.rungs), natural_key(ladder.label)))
        made.append(Table(f"{title}, {NORMS[norm].label}", tuple(ordered), radii))
    return sorted(made, key=lambda table: -sum(len(ladder.rungs) for ladder in table.ladders))
