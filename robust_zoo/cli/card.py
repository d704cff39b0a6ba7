from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.cards import card
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry import get, list_models


@click.command("card")
@click.argument("name", required=False)
@click.option("--all", "all_", is_flag=True, help="Every checkpoint's card; -o or --check names the directory.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A file (with --all: a directory); stdout if absent.")
@click.option("--check", type=click.Path(path_type=Path), help="With --all: compare with this directory, write nothing.")
def command(name: str | None, all_: bool, output: Path | None, check: Path | None) -> None:
    """Write model cards, generated from the registry.

    \b
    robust-zoo card resnet50_l2_eps3
    robust-zoo card --all -o model_cards
    robust-zoo card --all --check model_cards
    """
    if bool(name) == all_ or (all_ and bool(output) == bool(check)):
        raise UsageError(
            "say which cards, and where they go", expected="NAME [-o FILE], or --all with -o DIR or --check DIR",
            actual="something else", next="robust-zoo card --all -o model_cards",
        )  # fmt: skip
    if name:
        text = card(get(name))
        if output:
            output.write_text(text, encoding="utf-8")
        else:
            click.echo(text, nl=False)
        return
    cards = {f"{n}.md": card(get(n)) for n in list_models()}
    if check:
        on_disk = {path.name: path.read_text(encoding="utf-8") for path in check.glob("*.md")}
        drifted = sorted(n for n in cards.keys() | on_disk.keys() if cards.get(n) != on_disk.get(n))
        if drifted:
            raise VerificationFailed(
                f"{len(drifted)} cards differ from their rows", source=str(check), expected="what the registry says",
                actual=", ".join(drifted[:5]), next=f"robust-zoo card --all -o {check}",
            )  # fmt: skip
        return
    if output:
        output.mkdir(parents=True, exist_ok=True)
        for stale in {path.name for path in output.glob("*.md")} - cards.keys():
            (output / stale).unlink()
        for file, text in cards.items():
            (output / file).write_text(text, encoding="utf-8")
        click.echo(f"{len(cards)} cards in {output}", err=True)
