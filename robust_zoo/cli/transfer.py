from __future__ import annotations

import json
from pathlib import Path

import click

from robust_zoo.cli.describe import require_directory, select, slurm_parameters
from robust_zoo.errors import UsageError
from robust_zoo.threat import NORMS, ThreatModel, parse_eps

_PATH = click.Path(path_type=Path)


@click.command("transfer")
@click.argument("models", nargs=-1)
@click.option("--data", multiple=True, help="A dataset's name (robust-zoo data list) or an image folder; repeatable.")
@click.option("--root", type=_PATH, default=".", help="Where named datasets lie.")
@click.option("--suite", type=click.Choice(["sample"]), help="Bundled models and images: needs no download.")
@click.option("--protocol", "-p", default="linear", show_default=True, help="linear, finetune, salman2020.")
@click.option("--settings", "settings_file", type=_PATH, help="A TOML file of the protocol's settings.")
@click.option("--quirks", is_flag=True, help="With salman2020: also without each of its quirks, and what it changes.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="So many seeds, from 0.")
@click.option("--norm", type=click.Choice(NORMS), help="With --eps: also attack the transferred models (PGD-20).")
@click.option("--eps", help="A radius, e.g. 0.5 or 4/255.")
@click.option("--out", type=_PATH, default="transfer", show_default=True, help="The cells, one JSON each.")
@click.option("--cache", type=_PATH, help="Of features; the zoo's cache when left out.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that share the work.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--launcher", type=click.Choice(["local", "slurm"]), default="local", show_default=True)
@click.option("--slurm", "parameters", multiple=True, metavar="KEY=VALUE", help="submitit's, e.g. slurm_partition=gpu.")
@click.option("--csv", "csv_file", type=_PATH, help="Also write the table as CSV.")
@click.option("--plot", "picture", type=_PATH, help="Also draw the figures (a .png).")
@click.option("--json", "as_json", is_flag=True, help="The entries as JSON.")
def command(
    models: tuple[str, ...], data: tuple[str, ...], root: Path, suite: str | None, protocol: str,
    settings_file: Path | None, quirks: bool, seeds: int, norm: str | None, eps: str | None, out: Path,
    cache: Path | None, jobs: int, device: str, launcher: str, parameters: tuple[str, ...], csv_file: Path | None,
    picture: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Transfer models to other datasets and compare them.

    \b
    robust-zoo transfer --suite sample --plot transfer.png
    robust-zoo transfer 'resnet50_l2_*' --data pets --data dtd --root DATASETS --seeds 3
    robust-zoo transfer report transfer --csv table.csv --plot figures.png

    MODELS are checkpoints, wildcards, or files that robust-zoo train wrote.

    Protocols: linear (logistic regression on cached features), finetune (the whole network), salman2020 (as the paper
    did it, quirks included). A cell is keyed by weights, images, protocol, settings and seed: what exists is not done
    again, so an interrupted sweep goes on where it was. Nothing is ever chosen on test images, but by salman2020.
    """
    for path in (csv_file, picture):
        if path:
            require_directory(path)
    if models[:1] == ("report",):
        entries = _read(models[1:])
    else:
        if bool(norm) != bool(eps):
            raise UsageError("--norm and --eps go together", expected="both or neither", actual="one of them")
        threat = ThreatModel(norm, parse_eps(eps, norm)) if norm and eps else None
        entries = _run(
            models, data, root, suite, protocol, settings_file, quirks, seeds, threat, out, cache, jobs, device,
            launcher, parameters,
        )  # fmt: skip
    if not entries:
        return
    from robust_zoo.training.transfer import plots, report

    if as_json:
        click.echo(json.dumps(entries, indent=1))
    else:
        click.echo(report.markdown(entries), nl=False)
    if csv_file:
        csv_file.write_text(report.as_csv(entries), encoding="utf-8")
    if picture:
        for file in plots.draw_all(report.figures(entries), picture):
            click.echo(f"figure: {file}", err=True)


def _read(folders: tuple[str, ...]) -> list[dict]:
    from robust_zoo.training.transfer import cells

    if len(folders) != 1:
        raise UsageError(
            "report needs one directory", expected="robust-zoo transfer report DIR", actual=" ".join(folders) or "none",
        )  # fmt: skip
    entries = cells.entries(Path(folders[0]))
    if not entries:
        raise UsageError(
            f"{folders[0]} has no cells", source=folders[0], expected="the --out of a robust-zoo transfer",
            actual="no .json file", next=f"robust-zoo transfer --suite sample --out {folders[0]}",
        )  # fmt: skip
    return entries


def _run(
    models: tuple[str, ...], data: tuple[str, ...], root: Path, suite: str | None, protocol: str,
    settings_file: Path | None, quirks: bool, seeds: int, threat: ThreatModel | None, out: Path, cache: Path | None,
    jobs: int, device: str, launcher: str, parameters: tuple[str, ...],
) -> list[dict]:  # fmt: skip
    if not suite and not (models and data):
        raise UsageError(
            "what is to be transferred, and to what?", expected="MODELS and --data, or --suite sample",
            actual=f"models: {' '.join(models) or 'none'}; data: {' '.join(data) or 'none'}",
            next="robust-zoo transfer --suite sample",
        )  # fmt: skip
    from dataclasses import replace
    from functools import partial

    from robust_zoo.registry.lookup import list_models
    from robust_zoo.training.transfer import sample_suite, sweep
    from robust_zoo.training.transfer.datasets import open_target
    from robust_zoo.weights.cache import cache_root

    machine = sweep.Machine(out, cache or cache_root() / "features", device, jobs)
    if suite:
        rows = select(models) if models else select(list_models(bundled=True))
        return sweep.transfer(rows, sample_suite.TARGETS, replace(sample_suite.PLAN, threat=threat), machine)
    settings = sweep.load_settings(protocol, settings_file)
    if quirks and protocol != "salman2020":
        raise UsageError(
            f"{protocol} has no quirks", expected="--quirks with --protocol salman2020",
            actual=f"--protocol {protocol}", next="robust-zoo transfer --help",
        )  # fmt: skip
    from robust_zoo.training.transfer.protocols.salman2020 import variants

    plans = [
        sweep.Plan(protocol, chosen, threat, range(seeds))
        for chosen in (variants(settings, data) if quirks else [settings])
    ]
    openers = [partial(open_target, name, root) for name in data]
    rows = select(models)
    if launcher == "slurm":
        for plan in plans:
            for job in sweep.submit_all(rows, openers, plan, machine, slurm_parameters(parameters)):
                click.echo(job.job_id)
        return []
    return [entry for plan in plans for entry in sweep.transfer(rows, openers, plan, machine)]
