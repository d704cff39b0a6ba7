from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import click

from robust_zoo.cli.options import MAX_PARAMS, MIN_ROBUST, UNDER, Named, collection, robust_at
from robust_zoo.cli.table import Marks, echo_table
from robust_zoo.describe import as_json, count, images_of, promise, short_count, size_text
from robust_zoo.errors import UsageError
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, list_models, natural_key
from robust_zoo.registry.robustness import Under, best_robust, by_robustness, parse_under, spelled
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS, parse_eps

_COLUMNS = ("NAME", "PARAMS", "INPUT", "CLEAN %", "ROBUST %", "WEIGHTS", "DOWNLOAD")
_ALIGN = "<>>>><>"
_SORTED: Mapping[str, Callable[[Checkpoint, Under | None], Any]] = {  # what they are sorted by; then by name
    "name": lambda checkpoint, _: 0,
    "clean": lambda checkpoint, _: -(checkpoint.clean_accuracy or -math.inf),
    "robust": by_robustness,
    "params": lambda checkpoint, _: checkpoint.network.parameters,
    "size": lambda checkpoint, _: checkpoint.approximate_size,
}


@click.command("list")
@click.argument("patterns", nargs=-1)
@click.option("--architecture", "-a", multiple=True, help="Only this architecture (repeatable); timm's names work too.")
@collection("-c")
@click.option(
    "--dataset", "-d", cls=Named, table=lambda: load_registry().datasets, help="Only those trained on this dataset:"
)
@click.option("--norm", "-n", cls=Named, table=lambda: NORMS, help="Only this norm:")
@click.option(
    "--eps",
    "-e",
    multiple=True,
    metavar="VALUE|LOW:HIGH",
    help="Only this radius, or this range with both ends (repeatable). In units of an image with pixels in [0, 1]: "
    "write Linf radii as fractions (4/255). A bare 4 could be a radius or a count of 1/255 and is refused where both "
    "readings exist; --norm l2 settles it.",
)
@UNDER
@click.option("--min-clean", type=float, metavar="PERCENT", help="Only with at least this clean accuracy.")
@MIN_ROBUST
@MAX_PARAMS
@click.option("--licence", multiple=True, help="Only under this licence (repeatable): mit, apache-2.0, unknown, ...")
@click.option("--bundled", is_flag=True, help="Only checkpoints whose weights come with the package.")
@click.option(
    "--sort",
    type=click.Choice([*_SORTED]),
    default="name",
    show_default=True,
    help="clean and robust from the highest, params and size from the smallest; what is not known comes last.",
)
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(
    patterns: tuple[str, ...],
    eps: tuple[str, ...],
    under: str | None,
    min_robust: float | None,
    bundled: bool,
    sort: str,
    as_json_: bool,
    **filters: Any,
) -> None:
    """List checkpoints. PATTERNS are names or wildcards; none lists all.

    \b
    robust-zoo list 'resnet50_*' --norm l2 --eps 0.5:5
    robust-zoo list --sort robust --under linf:4/255 --max-params 90M
    robust-zoo list --under linf:4/255 --min-robust 40 --min-clean 60 --licence mit
    robust-zoo list --norm linf --eps 4/255 --json

    ROBUST is the best known figure: AutoAttack's before any other attack's (marked <: an upper bound), those measured
    by this project (*) before reported ones, those on more images first. Its letter says which attack, on how many
    images, and who reported it. --sort robust keeps datasets and threat models apart, and figures of weaker attacks
    below AutoAttack's.

    WEIGHTS (in JSON: status) says how far a file can be proven: bundled and pinned by a sha256 in the registry,
    hub-declared by the one that the hub records at the pinned revision, unverified by none that is public. Accuracies
    marked * were measured by this project, the others were reported. Sizes marked ~ are typical of the architecture.
    """
    at = robust_at(under, min_robust)
    threat = parse_under(*at) if at else None
    filters["min_robust"] = (*at, min_robust) if at and min_robust is not None else None
    names: set[str] = set()
    asked: dict[str, Any] = {name: value for name, value in filters.items() if value not in (None, ())}
    radii = [_radius(text) for text in eps]
    for radius in radii or (None,):
        names |= set(list_models(patterns or "*", eps=radius, bundled=bundled or None, **asked))
    checkpoints = [get(name) for name in sorted(names, key=natural_key)]
    checkpoints.sort(key=lambda checkpoint: _SORTED[sort](checkpoint, threat))
    if as_json_:
        click.echo(json.dumps([as_json(checkpoint, under=threat) for checkpoint in checkpoints], indent=1))
    elif checkpoints:
        marks = Marks()
        echo_table([_COLUMNS, *(_row(checkpoint, threat, marks) for checkpoint in checkpoints)], _ALIGN)
        _echo_legend(len(checkpoints), threat, marks)
    if not checkpoints:
        click.echo("no checkpoint matches; robust-zoo list   shows all", err=True)


def _radius(text: str) -> str | tuple[str, str]:
    """One value, or (low, high); what each number means is for list_models to say."""
    low, colon, high = text.partition(":")
    if not colon:
        return text
    if not low or not high or parse_eps(low, None) > parse_eps(high, None):
        raise UsageError(
            f"--eps {text} is not a range",
            expected="LOW:HIGH, both ends given and included, the lower first",
            actual=text,
            next="robust-zoo list --norm l2 --eps 0.5:5",
        )
    return low, high


def _row(checkpoint: Checkpoint, under: Under | None, marks: Marks) -> tuple[str, ...]:
    """A line of the table; architecture, dataset and threat model are in the name."""
    height, width = checkpoint.preprocessing.input_size[1:]
    return (
        checkpoint.name,
        short_count(checkpoint.network.parameters),
        str(width) if height == width else f"{height}x{width}",
        _clean(checkpoint),
        _robust(checkpoint, under, marks),
        promise(checkpoint),
        "-" if checkpoint.bundled else size_text(checkpoint),
    )


def _clean(checkpoint: Checkpoint) -> str:
    if checkpoint.clean_accuracy is None:
        return "- "
    return f"{checkpoint.clean_accuracy:.2f}{' ' if checkpoint.reported_by else '*'}"


def _robust(checkpoint: Checkpoint, under: Under | None, marks: Marks) -> str:
    figure = best_robust(checkpoint, under)
    if figure is None:
        return "-   "
    about = f"{figure.attack_title}, {images_of(figure)}, by {figure.by}"
    return f"{'<' if figure.bound else ''}{figure.value:.2f}{'*' if figure.measured else ' '} {marks.of(about)}"


def _echo_legend(listed: int, under: Under | None, marks: Marks) -> None:
    """Messages, not data: what the table's marks mean."""
    at = spelled(*under) if under else "the threat model that each was trained for"
    lines = [
        f"{count(listed)}; robust accuracy at {at}",
        "*  measured by robust_zoo, the others were reported",
        "<  under an attack weaker than AutoAttack: an upper bound",
    ]
    click.echo("\n".join(lines + marks.legend), err=True)
