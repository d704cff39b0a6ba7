"""`robust-zoo recommend --for corruptions`: checkpoints by what was measured, on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from robust_zoo.errors import UsageError
from robust_zoo.registry.ranking import Ranking, ranked
from robust_zoo.registry.rows import Checkpoint


def by_corruptions(checkpoints: Collection[Checkpoint]) -> Ranking:
    """As `ranked`. Raises UsageError where none of them was measured."""
    if found := ranked(checkpoints):
        return found
    some = next((checkpoint.handle for checkpoint in checkpoints), "NAME")
    raise UsageError(
        "nothing is known of these checkpoints under corruptions",
        expected="a checkpoint that was measured under corruptions: robust-zoo recommend --for corruptions",
        actual=f"{len(checkpoints)} that were not",
        next=f"robust-zoo evaluate {some} --attack corruptions   measures it",
    )


def table(found: Ranking) -> str:
    """Lines of text: a ranking for each set of images, by the mean over corruptions and severities."""
    lines = []
    for data, pairs in found.items():
        best = pairs[0][1]
        lines.append(f"{'':<3}{'checkpoint':<42}{'corrupted':>10}   95 % interval{'clean':>9}")
        for place, (checkpoint, figure) in enumerate(pairs, 1):
            low, high = figure.interval
            clean = f"{figure.clean_accuracy:.1f} %" if figure.clean_accuracy is not None else "-"
            note = "   not told apart from the first" if place > 1 and figure.tied(best) else ""
            span = f"{low:.1f}-{high:.1f}"
            lines.append(f"{place:<3}{checkpoint.name:<42}{figure.mean:>8.1f} %   {span:<13}{clean:>9}{note}")
        lines.append(f"means over {len(best.correct)} corruptions at 5 severities, {best.n:,} images: {data}")
        lines.append("")
    return "\n".join(lines[:-1])


def as_json(found: Ranking) -> list[dict[str, Any]]:
    """An object for each checkpoint and set of images, the best of a set first."""
    return [
        {
            "checkpoint": checkpoint.name, "data": data, "n": figure.n, "mean": round(figure.mean, 2),
            "interval_95": figure.interval, "clean": figure.clean_accuracy, "tied_with_best": figure.tied(pairs[0][1]),
        }
        for data, pairs in found.items() for checkpoint, figure in pairs
    ]  # fmt: skip
