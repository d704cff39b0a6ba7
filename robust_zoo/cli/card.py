from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.cards.card import card
from robust_zoo.describe import count
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.exported import checkpoint_of


@click.command("card")
@click.argument("name", required=False)
@click.option("--all", "all_", is_flag=True, help="Every checkpoint's card; -o or --check names the directory.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A file (with --all: a directory), not stdout.")
@click.option("--check", type=click.Path(path_type=Path), help="With --all: compare with this directory.")
def command(name: str | None, all_: bool, output: Path | None, check: Path | None) -> None:
    """Write model cards, generated from the registry.

    \b
    robust-zoo card resnet50_l2_eps3
    robust-zoo card --all -o model_cards
    robust-zoo card --all --check model_cards

    --check names the cards that differ from their rows, are missing, or have no row, and then exits with 1.
    """
    if bool(name) == all_ or (name and check) or (all_ and bool(output) == bool(check)):
        given = [flag for flag, on in {"NAME": name, "--all": all_, "-o": output, "--check": check}.items() if on]
        raise UsageError(
            "say which cards, and where they go",
            expected="NAME [-o FILE], or --all with -o DIR or --check DIR",
            actual=" ".join(given) or "nothing",
            next="robust-zoo card --all -o model_cards",
        )
    if name:
        text = card_of(checkpoint_of(name))
        if output:
            _write(output, text)
        else:
            click.echo(text, nl=False)
        return
    cards = {f"{n}.md": card_of(get(n)) for n in list_models()}
    if check:
        _check(cards, check)
    elif output:
        output.mkdir(parents=True, exist_ok=True)
        for file, text in cards.items():
            _write(output / file, text)
        click.echo(f"{count(len(cards), 'card')} in {output}", err=True)
        # Only told, never deleted: the directory may be one that holds other files.
        for stale in sorted({path.name for path in output.glob("*.md")} - cards.keys()):
            click.echo(f"no row has this card, delete it if it was one: {output / stale}", err=True)


def card_of(checkpoint: Checkpoint) -> str:
    """The card, with the checkpoint's own recipe."""
    from robust_zoo.training.recipes import recipe_for

    return card(checkpoint, recipe_for(checkpoint) if checkpoint.recipe in load_registry().recipes else None)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")  # the same bytes on every platform


def _check(cards: dict[str, str], directory: Path) -> None:
    on_disk = {path.name: path.read_bytes().decode("utf-8", "replace") for path in directory.glob("*.md")}
    drifted = sorted(n for n in cards.keys() | on_disk.keys() if cards.get(n) != on_disk.get(n))
    for file in drifted:
        click.echo(file)
    if drifted:
        raise VerificationFailed(
            f"{count(len(drifted), 'card')} not as the registry has it",
            source=str(directory),
            expected=f"{count(len(cards), 'card')}, each generated from its row",
            actual=f"changed, missing or without a row: {', '.join(drifted[:5])}{', ...' if len(drifted) > 5 else ''}",
            next=f"robust-zoo card --all -o {directory}",
        )
