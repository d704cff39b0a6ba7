from __future__ import annotations

import json

import click

from robust_zoo.cli.describe import as_json, eps_text, megabytes, promise
from robust_zoo.registry import get, list_models


@click.command("list")
@click.argument("patterns", nargs=-1)
@click.option("--architecture", "-a", multiple=True, help="Only this architecture (repeatable); timm's names work too.")
@click.option("--dataset", "-d", help="Only checkpoints trained on this dataset (imagenet, cifar10).")
@click.option("--norm", "-n", help="Only this threat model: l2 or linf.")
@click.option(
    "--eps",
    "-e",
    help="Only this radius, or LOW:HIGH. In [0, 1] image units; write Linf radii as fractions (4/255): a bare 4 "
    "could mean two things and is refused.",
)
@click.option("--bundled", is_flag=True, help="Only checkpoints whose weights come with the package.")
@click.option("--json", "as_json_", is_flag=True, help="A JSON array on stdout.")
def command(
    patterns: tuple[str, ...],
    architecture: tuple[str, ...],
    dataset: str | None,
    norm: str | None,
    eps: str | None,
    bundled: bool,
    as_json_: bool,
) -> None:
    """List checkpoints. PATTERNS are names or wildcards; none lists all.

    \b
    robust-zoo list
    robust-zoo list 'resnet50_*' --norm l2 --eps 0.5:5
    robust-zoo list --norm linf --eps 4/255 --json

    WEIGHTS says how far a file can be proven: bundled and pinned by a sha256 in the registry, hub-declared by the
    one that the hub records at the pinned revision. Accuracies marked * were measured by this project, the others
    are reported by their authors.
    """
    low, _, high = (eps or "").partition(":")
    names = list_models(
        patterns or "*",
        architecture=architecture or None,
        dataset=dataset,
        norm=norm,
        eps=(low, high) if high else eps,
        bundled=bundled or None,
    )
    rows = [get(name) for name in names]
    if as_json_:
        click.echo(json.dumps([as_json(row) for row in rows], indent=1))
        return
    if not rows:
        click.echo("no checkpoint matches; robust-zoo list   shows all", err=True)
        return
    width = max(len(row.name) for row in rows)
    click.echo(f"{'NAME':<{width}}  {'DATASET':<9} {'NORM':<5} {'EPS':>8} {'CLEAN %':>8}  {'WEIGHTS':<13} {'DOWNLOAD':>9}")
    for row in rows:
        mark = " " if row.reported_by else "*"
        size = "-" if row.bundled else megabytes(row.approximate_size)
        click.echo(
            f"{row.name:<{width}}  {row.dataset:<9} {row.norm:<5} {eps_text(row):>8} {row.clean_accuracy:>7.2f}{mark}"
            f"  {promise(row):<13} {size:>9}"
        )
    click.echo(f"{len(rows)} checkpoints", err=True)
