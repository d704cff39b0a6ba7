"""A checkpoint's figures as curves over the radius of an attack: what charts are drawn of. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from robust_zoo.registry.robustness import STRONGEST, Figure, figures
from robust_zoo.registry.rows import Checkpoint


@dataclass(frozen=True)
class Point:
    """A figure in a chart.

    Attributes:
        x: The attack's radius in [0, 1] image units, 0 for no attack.
        y: Accuracy in percent.
        interval: 95 %, in percent; None where it is not known.
    """

    x: float
    y: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Curve:
    """Figures of one attack by one author.

    Attributes:
        label: What it is, in words.
        points: By radius.
        measured: Whether this project measured them.
        joined: Whether a line through them means something: one attack on the same images at several radii.
    """

    label: str
    points: tuple[Point, ...]
    measured: bool
    joined: bool


def eps_curves(checkpoint: Checkpoint, norm: str) -> tuple[Curve, ...]:
    """What is known of a checkpoint's accuracy at radii of a norm.

    Figures of one attack, on as many images, by one author at two radii or more are a line, which begins at that
    author's clean accuracy; AutoAttack's are shown in any number. Where an attack has several lines, the one with most
    radii is shown.

    Args:
        checkpoint: Whose.
        norm: A name of NORMS.

    Returns:
        The curves, those with lines first; none where no robust accuracy is known.
    """
    found = figures(checkpoint)
    groups: dict[tuple[str, str, int | None, str], list[Figure]] = {}
    for figure in found:
        if figure.norm == norm and figure.eps and figure.size is None:
            groups.setdefault((figure.by, figure.attack, figure.n, figure.images), []).append(figure)
    best: dict[tuple[str, str], list[Figure]] = {}
    for (by, attack, *_), group in groups.items():
        radii = len({figure.eps for figure in group})
        if (radii > 1 or attack == STRONGEST) and radii > len(best.get((by, attack), [])):
            best[by, attack] = sorted(group, key=lambda figure: figure.eps or 0)
    ordered = sorted(best.values(), key=lambda group: -len(group))
    return tuple(_curve(group, _clean(found, group[0])) for group in ordered)


def _clean(found: tuple[Figure, ...], like: Figure) -> Figure | None:
    """The clean accuracy by the same author: on the same images where it is known, else on others of the dataset."""
    clean = [figure for figure in found if figure.attack == "none" and figure.by == like.by and figure.size is None]
    return next((figure for figure in clean if figure.images == like.images), clean[0] if clean else None)


def _curve(group: list[Figure], clean: Figure | None) -> Curve:
    first = group[0]
    joined = len(group) > 1
    images = f" on {first.n:,} images" if first.n else ""
    label = f"{first.attack_title}{images}, {'measured here' if first.measured else 'reported'}"
    points = [Point(figure.eps or 0.0, figure.value, figure.overall) for figure in group]
    if clean and (joined or not first.measured):
        points.insert(0, Point(0.0, clean.value, clean.overall))
    return Curve(label, tuple(points), first.measured, joined)
