from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robust_zoo.cli.options import LAUNCHER, SLURM, Named, collection, require_directory, select, slurm_parameters
from robust_zoo.cli.table import Marks, echo_table
from robust_zoo.errors import UsageError, missing_file, unknown
from robust_zoo.files import GO_ON, replace_file
from robust_zoo.registry.lookup import list_models
from robust_zoo.training.choices import WORK

if TYPE_CHECKING:
    from robust_zoo.registry.rows import Checkpoint
    from robust_zoo.training.plan.kinds import Places
    from robust_zoo.training.plan.plan import Task, WorkPlan

_PATH = click.Path(path_type=Path)
_COLLECTION = "salman2020"
_USUAL = ("train", "evaluate", "fixed-feature", "full-network")


def _cards() -> Mapping[str, Any]:
    from robust_zoo.training.plan.rates import load_rates

    return load_rates().cards


@click.command("plan")
@click.argument("names", nargs=-1)
@collection()
@click.option(
    "--work",
    "-w",
    multiple=True,
    cls=Named,
    table=lambda: WORK,
    help="Only this (repeatable), all but linear when left out:",
)
@click.option("--own", is_flag=True, help="Evaluate and transfer what the runs exported, not the published weights.")
@click.option("--card", default="h200", show_default=True, cls=Named, table=_cards, help="The kind of card:")
@click.option("--cards", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many, a task on each.")
@click.option("--rates", type=_PATH, help="A TOML file with speeds of cards of your own, as training/plan/rates.toml.")
@click.option("--price", type=click.FloatRange(min=0, min_open=True), help="Of a card for an hour.")
@click.option("--data", default="", help="ImageNet, as robust-zoo train takes it; needed to submit.")
@click.option("--root", type=_PATH, help="The folder of the transfer datasets; needed to submit.")
@click.option(
    "--out", type=_PATH, default="runs", show_default=True, help="The folder of runs; cells are in its transfer."
)
@click.option("--results", type=_PATH, default="results", show_default=True, help="The ledger.")
@click.option(
    "--workers", type=click.IntRange(0), default=4, show_default=True, help="Of each task: processes that read images."
)
@click.option("--script", "file", type=_PATH, help="Write it as a Slurm script (a job array) for sbatch.")
@LAUNCHER
@SLURM
@click.option("--json", "as_json", is_flag=True, help="Task by task, as JSON.")
def command(
    names: tuple[str, ...],
    collection: tuple[str, ...],
    work: tuple[str, ...],
    own: bool,
    card: str,
    cards: int,
    rates: Path | None,
    price: float | None,
    file: Path | None,
    launcher: str,
    slurm: tuple[str, ...],
    as_json: bool,
    data: str,
    root: Path | None,
    out: Path,
    results: Path,
    workers: int,
) -> None:
    """Show what the paper's trainings and transfers take, leave out what is done, submit the rest.

    \b
    robust-zoo plan
    robust-zoo plan 'resnet18_*' --work train --cards 8 --price 3
    robust-zoo plan --cards 8 --data imagenet --root DATASETS --script paper.sh --slurm slurm_partition=gpu

    NAMES are checkpoints with a recipe, or wildcards; without any, all of Salman et al. 2020. Hours are reckoned from
    speeds that were measured on the card, with the FLOPs of robust-zoo train --dry-run; the letter beside each says
    from which, and what was measured of the very architecture. They are the card's alone: images must come as fast.

    Done, and left out, is what has an export of the recipe in --out or --results (NAME/NAME.safetensors), an entry in
    the ledger, or a cell in --out or --results. A task is one training, one evaluation, or one checkpoint's transfers
    of a kind, on one card. Nothing is submitted but with --launcher slurm, which submits an array through submitit;
    --script writes the same array as bash. Tasks stopped by a time limit are requeued and go on.
    """
    if file:
        require_directory(file)
    for kind in work:
        if kind not in WORK:
            raise unknown("work", kind, WORK, next="--work {closest}")
    from robust_zoo.training.plan.found import look
    from robust_zoo.training.plan.kinds import Places
    from robust_zoo.training.plan.plan import make_plan
    from robust_zoo.training.plan.rates import load_rates
    from robust_zoo.training.plan.script import script, write_settings

    known = load_rates(rates)
    known.card(card)
    local = data and not data.startswith("hfds/")
    root = root and root.absolute()  # a job may begin in another folder
    places = Places(str(Path(data).absolute()) if local else data, root, out, results, workers)
    checkpoints = _chosen(names, collection)
    plan = make_plan(
        checkpoints, tuple(dict.fromkeys(work)) or _USUAL, look(checkpoints, out, results, own=own), known, card, cards
    )
    parameters = slurm_parameters(slurm)
    if file:
        text = script(plan, places, parameters)
        write_settings(plan, places)
        replace_file(file, text.encode(), GO_ON)
    if launcher == "slurm":
        _submit(plan, places, parameters)
    elif as_json:
        click.echo(json.dumps(plan.as_json(), indent=1))
    else:
        _show(plan, price)
    if file:
        click.echo(f"sbatch {file}   submits {len(plan.ready)} tasks; read it first", err=True)


def _chosen(names: tuple[str, ...], collection: tuple[str, ...]) -> list[Checkpoint]:
    of_collection = list_models(collection=collection or _COLLECTION)
    found = select(names or of_collection)
    kept = [checkpoint for checkpoint in found if not collection or checkpoint.name in of_collection]
    if not kept:
        raise UsageError(
            "no checkpoint is like that",
            expected=f"checkpoints of {' or '.join(collection)}",
            actual=", ".join(names),
            next=f"robust-zoo list --collection {collection[0]}",
        )
    return kept


def _submit(plan: WorkPlan, places: Places, given: Mapping[str, Any]) -> None:
    from robust_zoo.training.jobs.slurm import CommandJob, submit_array
    from robust_zoo.training.plan import script

    jobs = [CommandJob(tuple(command)) for command in script.commands_of(plan, places)]
    found = script.parameters(plan, places, given)
    script.write_settings(plan, places)
    for path in script.missing(plan, places):
        raise missing_file(path, "what the tasks read", "give the folder that is there: --data, --root")
    for job in submit_array(jobs, script.NAME, places.runs / "slurm", found):
        click.echo(job.job_id)
    click.echo(f"submitted; output is in {places.runs / 'slurm'}", err=True)


_HEADER = (
    "work", "architecture", "to do", "done", "images", "FLOP", "images/s", "from", "card-hours", "peak GB", "disk GB",
)  # fmt: skip
_RECKONED = """Reckoned: of those that were measured, off by {error:.1f} x at most. It is a floor, maybe far off, of
networks of depthwise and grouped convolutions, which memory bounds, and of small ones, which wait for the host."""


def _show(plan: WorkPlan, price: float | None) -> None:
    marks, left = Marks(), [task for task in plan.tasks if task.left]
    echo_table([_HEADER, *(_row(group, marks) for group in _grouped(plan.tasks))], "<<>>>>><>>>")
    click.echo("\n" + "\n".join(marks.legend))
    if plan.error and any(not task.speed.measured for task in left):
        click.echo(_RECKONED.format(error=plan.error))
    waiting, disk = sum(task.waits for task in left), sum(task.disk_gb for task in left)
    peak, memory = max((task.peak_gb or 0 for task in left), default=0), plan.card.memory_gb
    fits = f"of {memory:g} a card: it {'fits' if peak < memory else 'does not fit'}"
    words = {
        "card-hours": _hours(plan.hours) + (f", {plan.hours * price:,.0f} at {price:g} an hour" if price else ""),
        "wall clock": f"{_hours(plan.wall_hours)} hours on {plan.cards} x {plan.card.title}, the longest task first",
        "reading": "each card needs its row's images/s: see --workers",
        "memory": f"{peak:.3g} GB at most of those measured, in proportion to the batch, {fits}" if peak else "",
        "disk": f"{disk:,.1f} GB: two checkpoints of each run, with the momentum, and its export" if disk else "",
        "waiting": f"{waiting} tasks, for their trainings: plan again when these are done" if waiting else "",
    }
    click.echo()
    for name, text in words.items():
        if text:
            click.echo(f"{name:<11} {text}")


def _grouped(tasks: Sequence[Task]) -> list[list[Task]]:
    """Those of a kind, an architecture and a speed together, standard trainings apart from adversarial ones."""
    groups: dict[Any, list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.kind, _label(task), task.speed), []).append(task)
    return list(groups.values())


def _label(task: Task) -> str:
    standard = task.kind == "train" and not task.checkpoint.eps
    return task.checkpoint.architecture + (", eps 0" if standard else "")


def _row(group: Sequence[Task], marks: Marks) -> list[str]:
    first = group[0]
    left, done = sum(len(task.left) for task in group), sum(task.done for task in group)
    images, flops, hours = (
        sum(values) for values in zip(*((t.work.images, t.flops, t.hours) for t in group), strict=True)
    )
    disk, peak = sum(task.disk_gb for task in group if task.left), first.peak_gb
    return [
        first.kind, _label(first), f"{left:,}", f"{done:,}", f"{images:.3g}", f"{flops:.3g}",
        f"{images / hours / 3600:,.0f}" if hours else "", marks.of(first.speed.whence), _hours(hours),
        f"{peak:.3g}" if peak else "", f"{disk:,.1f}" if disk else "",
    ]  # fmt: skip


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 or not hours else f"{hours:.2g}"
