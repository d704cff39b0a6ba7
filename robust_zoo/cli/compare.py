from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import click

from robust_zoo.cli.options import select
from robust_zoo.cli.table import Marks, echo_table
from robust_zoo.counts import PairedCount
from robust_zoo.describe import all_of, count, facts, images_of, source_of
from robust_zoo.errors import UsageError
from robust_zoo.registry.comparison import Line, compare
from robust_zoo.registry.robustness import Figure
from robust_zoo.registry.rows import Checkpoint

_MOST = 6  # columns of a terminal


@click.command("compare")
@click.argument("names", nargs=-1)
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    help="Results of robust-zoo evaluate: compares image by image where they hold the same images under one attack.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(names: tuple[str, ...], ledger: Path | None, as_json: bool) -> None:
    """Set checkpoints side by side. NAMES are names, wildcards, or files that robust-zoo wrote.

    \b
    robust-zoo compare resnet50_linf_eps4 resnet18_linf_eps4
    robust-zoo compare 'resnet18_x0_25_cifar10_l2*' --ledger results
    robust-zoo compare resnet50_l2_eps3 resnet50_l2_eps0 --json

    A line of figures is of one attack at one threat model, on as many images of one size. Its last column says whether
    chance can explain the difference: "overlap" where the 95 % intervals of so many images do, "apart" where they do
    not; with --ledger by McNemar's exact test on the same images (p below 0.05 is "apart"), which sees smaller
    differences. Each line is judged by itself: of twenty, one is apart by chance.

    "alone" is a figure that no other one here may be compared with: another attack, radius, number or size of images
    is another measurement. Robust accuracies are shown at the threat models that two or more have figures at;
    robust-zoo info NAME shows all.

    Figures marked * were measured by this project and have their 95 % Wilson interval; the letter says on which
    images, or who reported a figure.
    """
    checkpoints = select(names)
    if not 2 <= len(checkpoints) <= _MOST:
        raise UsageError(
            f"{count(len(checkpoints))} cannot be set side by side",
            expected=f"2 to {_MOST} different checkpoints",
            actual=", ".join(checkpoint.name for checkpoint in checkpoints[: _MOST + 1]) or "none",
            next="robust-zoo compare resnet50_linf_eps4 resnet18_linf_eps4   (robust-zoo list shows any number)",
        )
    if ledger is None:
        lines = compare(checkpoints)
    else:
        from robust_zoo.training.evaluation.paired import paired

        lines = compare(checkpoints, paired(ledger, checkpoints))
    if as_json:
        found = {"checkpoints": [all_of(c) for c in checkpoints], "figures": [_json(checkpoints, x) for x in lines]}
        click.echo(json.dumps(found, indent=1))
        return
    letters = ascii_uppercase[: len(checkpoints)]
    echo_table([(letter, checkpoint.handle) for letter, checkpoint in zip(letters, checkpoints, strict=True)], "<<")
    click.echo()
    echo_table([("", *letters), *_facts(checkpoints)], "<" * (len(letters) + 1))
    click.echo()
    marks = Marks()
    rows = [(_kind(line), *(_cell(figure, marks) for figure in line.figures), _word(line, letters)) for line in lines]
    echo_table([("ACCURACY, %", *letters, ""), *rows], "<" * (len(letters) + 2))
    click.echo("\n".join(["*  measured by robust_zoo, with its 95 % interval", *marks.legend]), err=True)


def _facts(checkpoints: Sequence[Checkpoint]) -> list[tuple[str, ...]]:
    """What rows say of themselves: a line for each fact, a column for each checkpoint."""
    table = [facts(checkpoint) for checkpoint in checkpoints]
    return [(fact, *(of[fact] for of in table)) for fact in table[0]]


def _kind(line: Line) -> str:
    kind = line.kind
    attack = f"{kind.attack_title}, {kind.under}" if kind.under else "clean"
    return f"{attack}, {images_of(kind)}"


def _cell(figure: Figure | None, marks: Marks) -> str:
    if figure is None:
        return "-"
    interval = f"* ({figure.interval[0]:.1f}-{figure.interval[1]:.1f})" if figure.interval else ""
    return f"{figure.value:.2f}{interval} {marks.of(source_of(figure))}"


def _word(line: Line, letters: str) -> str:
    """What the figures of a line say of each other; of many, which of them cannot be told apart."""
    if line.word:
        return line.word
    words = []
    for (i, j, counted), apart in zip(line.pairs, line.apart, strict=True):
        word = "apart" if apart else "not apart" if counted else "overlap"
        words.append((f"{letters[i]}{letters[j]} {word}" + (f" (p {counted.p:.2g})" if counted else ""), apart))
    if len(words) == 1:
        return words[0][0].partition(" ")[2]
    return ", ".join(word for word, apart in words if not apart) or "all apart"


def _json(checkpoints: Sequence[Checkpoint], line: Line) -> dict[str, Any]:
    """A line of figures: which are known of which checkpoint, and what each two of them say of each other."""
    kind, handles = line.kind, [checkpoint.handle for checkpoint in checkpoints]
    about = {key: getattr(kind, key) for key in ("attack", "norm", "eps", "n", "size")}
    values = {handle: asdict(figure) for handle, figure in zip(handles, line.figures, strict=True) if figure}
    pairs = [
        {"names": [handles[i], handles[j]], "apart": apart, **_paired(counted)}
        for (i, j, counted), apart in zip(line.pairs, line.apart, strict=True)
    ]
    return {**about, "comparable": not line.word, "note": line.word, "figures": values, "pairs": pairs}


def _paired(counted: PairedCount | None) -> dict[str, Any]:
    """What the same images say of two, all null where their fates are not known."""
    if counted is None:
        return dict.fromkeys(("p", "only_first", "only_second", "difference", "interval_95"))
    return {
        "p": counted.p,
        "only_first": counted.wins,
        "only_second": counted.losses,
        "difference": counted.difference,
        "interval_95": counted.interval,
    }
