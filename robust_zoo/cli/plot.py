from __future__ import annotations

from pathlib import Path

import click

from robust_zoo.cli.options import require_picture


@click.command("plot")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The picture; RUN/curves.png when left out.")
def command(runs: tuple[Path, ...], output: Path | None) -> None:
    """Draw the curves of a training, or of several on top of each other.

    \b
    robust-zoo plot runs/l2
    robust-zoo plot runs/l2 runs/linf -o both.png

    Loss of the images trained on, and clean, single-step and PGD-10 accuracy on held-out images after each epoch.
    """
    from robust_zoo.training.figures.curves import plot

    if output:
        require_picture(output)
    output = output or runs[0] / "curves.png"
    plot(runs, output)
    click.echo(output)
