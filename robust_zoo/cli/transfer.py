from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from robust_zoo.cli.options import (
    CACHE_DIR,
    DEVICE,
    JOBS,
    LAUNCHER,
    SAVE_SECONDS,
    SLURM,
    Named,
    require_directory,
    select,
    slurm_parameters,
    threats,
    use_cache,
)
from robust_zoo.cli.transferred import CSV, JSON, PLOT, check_outputs, report, show
from robust_zoo.errors import UsageError, unknown
from robust_zoo.files import GO_ON, replace_file
from robust_zoo.threat import NORMS
from robust_zoo.training import choices

_PATH = click.Path(path_type=Path)


class _RunByDefault(click.Group):
    """`robust-zoo transfer MODELS ...` is `robust-zoo transfer run MODELS ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [*self.commands, *self.get_help_option_names(ctx)]
        return super().parse_args(ctx, args if args and args[0] in words else ["run", *args])


@click.group("transfer", cls=_RunByDefault)
def command() -> None:
    """Transfer models to other datasets and compare them; `run` is what is done when no command is named.

    \b
    robust-zoo transfer --suite sample --plot transfer.png
    robust-zoo transfer 'resnet50_l2_*' --dataset pets --dataset dtd --root DATASETS --seeds 3
    robust-zoo transfer report transfer --csv table.csv --plot figures.png

    robust-zoo transfer run --help   names protocols and options; robust-zoo transfer settings PROTOCOL their settings.
    """


@command.command("run", short_help="Transfer models; the default.")
@click.argument("models", nargs=-1)
@click.option("--dataset", "-d", multiple=True, help="A name of data list, an image folder or hfds/NAME; repeatable.")
@click.option("--data", multiple=True, hidden=True)  # what --dataset was called
@click.option("--root", type=_PATH, default=".", help="Where named datasets lie.")
@click.option("--suite", type=click.Choice(["sample"]), help="Bundled models and images: needs no download.")
@click.option(
    "--protocol", "-p", default="linear", show_default=True, cls=Named, table=lambda: choices.PROTOCOLS, help="How:"
)
@click.option("--settings", "settings_file", type=_PATH, help="A TOML file, as transfer settings shows it.")
@click.option("--quirks", is_flag=True, help="With salman2020: also without each of its quirks, and what it changes.")
@click.option("--seeds", type=click.IntRange(1), help="So many seeds, from 0; one when left out, five of --suite.")
@click.option("--norm", type=click.Choice([*NORMS]), help="With --eps: also attack the transferred models (PGD-20).")
@click.option("--eps", help="A radius, e.g. 0.5 or 4/255.")
@click.option("--out", type=_PATH, default="transfer", show_default=True, help="The cells, one JSON per transfer.")
@CACHE_DIR
@click.option("--cache", hidden=True)  # what --cache-dir was called
@click.option(
    "--keep", is_flag=True, help="Keep each cell's model beside it: model.safetensors in a folder of its name."
)
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that read images.")
@SAVE_SECONDS(help="Of a network or detector in training, between two savings, each after an epoch.")
@JOBS
@DEVICE
@LAUNCHER
@SLURM
@CSV
@PLOT
@JSON
def run(
    models: tuple[str, ...],
    dataset: tuple[str, ...],
    data: tuple[str, ...],
    csv_file: Path | None,
    picture: Path | None,
    as_json: bool,
    cache_dir: str | None,
    cache: str | None,
    **options: Any,
) -> None:
    """Transfer models to other datasets and compare them.

    \b
    robust-zoo transfer --suite sample --plot transfer.png
    robust-zoo transfer 'resnet50_l2_*' --dataset pets --dataset dtd --root DATASETS --seeds 3
    robust-zoo transfer resnet50_l2_eps3 --dataset photos/ --protocol finetune --keep

    MODELS are checkpoints, wildcards, or files that robust-zoo wrote.

    A cell is keyed by weights, images, protocol, settings and seed: what exists is not done again, so an interrupted
    sweep goes on where it was, as does a training within it (--save-seconds). Nothing is ever chosen on test images,
    but by salman2020.
    """
    check_outputs(csv_file, picture)
    use_cache(cache_dir or cache)
    if entries := _entries(models, tuple(dict.fromkeys((*dataset, *data))), **options):
        show(entries, csv_file, picture, as_json)


@command.command("settings", short_help="Show what can be set of a protocol.")
@click.argument("protocol")
@click.option("-o", "--out", type=_PATH, help="Write them to this file, instead of the terminal.")
def settings(protocol: str, out: Path | None) -> None:
    """Show what can be set of a protocol (linear, finetune, salman2020 or detection), as a file for --settings.

    \b
    robust-zoo transfer settings finetune
    robust-zoo transfer settings finetune -o mine.toml
    """
    if protocol not in choices.PROTOCOLS:
        raise unknown("protocol", protocol, choices.PROTOCOLS, next="robust-zoo transfer settings {closest}")
    from robust_zoo.training.transfer.protocols.settings import as_toml
    from robust_zoo.training.transfer.protocols.table import PROTOCOLS

    text = as_toml(PROTOCOLS[protocol].settings)
    if out:
        require_directory(out)
        replace_file(out, text.encode(), GO_ON)
    else:
        click.echo(text, nl=False)


command.add_command(report)


def _entries(
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    *,
    root: Path,
    suite: str | None,
    protocol: str,
    settings_file: Path | None,
    quirks: bool,
    seeds: int | None,
    norm: str | None,
    eps: str | None,
    out: Path,
    keep: bool,
    jobs: int,
    workers: int,
    save_seconds: float,
    device: str,
    launcher: str,
    slurm: tuple[str, ...],
) -> list[dict[str, Any]]:
    """What is transferred, [] when jobs were submitted instead."""
    threat = next(iter(threats(norm, eps)), None)
    if not suite and not (models and datasets):
        raise UsageError(
            "what is to be transferred, and to what?",
            expected="MODELS and --dataset, or --suite sample",
            actual=f"models: {' '.join(models) or 'none'}; datasets: {' '.join(datasets) or 'none'}",
            next="robust-zoo transfer --suite sample",
        )
    from dataclasses import replace
    from functools import partial

    from robust_zoo.registry.lookup import list_models
    from robust_zoo.training.transfer import sample_suite, sweep
    from robust_zoo.training.transfer.protocols.table import PROTOCOLS, load_settings
    from robust_zoo.training.transfer.protocols.work import Workspace
    from robust_zoo.weights.cache import cache_root

    workspace = Workspace(out, cache_root() / "features", device, jobs, keep=keep, save_seconds=save_seconds)
    if suite:
        _check_suite({"--dataset": datasets, "--quirks": quirks, "--launcher slurm": launcher == "slurm"})
        for opener in sample_suite.TARGETS:
            opener()  # what it needs is asked for before any weights are fetched
        checkpoints = select(models) if models else select(list_models(bundled=True))
        plan = replace(sample_suite.SAMPLE_PLAN, threat=threat)
        plan = replace(plan, seeds=range(seeds)) if seeds else plan
        if settings_file or protocol != plan.protocol:
            plan = replace(plan, protocol=protocol, settings=load_settings(protocol, settings_file))
        return sweep.transfer(checkpoints, sample_suite.TARGETS, plan, workspace)
    settings = load_settings(protocol, settings_file)
    variants = PROTOCOLS[protocol].variants
    if quirks and variants is None:
        raise UsageError(
            f"{protocol} has no quirks",
            expected="--quirks with --protocol salman2020",
            actual=f"--protocol {protocol}",
            next="robust-zoo transfer run --help",
        )
    chosen = variants(settings, datasets) if quirks and variants else [settings]
    plans = [sweep.TransferPlan(protocol, each, threat, range(seeds or 1)) for each in chosen]
    openers = [partial(PROTOCOLS[protocol].open, name, root, workers=workers) for name in datasets]
    for number, name in enumerate(datasets):
        if Path(name).is_dir():  # any folder of images: what was taken of it, before the work begins
            target: Any = openers[number]()
            click.echo(f"{name}: {target.note}", err=True)
            if launcher == "local" and jobs == 1:  # other processes open it themselves
                openers[number] = partial(replace, target)
    checkpoints = select(models)
    if launcher == "slurm":
        for plan in plans:
            for job in sweep.submit_all(checkpoints, openers, plan, workspace, slurm_parameters(slurm)):
                click.echo(job.job_id)
        return []
    return [entry for plan in plans for entry in sweep.transfer(checkpoints, openers, plan, workspace)]


def _check_suite(given: Mapping[str, Any]) -> None:
    """Raises UsageError for what a suite does not take."""
    if idle := [name for name, value in given.items() if value]:
        raise UsageError(
            "a suite has its own images, and is run here",
            expected=f"--suite without {' and '.join(idle)}",
            actual=" and ".join(idle),
            next="robust-zoo transfer MODELS --dataset photos/   or robust-zoo transfer --suite sample",
        )
