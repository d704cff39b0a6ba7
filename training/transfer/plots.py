"""Figures of a transfer report, as the paper draws them; each is a `Column`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from robust_zoo.text import several
from robust_zoo.threat import NORMS
from robust_zoo.training.figures.style import STEPS, Look, Point, curve, label, legend, looks, picture, radius, title
from robust_zoo.training.transfer.report import Figure, by_protocol, error_of

Lines = dict[str, list[Point]]  # by label


@dataclass(frozen=True)
class Column:
    """A way to draw the figures of one dataset and protocol.

    Attributes:
        name: Of the picture.
        x: Label of the x axis.
        y: Label of the y axis.
        lines: Of the figures; the points of each line by its label.
        needs: What it takes to draw anything.
        fewest: Points that say something: a gain is seen where there is another.
        radii: (0, 1, ...) of x in words, None where x is a number of its own.
    """

    name: str
    x: str
    y: str
    lines: Callable[[Sequence[Figure]], Lines]
    needs: str
    fewest: int = 1
    radii: tuple[str, ...] | None = None

    def drawn(self, found: Sequence[Figure]) -> Lines:
        """Its lines, none where they would be too few points."""
        lines = self.lines(found)
        return lines if sum(map(len, lines.values())) >= self.fewest else {}


def _point(x: float, f: Figure) -> Point:
    low, high = f.interval if f.interval and f.error is None else (f.value - error_of(f), f.value + error_of(f))
    return Point(x, f.value, low, high)


def ladders(found: Sequence[Figure]) -> list[Column]:
    """Accuracy against radius, a column for each norm that a model was trained in.

    Args:
        found: Figures.

    Returns:
        Columns, in the norms' order; radii are evenly spaced, as they span two decades.
    """
    norms = {f.model.norm for f in found if f.model.eps} or {f.model.norm for f in found}
    return [_ladder(norm, found) for norm in NORMS if norm in norms]


def _ladder(norm: str, found: Sequence[Figure]) -> Column:
    """A standard model, of radius 0, is at the beginning in every norm."""
    row, radii = NORMS[norm], sorted({f.model.eps for f in found if f.model.norm == norm or f.model.eps == 0})

    def lines(some: Sequence[Figure]) -> Lines:
        points: Lines = {}
        for f in sorted(some, key=lambda f: (f.model.architecture, f.model.eps)):
            if f.model.norm == norm or f.model.eps == 0:
                points.setdefault(f.model.architecture, []).append(_point(radii.index(f.model.eps), f))
        return points

    words = tuple(row.spell(eps).partition("/")[0] for eps in radii)
    return Column(
        f"accuracy by {row.label} radius",
        radius(norm, "the source was trained for"),
        "accuracy, %",
        lines,
        f"a model trained in {row.label}",
        radii=words,
    )


def _against_source(found: Sequence[Figure]) -> Lines:
    """A line for each radius: what better source accuracy is worth among models of equal robustness."""
    known = [(f.model.norm, f.model.eps, clean, f) for f in found if (clean := f.model.clean_accuracy) is not None]
    lines: Lines = {}
    for norm, eps, clean, f in sorted(known, key=lambda one: one[:3]):
        words = f"{NORMS[norm].label} radius {NORMS[norm].spell(eps)}" if eps else "standard"
        lines.setdefault(words, []).append(_point(clean, f))
    return lines


def unmeasured(found: Sequence[Figure]) -> list[str]:
    """The models whose source accuracy no cell knows: they are not in the picture against it.

    Args:
        found: Figures.

    Returns:
        Their names, sorted.
    """
    return sorted({f.model.name for f in found if f.model.clean_accuracy is None})


def _gains(found: Sequence[Figure]) -> Lines:
    """For each architecture, its best robust model's gain over its standard one against the network's size."""
    lines: Lines = {}
    for name, members in groupby(sorted(found, key=lambda f: f.model.architecture), key=lambda f: f.model.architecture):
        own = list(members)
        standard = [f for f in own if f.model.eps == 0]
        robust = [f for f in own if f.model.eps > 0]
        if standard and robust:
            top = max(robust, key=lambda f: f.value)
            gain, error = top.value - standard[0].value, error_of(top) + error_of(standard[0])
            lines[name] = [Point(own[0].model.approximate_mb, gain, gain - error, gain + error)]
    return lines


COLUMNS = (
    Column(
        "transfer against source accuracy",
        "source accuracy, %",
        "accuracy, %",
        _against_source,
        "two models whose source accuracy is known",
        2,
    ),
    Column(
        "gain of the best robust model over the standard one",
        "size of the network, MB",
        "percentage points",
        _gains,
        "a standard and a robust model of two architectures",
        2,
    ),
)


def draw_all(found: Sequence[Figure], out: Path) -> list[Path]:
    """Draws a file for each protocol.

    Args:
        found: Figures, those of one protocol together.
        out: The first protocol's file; the others lie beside it, with a number in their names.

    Returns:
        The files.

    Raises:
        UsageError: matplotlib is not installed.
    """
    files = []
    for number, (protocol, members) in enumerate(by_protocol(found)):
        files.append(out if not number else out.with_stem(f"{out.stem}-{number + 1}"))
        columns = [_of_metric(column, members[0].metric) for column in (*ladders(members), *COLUMNS)]
        draw(f"Transfer: {protocol}", members, files[-1], columns)
    return files


def _of_metric(column: Column, metric: str) -> Column:
    """A column of accuracies, or the same of average precisions."""
    if metric != "AP":
        return column
    y = "AP, %" if column.y == "accuracy, %" else column.y
    return replace(column, name=column.name.replace("accuracy by", "AP by"), y=y)


def draw(name: str, found: Sequence[Figure], out: Path, columns: Sequence[Column]) -> None:
    """Draws a row for each dataset; a column that no dataset has the models for is left out.

    Args:
        name: The title.
        found: Figures of one protocol, those of one dataset together.
        out: The picture's file.
        columns: What to draw of each dataset.

    Raises:
        UsageError: matplotlib is not installed.
    """
    datasets = [(name, list(members)) for name, members in groupby(found, key=lambda f: f.dataset)]
    columns = [column for column in columns if any(column.drawn(members) for _, members in datasets)]
    with picture(out, max(7.5, 5.2 * len(columns)), 0.8 + 3.4 * len(datasets)) as canvas:
        grid: Any = canvas.subplots(len(datasets), len(columns), squeeze=False)
        groups = _meaning(columns, [members for _, members in datasets])
        look_of = {words: how for group in groups for words, how in group.items()}
        for axes_of_one, (dataset, members) in zip(grid, datasets, strict=True):
            first: dict[str, Any] = {}  # of a row's panels by what their y axis is
            for axes, column in zip(axes_of_one, columns, strict=True):
                if first.setdefault(column.y, axes) is not axes:
                    axes.sharey(first[column.y])
                _panel(axes, column, members, look_of)
                axes.set_title(label(f"{dataset}: {column.name}"))
        title(canvas, name, f"{_bars(found)}Radii are evenly spaced.")
        legend(canvas, *groups)


def _meaning(columns: Sequence[Column], members: Sequence[Sequence[Figure]]) -> list[dict[str, Look]]:
    """A look for each line's label, the same in all panels and no other label's; a group of what each column adds."""
    groups: list[dict[str, Look]] = []
    known: list[str] = []
    for column in columns:
        new = [*dict.fromkeys(w for some in members for w in column.drawn(some) if w not in known)]
        groups += [looks(new, len(known))] if new else []
        known += new
    return groups


def _bars(found: Sequence[Figure]) -> str:
    """What the bars of figures are, as a sentence; "" where they have none."""
    seeds = {f"standard error over {f.seeds} seeds" for f in found if f.error is not None}
    images = {f"95 % interval of {several(f.n, 'image')}" for f in found if f.error is None and f.interval}
    return f"Bars: {', '.join(sorted(seeds | images))}. " if seeds | images else ""


def _panel(axes: Any, column: Column, found: Sequence[Figure], meaning: dict[str, Look]) -> None:
    lines = column.drawn(found)
    for words, points in lines.items():
        curve(axes, points, words, meaning[words])
    if column.radii:
        axes.set_xticks(range(len(column.radii)), column.radii)
    else:
        axes.locator_params(axis="x", steps=STEPS)
    axes.locator_params(axis="y", steps=STEPS)
    axes.set(xlabel=column.x, ylabel=column.y)
    if not lines:
        axes.text(0.5, 0.5, f"needs {column.needs}", ha="center", transform=axes.transAxes)
