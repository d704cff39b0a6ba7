"""The first page: the table of checkpoints, clean against robust, ladders, and where figures come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from robust_zoo.charts.curve import eps_curve
from robust_zoo.charts.scatter import Dot, scatter
from robust_zoo.describe import promise
from robust_zoo.registry.comparison import Kind
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.pareto import Rival, fields
from robust_zoo.registry.reported import threat_title
from robust_zoo.registry.robustness import figures
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.site import model
from robust_zoo.site.ladders import Table, ladders, tables
from robust_zoo.site.pages import Contents, Page, Raw
from robust_zoo.site.table import FACTS, facets, lines
from robust_zoo.site.words import STATES, letters
from robust_zoo.threat import NORMS

_DESCRIPTION = (
    "Adversarially robust ImageNet weights as timm models: what each was trained for, how accurate it is with and "
    "without an attack, and who measured that."
)
_SORTS = (
    ("-name", "name, from the end"),
    ("clean", "clean accuracy, highest first"),
    ("-clean", "clean accuracy, lowest first"),
    ("robust", "robust accuracy, highest first"),
    ("-robust", "robust accuracy, lowest first"),
    ("parameters", "parameters, fewest first"),
    ("-parameters", "parameters, most first"),
    ("size", "download, smallest first"),
    ("-size", "download, largest first"),
)


@dataclass(frozen=True)
class Field:
    """Checkpoints whose robust accuracies may be compared, as a page shows them.

    Attributes:
        title: What they share: the dataset, the attack, its radius.
        images: On how many images, in words.
        chart: An <svg> element.
        front: Those that no network as small beats, by number.
        count: How many there are in all.
        measured: Whether this project measured them.
    """

    title: str
    images: str
    chart: str
    front: tuple[tuple[str, Rival], ...]
    count: int
    measured: bool


def build(contents: Contents) -> Iterator[Page | Raw]:
    """The table of checkpoints, and a page for each.

    Args:
        contents: What the site says.

    Yields:
        The pages, and what bundled models see.
    """
    rows = contents.checkpoints
    found = ladders(rows)
    states = Counter(map(promise, rows))
    values = {
        "lines": lines(rows),
        "facts": FACTS,
        "facets": facets(rows),
        "sorts": _SORTS,
        "letters": letters(rows),
        "counts": _counts(rows),
        "states": [(state, states[state], meaning) for state, meaning in STATES.items() if states[state]],
        "fields": [_field(kind, rivals) for kind, rivals in fields(rows).items()],
        "ladders": tables(found),
        "charts": [chart for table in tables(found) if (chart := _chart(table))],
    }
    yield Page("index.html", "Robust checkpoints", "index.html", values, _DESCRIPTION)
    for checkpoint in rows:
        yield model.page(checkpoint, contents, [ladder for ladder in found if checkpoint in ladder.rungs])
        if checkpoint.name in contents.seen:
            yield Raw(f"seen/{checkpoint.name}.webp", contents.seen[checkpoint.name])


def _counts(rows: Sequence[Checkpoint]) -> dict[str, int]:
    known = [figure for row in rows for figure in figures(row)]
    return {
        "checkpoints": len(rows),
        "architectures": len({row.architecture for row in rows}),
        "collections": len({row.collection.name for row in rows}),
        "measured": sum(figure.measured for figure in known),
        "reported": sum(not figure.measured for figure in known),
    }


def _field(kind: Kind, rivals: Sequence[Rival]) -> Field:
    first, dataset = rivals[0].robust, load_registry().datasets[kind[0]].title
    threat = threat_title(first.norm, first.eps or 0)
    front = tuple((str(place), rival) for place, rival in enumerate((r for r in rivals if r.front), 1))
    tags = {rival.checkpoint.name: tag for tag, rival in front}
    dots = [
        Dot(
            x=rival.clean.value,
            y=rival.robust.value,
            weight=rival.checkpoint.network.parameters,
            label=f"{rival.checkpoint.name}: {rival.clean.value:.2f} % clean, {rival.robust.value:.2f} % robust",
            href=model.path_of(rival.checkpoint.name),
            tag=tags.get(rival.checkpoint.name, ""),
            measured=rival.robust.measured,
        )
        for rival in rivals
    ]
    title = f"{dataset}, {first.attack_title} at {threat}"
    images = f"{first.n:,} images" if first.n else "number of images not said"
    chart = scatter(dots, title=title, across="Clean accuracy, %", up="Robust accuracy, %")
    return Field(title, images, chart, front, len(rivals), first.measured)


def _chart(table: Table) -> str:
    """The curves of a table's long ladders; "" where there are none."""
    if not table.drawn:
        return ""
    lowest = min(point.y for curve in table.drawn for point in curve.points)
    title = f"Clean accuracy of networks trained for more, {NORMS[table.norm].label}"
    return eps_curve(table.drawn, table.norm, title=title, across="Trained for", lowest=int(lowest // 10 * 10))
