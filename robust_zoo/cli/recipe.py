from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from robust_zoo.registry.lookup import get

if TYPE_CHECKING:
    from robust_zoo.registry.rows import Checkpoint
    from robust_zoo.training.recipes import Recipe


@click.command("recipe")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(name: str, as_json: bool) -> None:
    """Show how a checkpoint is trained: every field of its recipe, what to expect of it and what it costs.

    \b
    robust-zoo recipe resnet50_l2_eps3
    robust-zoo recipe resnet50_l2_eps3 --json

    To change something, write the fields into a .toml file for robust-zoo train --recipe:

    \b
    epochs = 30
    schedule = "cosine"
    threat = {norm = "linf", eps = "4/255"}

    objective is adversarial, trades (trades_beta), arks (no radius, but a kernel of width arks_sigma; arks_step) or
    regional (regional_smoothing): docs/training.md.
    """
    from robust_zoo.training.recipes import recipe_for

    checkpoint = get(name)
    recipe = recipe_for(checkpoint)
    if as_json:
        values = {
            "name": checkpoint.name,
            "recipe": asdict(recipe),
            "sha256": recipe.sha256,
            "expected": _expected(checkpoint),
            "training": checkpoint.training,
        }
        click.echo(json.dumps(values | {"passes": recipe.passes}, indent=1))
    else:
        show(checkpoint, recipe)
        click.echo(f"\nrobust-zoo train {checkpoint.name} --dry-run   estimates the hours on this machine", err=True)


def show(checkpoint: Checkpoint, recipe: Recipe) -> None:
    """The fields, one a line, then what to expect: of the checkpoint's own recipe what it reached, of another nothing.

    Args:
        checkpoint: Of the registry.
        recipe: Its own, or one that changes it.
    """
    from robust_zoo.training.recipes import recipe_for

    for field, value in asdict(recipe).items():
        shown = str(recipe.threat) if field == "threat" else f"{value:g}" if isinstance(value, float) else value
        click.echo(f"{field:<18} {shown}")
    click.echo(f"{'sha256':<18} {recipe.sha256}")
    click.echo(f"{'passes an image':<18} {recipe.passes} (a forward, a backward to inputs or to weights: one each)")
    if recipe == recipe_for(checkpoint):
        for f in _expected(checkpoint):
            click.echo(f"{'expected':<18} {f['figure']}: {f['accuracy']:.2f} % ({f['evidence']})")
        if checkpoint.training:
            click.echo(f"{'expected':<18} training: {checkpoint.training}")
    else:
        click.echo(f"{'expected':<18} not known: {checkpoint.name} was trained by another recipe")


def _expected(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Each accuracy that the checkpoint knows, in percent, with what it is under and whose figure it is."""
    reported = [
        {
            "figure": f.title,
            "attack": f.attack,
            "norm": f.norm or None,
            "eps": f.eps,
            "accuracy": f.value,
            "evidence": f"reported by {f.by}",
        }
        for f in checkpoint.reported
    ]
    return reported + [
        {
            "figure": m.title,
            "attack": m.attack,
            "norm": m.norm,
            "eps": m.eps,
            "accuracy": round(m.accuracy, 2),
            "evidence": f"measured here: {m.correct:,} of {m.n:,}, {m.data}",
        }
        for m in checkpoint.measured
    ]
