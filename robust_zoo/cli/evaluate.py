from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

import click

from robust_zoo.cli.options import DEVICE, JOBS, LAUNCHER, SEED, SLURM, Named, select, slurm_parameters, threats
from robust_zoo.errors import UsageError
from robust_zoo.threat import NORMS
from robust_zoo.training.choices import ATTACKS, CORRUPTED, FP32, IMAGE_SETS, PGD, PRECISIONS


@click.command("evaluate")
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--dataset", "-d", default="", cls=Named, table=lambda: IMAGE_SETS, help="What --data is, where that is not plain:"
)
@click.option("--data", default="", help="The images: a folder of class folders, a .tar, an .npz or hfds/NAME.")
@click.option(
    "--attack",
    "-a",
    cls=Named,
    table=lambda: ATTACKS | PGD | CORRUPTED,
    help="How; autoattack when left out, none for images that are corrupted or in conflict already:",
)
@click.option("--norm", type=click.Choice([*NORMS]), help="With --eps; otherwise what each model was trained for.")
@click.option("--eps", multiple=True, help="A radius, e.g. 0.5 or 4/255; repeat it for a curve.")
@click.option("--n", type=click.IntRange(1), help="So many images, evenly spread; all when left out.")
@click.option(
    "--out",
    "ledger_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default="results",
    show_default=True,
    help="The ledger, a folder.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=250, show_default=True, help="Images at once; one of the settings."
)
@SEED(help="Of what an attack draws at random.")
@click.option("--shard", default="0/1", show_default=True, help="i/k: every k-th thousand images from the i-th.")
@JOBS
@DEVICE
@click.option(
    "--precision",
    type=click.Choice([*PRECISIONS]),
    default=FP32,
    show_default=True,
    cls=Named,
    table=lambda: PRECISIONS,
    help="What products in the network keep; one of the settings:",
)
@LAUNCHER
@SLURM
@click.option("--no-checks", is_flag=True, help="Leave out the checks for figures that mean nothing.")
@click.option("--json", "as_json", is_flag=True, help="The entries as JSON.")
def command(
    names: tuple[str, ...],
    dataset: str,
    data: str,
    attack: str | None,
    norm: str | None,
    eps: tuple[str, ...],
    n: int | None,
    ledger_dir: Path,
    batch_size: int,
    seed: int,
    shard: str,
    jobs: int,
    device: str,
    precision: str,
    launcher: str,
    slurm: tuple[str, ...],
    no_checks: bool,
    as_json: bool,
) -> None:
    """Measure clean and robust accuracy, and keep the evidence in a ledger.

    \b
    robust-zoo evaluate resnet18_x0_25_cifar10_l2_eps0_5 --attack pgd-20
    robust-zoo evaluate resnet18_x0_25_cifar10_l2_eps0_5 --data cifar10.npz --n 1000 --jobs 2
    robust-zoo evaluate resnet18_x0_25_cifar10_l2_eps0_5 -a pgd-20 --norm l2 --eps 0.25 --eps 0.5 --eps 1
    robust-zoo evaluate resnet18_x0_25_cifar10_l2_eps0_5 --attack corruptions --n 250

    NAMES are checkpoints, wildcards, or files that robust-zoo wrote. Without --data it is the bundled
    sample of CIFAR-10. Folders are called as the model's classes are: a WordNet id or any English name.

    An entry is keyed by the sha256 of the weights, of the images and of the attack's settings: what exists is not
    computed again, a killed evaluation goes on where it was, and shards on any machines that share the directory
    join to the same file. robust-zoo report turns a ledger into tables and a picture.

    --attack corruptions and the datasets that are corrupted already give one entry of all conditions, in the ledger's
    folder tables. It depends on no batch; --seed is of --attack corruptions alone.

    --jobs shares the batches of each attack: on a CPU with as many as there are cores, when there are as many batches
    of --batch-size; on a GPU one is best. --launcher slurm submits a job for each model and radius; give --shard 0/4,
    then 1/4 and so on, to share out one of them.
    """
    from robust_zoo.training.evaluation.report import everything
    from robust_zoo.training.evaluation.run import EvaluationPlan, evaluate
    from robust_zoo.training.evaluation.submitted import submit_all

    measured_as_they_are = dataset in IMAGE_SETS and IMAGE_SETS[dataset].table
    attack = attack or ("none" if measured_as_they_are else "autoattack")
    if (attack in CORRUPTED or measured_as_they_are) and (norm or eps):
        again = f"--attack {attack}" if attack in CORRUPTED else f"--dataset {dataset} --data {quote(data or 'DIR')}"
        raise UsageError(
            f"{attack if attack in CORRUPTED else dataset} has no threat model",
            expected="no --norm and no --eps with it",
            actual=" ".join([f"--norm {norm}"] * bool(norm) + [f"--eps {radius}" for radius in eps]),
            next=f"robust-zoo evaluate {quote(names[0])} {again}",
        )
    plan = EvaluationPlan(attack, threats(norm, *eps), n, batch_size, seed, _shard(shard), not no_checks, precision)
    if launcher == "slurm":
        where = (data, dataset, ledger_dir)
        for job in submit_all(select(names), *where, plan, slurm_parameters(slurm), device=device, jobs=jobs):
            click.echo(job.job_id)
        click.echo(f"submitted; what is done is shown by robust-zoo report {ledger_dir}", err=True)
        return
    found = evaluate(select(names), data, dataset, ledger_dir, plan, device=device, jobs=jobs)
    click.echo(json.dumps(found, indent=1) if as_json else everything(found), nl=as_json)
    if plan.shard[1] > 1:
        click.echo(f"shard {shard} is done; entries are complete when all {plan.shard[1]} are", err=True)


def _shard(text: str) -> tuple[int, int]:
    first, _, count = text.partition("/")
    if first.isdigit() and count.isdigit() and int(first) < int(count):
        return int(first), int(count)
    raise UsageError(
        f"--shard {text} is not i/k", expected="i/k with 0 <= i < k, e.g. 0/4 to 3/4", actual=text, next="--shard 0/2"
    )
