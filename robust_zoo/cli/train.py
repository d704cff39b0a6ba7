from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robust_zoo.cli.options import DEVICE, LAUNCHER, SAVE_SECONDS, SLURM, Named, slurm_parameters
from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.training.signals import EXIT_STOPPED
from robust_zoo.training.steps.ways import COMPILE

if TYPE_CHECKING:
    from robust_zoo.training.run import Machine


@click.command("train")
@click.argument("name")
@click.option("--data", help="An .npz; or a directory (or hfds/NAME) with train and val images. See below.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="The run's directory; an interrupted run goes on."
)
@click.option(
    "--recipe",
    "overrides",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A .toml file of recipe fields to change, or an exported .safetensors file whose recipe to repeat.",
)
@click.option("--dry-run", is_flag=True, help="Show the recipe, what it costs and how long it would take here.")
@DEVICE
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "tf32", "bf16", "fp64"]),
    default="auto",
    show_default=True,
    help="auto: bf16 autocast on GPUs and on CPUs that multiply it natively; tf32: products of fp32 numbers, on CUDA.",
)
@click.option("--workers", type=click.IntRange(0), default=4, show_default=True, help="Processes that read images.")
@SAVE_SECONDS(help="Between checkpoints, besides the one after each epoch.")
@click.option("--log-steps", type=click.IntRange(1), default=10, show_default=True, help="Steps a line of the log.")
@click.option(
    "--compile",
    default="auto",
    show_default=True,
    cls=Named,
    table=lambda: COMPILE,
    type=click.Choice([*COMPILE]),
    help="How the passes of a step are run:",
)
@LAUNCHER
@SLURM
def command(
    name: str,
    data: str | None,
    out: Path | None,
    overrides: Path | None,
    dry_run: bool,
    device: str,
    precision: str,
    workers: int,
    save_seconds: float,
    log_steps: int,
    compile: str,
    launcher: str,
    slurm: tuple[str, ...],
) -> None:
    """Train a checkpoint by its recipe, measure it, and export weights, registry row and model card.

    \b
    robust-zoo train resnet18_x0_25_cifar10_l2_eps0_5 --data cifar10.npz --out runs/l2
    robust-zoo train resnet50_l2_eps3 --dry-run
    robust-zoo train resnet50_l2_eps3 --data imagenet --out runs/r50 --launcher slurm --slurm gpus_per_node=8

    Small datasets are one .npz: x_train, x_test (N, H, W, 3) uint8, y_train, y_test (N,) integers. ImageNet is a
    directory with train and val folders of class folders, or train*.tar and val*.tar shards, or hfds/NAME.

    On many GPUs it is the same command in each of torchrun's processes:

    \b
    torchrun --nproc-per-node 8 -m robust_zoo.training resnet50_l2_eps3 --data imagenet --out runs/r50

    SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C save and exit with 75; the same command goes on and ends with the same weights.
    The run's directory holds status.json, log.jsonl (see robust-zoo plot), the last two checkpoints, and at the end
    NAME.safetensors, row.toml and card.md with its picture, card.svg.
    """
    from robust_zoo.training.run import Machine, plan_training, train
    from robust_zoo.training.signals import Stopped

    machine = Machine(device, precision, workers, save_seconds, log_steps, compile=compile)
    if dry_run:
        _show_cost(name, overrides, machine)
        return
    if data is None or out is None:
        missing = " and ".join(option for option, value in (("--data", data), ("--out", out)) if value is None)
        raise UsageError(
            f"{missing} missing",
            model=name,
            expected="--data and --out, or --dry-run",
            actual=f"no {missing}",
            next=f"robust-zoo train {name} --data DATA --out RUN",
        )
    if launcher == "slurm":
        from robust_zoo.training.jobs.slurm import TrainingJob, submit

        plan_training(name, overrides)  # says now what would be said when the job begins
        submitted = submit(TrainingJob(name, data, out, overrides, machine), slurm_parameters(slurm))
        click.echo(submitted.job_id)
        click.echo(f"submitted; its state is in {out / 'status.json'}, its output in {out / 'slurm'}", err=True)
        return
    try:
        weights = train(name, data, out, overrides=overrides, machine=machine)
    except Stopped as stopped:
        click.echo(f"stopped ({stopped}) and saved; the same command goes on", err=True)
        sys.exit(EXIT_STOPPED)
    click.echo(weights)
    click.echo(f"the registry row is in {out / 'row.toml'}, the card in {out / 'card.md'}", err=True)


def _show_cost(name: str, overrides: Path | None, machine: Machine) -> None:
    from robust_zoo.cli.recipe import show
    from robust_zoo.training.cost import cost, images_per_second
    from robust_zoo.training.distributed import join_world
    from robust_zoo.training.run import plan_training

    checkpoint, recipe = plan_training(name, overrides)
    c = cost(checkpoint, recipe)
    show(get(name), recipe)
    click.echo(
        f"{'work':<18} {c.images:,} images x {c.passes} passes x {c.forward_flops / 1e9:.3g} GFLOP = {c.flops:.3g} FLOP"
    )
    with join_world(machine.device) as here:
        click.echo("timing a few steps on random images ...", err=True)
        rate = images_per_second(checkpoint, recipe, here, machine.precision)
        click.echo(f"{'on this device':<18} {c.images / rate / 3600:,.3g} hours ({rate:.3g} images/s on {here.device})")
