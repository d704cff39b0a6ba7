"""Cells of shrunk targets as tables and figures: does the best radius change with the target's grain?

Source: Salman et al. 2020, section 4.3, who shrank every target to 32 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_zoo.errors import UsageError
from robust_zoo.text import markdown as cell
from robust_zoo.threat import NORMS
from robust_zoo.training.figures.style import STEPS, Point, curve, legend, looks, picture, radius, title
from robust_zoo.training.transfer.report import Figure, error_of, figures, value_text


@dataclass(frozen=True)
class Grain:
    """One dataset under one protocol, by models that differ in their radius alone.

    Attributes:
        protocol: With all its settings but `shrink`.
        dataset: The target's name.
        family: What the models' names begin with.
        norm: That they were trained in; a standard model is one of every norm.
        sizes: Shorter side that images were brought to first, 0 for none -> radius -> figure.
    """

    protocol: str
    dataset: str
    family: str
    norm: str
    sizes: dict[int, dict[float, Figure]]

    @property
    def radii(self) -> list[float]:
        """Of all its models."""
        return sorted({eps for found in self.sizes.values() for eps in found})


def grains(entries: Iterable[dict[str, Any]]) -> list[Grain]:
    """Sorts cells by what differs in `shrink` alone.

    Args:
        entries: Of cells.

    Returns:
        Those of two sizes or more; whole images first, then from the largest side.

    Raises:
        UsageError: There are none, or two models have one name.
    """
    by_size: dict[int, list[dict[str, Any]]] = {}
    for entry in entries:
        settings = {name: value for name, value in entry["settings"].items() if name != "shrink"}
        by_size.setdefault(entry["settings"].get("shrink", 0), []).append({**entry, "settings": settings})
    found: dict[tuple[str, str, str, str], dict[int, dict[float, Figure]]] = {}
    for size in sorted(by_size, key=lambda side: -side or float("-inf")):
        of_size = figures(by_size[size])
        norms = {f.model.norm for f in of_size if f.model.eps} or {f.model.norm for f in of_size}
        for f in of_size:
            family = f.model.name.partition(f"_{f.model.norm}_eps")[0]
            for norm in norms if not f.model.eps else (f.model.norm,):
                line = found.setdefault((f.protocol, f.dataset, family, norm), {}).setdefault(size, {})
                if line.setdefault(f.model.eps, f) is not f:
                    raise UsageError(
                        f"the cells are of several files called {f.model.name}",
                        model=f.model.name,
                        expected="one file for each radius",
                        actual="several, of other weights",
                        next="robust-zoo transfer report FOLDER",
                    )
    made = [Grain(*key, sizes) for key, sizes in sorted(found.items()) if len(sizes) > 1]
    if not made:
        raise UsageError(
            "all these cells are of images of one size",
            expected="cells of one dataset and protocol with and without shrink = 32, say, in --settings",
            actual=f"shrink {', '.join(map(str, sorted(by_size))) or 'of no cell'}",
            next="robust-zoo transfer --help",
        )
    return made


def words(size: int) -> str:
    """A size as tables and legends have it."""
    return f"{size} px first" if size else "as they are"


def markdown(found: Sequence[Grain]) -> str:
    """Writes a table for each grain: a line for each size, a column for each radius.

    Args:
        found: Of `grains`.

    Returns:
        Markdown; the best radius of a line is bold.
    """
    parts = []
    for grain in found:
        label = NORMS[grain.norm].label
        heads = " | ".join(f"{label} {NORMS[grain.norm].spell(eps)}" for eps in grain.radii)
        lines = [
            f"### {cell(grain.dataset)}, {cell(grain.family)}: {cell(grain.protocol)}",
            "",
            f"| images | {heads} |",
            "|---|" + "---:|" * len(grain.radii),
        ]
        for size, of in grain.sizes.items():
            best = max(of.values(), key=lambda f: f.value)
            texts = [
                f"**{value_text(f)}**" if f is best else value_text(f) if f else "" for f in map(of.get, grain.radii)
            ]
            lines.append(f"| {words(size)} | {' | '.join(texts)} |")
        parts.append("\n".join([*lines, "", "Bold: the best radius for images of that size."]))
    return "\n\n".join(parts) + "\n"


def draw(found: Sequence[Grain], out: Path) -> None:
    """Draws accuracy against the radius: a panel for each grain, a line for each size.

    Args:
        found: Of `grains`.
        out: The picture's file.

    Raises:
        UsageError: matplotlib is not installed.
    """
    look = looks([words(size) for size in dict.fromkeys(size for grain in found for size in grain.sizes)])
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    with picture(out, max(6.5, 5.4 * columns), 0.8 + 3.2 * rows) as canvas:
        panels = canvas.subplots(rows, columns, squeeze=False).flat
        for axes, grain in zip(panels, found, strict=False):
            radii = grain.radii
            for size, of in grain.sizes.items():
                points = [
                    Point(radii.index(eps), f.value, f.value - error_of(f), f.value + error_of(f))
                    for eps, f in sorted(of.items())
                ]
                curve(axes, points, words(size), look[words(size)])
            axes.set_xticks(range(len(radii)), [NORMS[grain.norm].spell(eps).partition("/")[0] for eps in radii])
            axes.set(title=f"{grain.dataset}, {grain.family}", ylabel="accuracy, %")
            axes.set_xlabel(radius(grain.norm, "the source was trained for"))
            axes.locator_params(axis="y", steps=STEPS)
        for axes in panels:
            axes.remove()
        title(
            canvas,
            "Transfer by the grain of the target",
            "Images were shrunk, then prepared as any. Radii evenly spaced.",
        )
        legend(canvas, look)
