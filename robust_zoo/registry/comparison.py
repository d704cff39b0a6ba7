"""Several checkpoints side by side: which of their figures may be compared, and whether they can be told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from robust_zoo.counts import PairedCount
from robust_zoo.registry.robustness import Figure, Under, figures
from robust_zoo.registry.rows import Checkpoint

ALONE, UNKNOWN = "alone", "number of images not said"
Paired = Callable[[int, int, Figure], PairedCount | None]
Kind = tuple[Any, ...]


@dataclass(frozen=True)
class Line:
    """Accuracies of one kind: under one attack at one threat model, on as many images of one size.

    Attributes:
        figures: Of each checkpoint, None where it has none of the kind.
        word: ALONE where only one has, so that there is nothing to compare it with; UNKNOWN where chance cannot be
            judged; else "", and `pairs` says which can be told apart.
        pairs: For each two that have one, by their places: (first, second, count), None where only intervals are known.
        apart: For each of `pairs`, whether the two can be told apart.
    """

    figures: tuple[Figure | None, ...]
    word: str = ""
    pairs: tuple[tuple[int, int, PairedCount | None], ...] = ()
    apart: tuple[bool, ...] = ()

    @property
    def kind(self) -> Figure:
        """Any of its figures: attack, norm, radius, number and size of images are the same in all."""
        return next(figure for figure in self.figures if figure)


def compare(checkpoints: Sequence[Checkpoint], paired: Paired = lambda *_: None) -> list[Line]:
    """What is known of several checkpoints, a line for each kind of figure.

    Clean accuracies, then robust ones at the threat models at which two checkpoints or more have some. Figures of
    different datasets, attacks, radii, numbers or sizes of images are never in one line, nor is one measured here with
    one that was reported.

    Args:
        checkpoints: Two or more.
        paired: Of two places and a figure of theirs: the images that only one gets right, from the fates of the same
            images; None where these are not known.

    Returns:
        The lines: clean first, then by threat model, AutoAttack first, those on most images first.
    """
    tables = [by_kind(checkpoint) for checkpoint in checkpoints]
    threats = [{under(figure) for figure in table.values()} for table in tables]
    shared = {None}.union(*(a & b for a, b in combinations(threats, 2)))  # None: clean accuracy
    lines = [kind for kind, figure in in_order(tables).items() if under(figure) in shared]
    return [_line([table.get(kind) for table in tables], paired) for kind in lines]


def by_kind(checkpoint: Checkpoint) -> dict[Kind, Figure]:
    """What is known of a checkpoint, by what must be the same in a line.

    Args:
        checkpoint: Whose.

    Returns:
        A key for each kind -> the figure. A second figure of a kind, of another reporter, has a kind of its own.
    """
    table: dict[Kind, Figure] = {}
    for figure in figures(checkpoint):
        kind = (checkpoint.dataset, figure.attack, under(figure), figure.n, figure.size, figure.images)
        table[(*kind, sum(other[:-1] == kind for other in table))] = figure
    return table


def in_order(tables: Sequence[Mapping[Kind, Figure]]) -> dict[Kind, Figure]:
    """The kinds of several checkpoints, sorted as lines are.

    Args:
        tables: Of `by_kind`.

    Returns:
        Each kind, with a figure of it.
    """
    kinds = {kind: figure for table in reversed(tables) for kind, figure in table.items()}
    return dict(sorted(kinds.items(), key=lambda item: (_order(item[1]), item[0][-1])))


def under(figure: Figure) -> Under | None:
    """The threat model of a figure's attack; None for clean accuracy."""
    return None if figure.eps is None else (figure.norm, round(figure.eps, 9))


def _order(figure: Figure) -> tuple[object, ...]:
    return (
        figure.norm,
        figure.eps or 0,
        figure.bound,
        figure.attack,
        figure.size or 0,
        -(figure.n or 0),
        figure.images,
    )


def _line(found: list[Figure | None], paired: Paired) -> Line:
    have = [(place, figure) for place, figure in enumerate(found) if figure]
    if len(have) < 2:
        return Line(tuple(found), ALONE)
    if not have[0][1].n:
        return Line(tuple(found), UNKNOWN)
    pairs, apart = [], []
    for (i, a), (j, b) in combinations(have, 2):
        count = paired(i, j, a)
        pairs.append((i, j, count))
        apart.append(count.p < 0.05 if count else not _overlap(a, b))
    return Line(tuple(found), pairs=tuple(pairs), apart=tuple(apart))


def _overlap(a: Figure, b: Figure) -> bool:
    if a.overall is None or b.overall is None:
        return True
    return a.overall[0] <= b.overall[1] and b.overall[0] <= a.overall[1]
