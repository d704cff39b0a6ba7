"""A checkpoint -> its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robust_zoo.charts.curve import eps_curve
from robust_zoo.describe import megabytes, promise, size_text
from robust_zoo.registry.curves import eps_curves
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.robustness import Figure, best_robust, figures
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.site.fates import classes, suites
from robust_zoo.site.ladders import Ladder
from robust_zoo.site.pages import Contents, Page
from robust_zoo.site.snippets import snippets
from robust_zoo.site.words import statistics_of
from robust_zoo.threat import NORMS
from robust_zoo.visualization.beside import standard_of


def path_of(name: str) -> str:
    """Where a checkpoint's page is in the site."""
    return f"model/{name}.html"


@dataclass(frozen=True)
class Steps:
    """A ladder as one of its checkpoints sees it.

    Attributes:
        ladder: Which.
        place: The checkpoint's, from 0.
    """

    ladder: Ladder
    place: int

    @property
    def norm(self) -> str:
        """In sentences."""
        return NORMS[self.ladder.norm].label

    def relation(self, rung: Checkpoint) -> Markup:
        """What a rung is to the checkpoint, as an attribute of its link."""
        away = self.ladder.rungs.index(rung) - self.place
        return Markup({-1: ' rel="prev"', 0: ' aria-current="page"', 1: ' rel="next"'}.get(away, ""))


def page(checkpoint: Checkpoint, contents: Contents, ladders: Sequence[Ladder]) -> Page:
    """Everything known of one checkpoint.

    Args:
        checkpoint: Which.
        contents: What the site says.
        ladders: Those that it is on.

    Returns:
        The page.
    """
    known, evidence = figures(checkpoint), contents.of(checkpoint)
    authors = {figure.by for figure in known}
    values = {
        "row": checkpoint,
        "clean": next((figure for figure in known if figure.attack == "none"), None),
        "robust": best_robust(checkpoint),
        "figures": [(figure, contents.file_of(checkpoint, figure)) for figure in sorted(known, key=_order)],
        "files": any(contents.file_of(checkpoint, figure) for figure in known),
        "measured": any(figure.measured for figure in known),
        "author": next(iter(authors)) if len(authors) == 1 and not any(figure.measured for figure in known) else "",
        "steps": [Steps(ladder, ladder.rungs.index(checkpoint)) for ladder in ladders],
        "snippets": snippets(checkpoint),
        "charts": charts(checkpoint),
        "suites": suites(evidence),
        "classes": classes(checkpoint, evidence),
        "known": checkpoint.recipe in load_registry().recipes,
        "state": promise(checkpoint),
        "size": size_text(checkpoint),
        "statistics": statistics_of(checkpoint.preprocessing),
        "converted": megabytes(4 * checkpoint.network.parameters),
        "seen": checkpoint.name in contents.seen,
        "beside": standard_of(checkpoint),
    }
    return Page(path_of(checkpoint.name), checkpoint.name, "model.html", values)


def charts(checkpoint: Checkpoint) -> list[str]:
    """Accuracy over the radius of an attack, a chart for each norm in which it is known at two radii or more.

    Args:
        checkpoint: Whose.

    Returns:
        <svg> elements.
    """
    drawn = []
    for norm, words in NORMS.items():
        curves = eps_curves(checkpoint, norm)
        if any(curve.joined for curve in curves):
            trained = checkpoint.eps if checkpoint.norm == norm and checkpoint.eps else None
            drawn.append(eps_curve(curves, norm, title=f"Accuracy under attack, {words.label}", trained=trained))
    return drawn


def _order(figure: Figure) -> tuple[object, ...]:
    return figure.norm, figure.eps or 0, figure.bound, -(figure.n or 0), figure.attack
