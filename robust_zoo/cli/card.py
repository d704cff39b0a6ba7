from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from robust_zoo import home
from robust_zoo.cards.card import Trained, card, card_files
from robust_zoo.cards.index import index
from robust_zoo.describe import count
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.readers import read_json
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.exported import checkpoint_of
from robust_zoo.weights.safetensors_file import read_header


@click.command("card")
@click.argument("name", required=False)
@click.option("--all", "all_", is_flag=True, help="Every checkpoint's card; -o or --check names the directory.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A file (with --all: a directory), not stdout.")
@click.option("--check", type=click.Path(path_type=Path), help="With --all: compare with this directory.")
def command(name: str | None, all_: bool, output: Path | None, check: Path | None) -> None:
    """Write model cards with the pictures of their curves, generated from the registry.

    \b
    robust-zoo card resnet50_l2_eps3
    robust-zoo card --all -o model_cards
    robust-zoo card --all --check model_cards

    -o puts the picture beside the card. --all adds a README.md that lists them. --check names the files that differ
    from their rows, are missing, or have no row, and then exits with 1.
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
        checkpoint = checkpoint_of(name)
        if output:
            for file, text in files_of(checkpoint, output.stem).items():
                _write(output.with_name(file) if file.endswith(".svg") else output, text)
        else:
            click.echo(card_of(checkpoint), nl=False)
        return
    files = {"README.md": index()}
    for checkpoint in map(get, list_models()):
        files |= card_files(checkpoint, _recipe(checkpoint), checkpoint.name, results="../results")
    if check:
        _check(files, check)
    elif output:
        output.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            _write(output / file, text)
        click.echo(f"{count(sum(file.endswith('.md') for file in files) - 1, 'card')} in {output}", err=True)
        # Only told, never deleted: the directory may be one that holds other files.
        for stale in sorted(_on_disk(output) - files.keys()):
            click.echo(f"no row has this card, delete it if it was one: {output / stale}", err=True)


def card_of(checkpoint: Checkpoint) -> str:
    """The card alone, without its picture, with the checkpoint's own recipe."""
    return card(checkpoint, _recipe(checkpoint), results=home.page("results"))


def files_of(checkpoint: Checkpoint, stem: str, repo: str = "", *, source: Checkpoint | None = None) -> dict[str, str]:
    """The card and its picture as files, by name.

    `repo`: the place on the hub that they go to; `source`: what is published there, where that is a file.
    """
    return card_files(checkpoint, _recipe(source or checkpoint), stem, results=home.page("results"), repo=repo)


def _recipe(checkpoint: Checkpoint) -> Trained | None:
    """A row's, or the one in the header of a file that was trained here; None where none is known."""
    from robust_zoo.training.recipes import from_dict, recipe_for

    if checkpoint.is_own_file and not checkpoint.tuned_from:
        with suppress(KeyError, ValueError, UsageError):  # none, or of another version
            return from_dict(read_json(read_header(Path(checkpoint.file))["recipe"]))
    return recipe_for(checkpoint) if checkpoint.recipe in load_registry().recipes else None


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")  # the same bytes on every platform


def _on_disk(directory: Path) -> set[str]:
    return {path.name for ending in ("*.md", "*.svg") for path in directory.glob(ending)}


def _check(files: dict[str, str], directory: Path) -> None:
    on_disk = {name: (directory / name).read_bytes().decode("utf-8", "replace") for name in _on_disk(directory)}
    drifted = sorted(n for n in files.keys() | on_disk.keys() if files.get(n) != on_disk.get(n))
    for file in drifted:
        click.echo(file)
    if drifted:
        raise VerificationFailed(
            f"{count(len(drifted), 'file')} not as the registry has it",
            source=str(directory),
            expected=f"{count(len(files), 'file')}: cards, their pictures and README.md, generated from rows",
            actual=f"changed, missing or without a row: {', '.join(drifted[:5])}{', ...' if len(drifted) > 5 else ''}",
            next=f"robust-zoo card --all -o {directory}",
        )
