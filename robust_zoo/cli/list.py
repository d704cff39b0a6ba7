from __future__ import annotations

import json
from collections.abc import Iterable

import click

from robust_zoo.cli.describe import Named, as_json, count, promise, size_text
from robust_zoo.errors import UsageError
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, list_models, natural_key
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS, parse_eps

_COLUMNS = ("NAME", "ARCHITECTURE", "DATASET", "NORM", "EPS", "CLEAN %", "WEIGHTS", "DOWNLOAD")
_ALIGN = "<<<<>><>"


@click.command("list")
@click.argument("patterns", nargs=-1)
@click.option("--architecture", "-a", multiple=True, help="Only this architecture (repeatable); timm's names work too.")
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
@click.option("--bundled", is_flag=True, help="Only checkpoints whose weights come with the package.")
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(
    patterns: tuple[str, ...],
    architecture: tuple[str, ...],
    dataset: str | None,
    norm: str | None,
    eps: tuple[str, ...],
    bundled: bool,
    as_json_: bool,
) -> None:
    """List checkpoints. PATTERNS are names or wildcards; none lists all.

    \b
    robust-zoo list
    robust-zoo list 'resnet50_*' --norm l2 --eps 0.5:5
    robust-zoo list --norm linf --eps 4/255 --json

    WEIGHTS (in JSON: status) says how far a file can be proven: bundled and pinned by a sha256 in the registry,
    hub-declared by the one that the hub records at the pinned revision. Accuracies marked * were measured by this
    project, the others are reported by their authors. Sizes marked ~ are typical of the architecture.
    """
    names: set[str] = set()
    radii = [_radius(text) for text in eps]
    for radius in radii or (None,):
        names |= set(
            list_models(
                patterns or "*",
                architecture=architecture or None,
                dataset=dataset,
                norm=norm,
                eps=radius,
                bundled=bundled or None,
            )
        )
    checkpoints = [get(name) for name in sorted(names, key=natural_key)]
    if as_json_:
        click.echo(json.dumps([as_json(checkpoint) for checkpoint in checkpoints], indent=1))
    elif checkpoints:
        _echo_table(
            (
                checkpoint.name,
                checkpoint.architecture,
                checkpoint.dataset,
                checkpoint.norm,
                checkpoint.threat.radius,
                _clean(checkpoint),
                promise(checkpoint),
                "-" if checkpoint.bundled else size_text(checkpoint),
            )
            for checkpoint in checkpoints
        )
        click.echo(
            f"{count(len(checkpoints))}; * measured by robust_zoo, the others reported by their authors", err=True
        )
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


def _echo_table(checkpoints: Iterable[tuple[str, ...]]) -> None:
    table = [_COLUMNS, *checkpoints]
    widths = [max(len(cells[i]) for cells in table) for i in range(len(_COLUMNS))]
    for cells in table:
        click.echo("  ".join(f"{c:{a}{w}}" for c, a, w in zip(cells, _ALIGN, widths, strict=True)).rstrip())


def _clean(checkpoint: Checkpoint) -> str:
    if checkpoint.clean_accuracy is None:
        return "-"
    return f"{checkpoint.clean_accuracy:.2f}{' ' if checkpoint.reported_by else '*'}"
