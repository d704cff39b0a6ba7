"""Figures of a transfer report, as the paper draws them; each is a row of `PICTURES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from robust_zoo.threat import written_eps
from robust_zoo.training.plotting import figure, label
from robust_zoo.training.transfer.report import Figure, by_protocol

Lines = dict[str, list[tuple[float, float, float]]]  # (x, y, error) by label


@dataclass(frozen=True)
class Picture:
    """A way to draw the figures of one dataset and protocol.

    Attributes:
        name: Of the picture.
        x: Label of the x axis.
        y: Label of the y axis.
        lines: Of the figures; the points of each line by its label.
        needs: What it takes to draw anything.
        ticks: x counts radii, evenly spaced.
    """

    name: str
    x: str
    y: str
    lines: Callable[[Sequence[Figure]], Lines]
    needs: str = "a figure"
    ticks: bool = False


def _radii(found: Sequence[Figure]) -> list[str]:
    """The radii of all figures in order, L2 before Linf, as words."""
    return [f"{norm} {written_eps(norm, eps)}" for norm, eps in sorted({(f.model.norm, f.model.eps) for f in found})]


def _error(f: Figure) -> float:
    return f.error if f.error is not None else (f.interval[1] - f.interval[0]) / 2


def _against_eps(found: Sequence[Figure]) -> Lines:
    places = {text: float(i) for i, text in enumerate(_radii(found))}
    lines: Lines = {}
    for f in sorted(found, key=lambda f: (f.model.architecture, f.model.norm, f.model.eps)):
        x = places[f"{f.model.norm} {written_eps(f.model.norm, f.model.eps)}"]
        lines.setdefault(f"{f.model.architecture}, {f.model.norm}", []).append((x, f.value, _error(f)))
    return lines


def _against_source(found: Sequence[Figure]) -> Lines:
    """A line for each radius: what better source accuracy is worth among models of equal robustness."""
    known = [(f.model.norm, f.model.eps, clean, f) for f in found if (clean := f.model.clean_accuracy) is not None]
    lines: Lines = {}
    for norm, eps, clean, f in sorted(known, key=lambda one: one[:3]):
        lines.setdefault(f"{norm} eps {written_eps(norm, eps)}", []).append((clean, f.value, _error(f)))
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
            point = (own[0].model.approximate_mb, top.value - standard[0].value, _error(top) + _error(standard[0]))
            lines[name] = [point]
    return lines


PICTURES = (
    Picture("accuracy against eps", "radius the source model was trained for", "accuracy, %", _against_eps, ticks=True),
    Picture(
        "transfer against source accuracy", "source accuracy, %", "accuracy, %", _against_source, "a source accuracy"
    ),
    Picture(
        "gain of robust over standard",
        "size of the network, MB",
        "percentage points",
        _gains,
        "a standard and a robust model",
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
        draw(protocol, members, files[-1])
    return files


def draw(protocol: str, found: Sequence[Figure], out: Path, *, only: int = len(PICTURES)) -> None:
    """Draws a row for each dataset and a column for each of the first PICTURES.

    Args:
        protocol: The title.
        found: Figures of one protocol, those of one dataset together.
        out: The picture's file.
        only: How many of PICTURES.

    Raises:
        UsageError: matplotlib is not installed.
    """
    datasets = [(name, list(members)) for name, members in groupby(found, key=lambda f: f.dataset)]
    canvas = figure(6 * only, 3.8 * len(datasets))
    canvas.suptitle(label(protocol), fontsize=9)
    grid: Any = canvas.subplots(len(datasets), only, squeeze=False)
    for axes_of_one, (dataset, members) in zip(grid, datasets, strict=True):
        for axes, picture in zip(axes_of_one, PICTURES[:only], strict=True):
            _panel(axes, picture, members)
            axes.set_title(label(f"{dataset}: {picture.name}"), fontsize=9)
    canvas.savefig(out, dpi=110)


def _panel(axes: Any, picture: Picture, found: Sequence[Figure]) -> None:
    lines = picture.lines(found)
    for name, points in lines.items():
        x, y, error = zip(*points, strict=True)
        axes.errorbar(x, y, yerr=error, marker="o", ms=4, capsize=2, label=label(name))
    if picture.ticks:
        radii = _radii(found)
        axes.set_xticks(range(len(radii)), radii, rotation=60, fontsize=7)
    axes.set(xlabel=picture.x, ylabel=picture.y)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=7)
    else:
        axes.text(0.5, 0.5, f"needs {picture.needs}", ha="center", transform=axes.transAxes, fontsize=8)
