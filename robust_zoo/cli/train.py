from __future__ import annotations

from pathlib import Path

import click


@click.command("train")
@click.argument("name")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="An .npz with x_train, y_train, x_test, y_test."
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The run's directory; an interrupted run goes on."
)
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
    help="auto: bf16 where the CPU multiplies it natively.",
)  # fmt: skip
def command(name: str, data: Path, out: Path, precision: str) -> None:
    """Train a small checkpoint by its recipe, measure it, and export weights and registry row.

    \b
    robust-zoo train resnet18_x0_25_cifar10_l2_eps0_5 --data cifar10.npz --out runs/l2

    x_* are (N, 32, 32, 3) uint8, y_* (N,) integers. Writes state.pt, log.jsonl, NAME.safetensors and row.toml.
    """
    from robust_zoo.training.run import run

    weights = run(name, data, out, precision=precision)
    click.echo(weights)
    click.echo(f"the registry row is in {out / 'row.toml'}", err=True)
