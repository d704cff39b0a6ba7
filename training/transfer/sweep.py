"""`robust-zoo transfer`: models x datasets x seeds -> cells, in this process, in several, or on a cluster."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.slurm import submit
from robust_zoo.training.transfer.cells import Cell, fill, images_sha256
from robust_zoo.training.transfer.protocols.finetune import Finetune, finetune
from robust_zoo.training.transfer.protocols.linear import Linear, linear, robust_accuracy, with_head
from robust_zoo.training.transfer.protocols.salman2020 import Salman2020, salman2020
from robust_zoo.training.transfer.task import Outcome, Target
from robust_zoo.weights.ensure import ensure

ROBUST_IMAGES = 1000  # what the robust accuracy of a transferred model is measured on


@dataclass(frozen=True)
class Machine:
    """Where the work is done; nothing here changes a result. cache: of features. jobs: processes."""

    out: Path
    cache: Path
    device: str = "cpu"
    jobs: int = 1
    progress: bool = True


@dataclass(frozen=True)
class Protocol:
    """settings: a frozen dataclass of JSON values. run(row, target, settings, threat, seed, machine) -> Outcome."""

    settings: type
    run: Callable[..., Outcome]
    about: str


def _linear(
    row: Checkpoint, target: Target, settings: Linear, threat: ThreatModel | None, seed: int, machine: Machine
) -> Outcome:
    device = torch.device(machine.device)
    outcome, head = linear(
        row, target, settings, cache=machine.cache, seed=seed, device=device, progress=machine.progress
    )
    return _attacked(outcome, lambda: with_head(row, head).to(device), row, target, threat, machine)


def _finetune(
    row: Checkpoint, target: Target, settings: Finetune, threat: ThreatModel | None, seed: int, machine: Machine
) -> Outcome:
    outcome, model = finetune(
        row, target, settings, cache=machine.cache, seed=seed, device=torch.device(machine.device),
        progress=machine.progress,
    )  # fmt: skip
    return _attacked(outcome, lambda: model, row, target, threat, machine)


def _salman2020(
    row: Checkpoint, target: Target, settings: Salman2020, threat: ThreatModel | None, seed: int, machine: Machine
) -> Outcome:
    device = torch.device(machine.device)
    outcome, model = salman2020(row, target, settings, seed=seed, device=device, progress=machine.progress)
    if threat is not None and settings.target_statistics:
        raise UsageError(
            "robust accuracy is measured behind the source's statistics", model=row.name,
            expected="target_statistics = false in --settings", actual="salman2020 with the target's statistics",
        )  # fmt: skip
    return _attacked(outcome, lambda: model, row, target, threat, machine)


def _attacked(
    outcome: Outcome, model: Callable[[], nn.Module], row: Checkpoint, target: Target, threat: ThreatModel | None,
    machine: Machine,
) -> Outcome:  # fmt: skip
    """With the robust accuracy of the transferred model among its details, if it is asked for."""
    if threat is not None:
        found = robust_accuracy(model(), row, target.test, threat, n=ROBUST_IMAGES, progress=machine.progress)
        outcome.details["robust"] = found
    return outcome


PROTOCOLS: Mapping[str, Protocol] = {
    "linear": Protocol(Linear, _linear, "logistic regression on cached features, chosen on validation images"),
    "finetune": Protocol(Finetune, _finetune, "training all or a part of the network, chosen on validation images"),
    "salman2020": Protocol(Salman2020, _salman2020, "as the paper, quirks included"),
}


@dataclass(frozen=True)
class Plan:
    """protocol: of PROTOCOLS, with its settings. threat: also measure PGD-20 accuracy of the transferred model."""

    protocol: str = "linear"
    settings: Any = field(default_factory=Linear)
    threat: ThreatModel | None = None
    seeds: Sequence[int] = (0,)


def settings_for(protocol: str, values: Mapping[str, Any]) -> Any:
    """The protocol's settings with `values` in place of defaults.

    Raises UsageError for an unknown protocol or field, naming the closest, and for a value of another type.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(
            f"unknown protocol {protocol!r}", expected=f"one of {', '.join(PROTOCOLS)}", actual=repr(protocol),
            next=f"--protocol {difflib.get_close_matches(protocol, PROTOCOLS, n=1, cutoff=0.0)[0]}",
        )  # fmt: skip
    kind = PROTOCOLS[protocol].settings
    default = kind()
    known = [f.name for f in fields(kind)]
    for name, value in values.items():
        wanted = getattr(default, name, None)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise UsageError(
                f"{protocol} has no setting {name!r}", expected=f"one of {', '.join(known)}; closest: {near}",
                actual=f"{name} = {value!r}", next="robust-zoo transfer --help",
            )  # fmt: skip
        if (
            wanted is not None
            and type(value) is not type(wanted)
            and not (type(wanted) is float and type(value) is int)
        ):
            raise UsageError(
                f"{name} = {value!r} is of another type", expected=f"a {type(wanted).__name__}, e.g. {wanted!r}",
                actual=type(value).__name__, next="robust-zoo transfer --help",
            )  # fmt: skip
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def load_settings(protocol: str, file: Path | None) -> Any:
    """The protocol's settings with a TOML file's values in place of defaults; `settings_for`'s errors."""
    if file is None:
        return settings_for(protocol, {})
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot read settings from {file}", source=str(file), expected="a .toml file", actual=str(error),
            next="robust-zoo transfer --help",
        ) from None  # fmt: skip
    return settings_for(protocol, values)


def transfer(
    names: Iterable[str | Checkpoint], targets: Sequence[Callable[[], Target]], plan: Plan, machine: Machine
) -> list[dict[str, Any]]:
    """Fills the cells of every model, dataset and seed; returns their entries in that order.

    names: of checkpoints, or rows (robust_zoo.weights.own.exported makes one of a file of your own).

    targets: opened once in each process. jobs > 1: processes share the work model by model, dataset by dataset, and
    the cores between them; the entries are those of one process, but for their times.
    """
    rows = [get(name) for name in names]
    for row in rows:
        ensure(row)  # fetched once, and before any work is lost
    pairs = [(row, opener) for opener in targets for row in rows]
    if machine.jobs == 1 or len(pairs) == 1:
        open_targets = {opener: opener() for opener in targets}
        work = [partial(_pair, row, open_targets[opener], plan, machine) for row, opener in pairs]
        return [entry for one in _shown(work, machine) for entry in one()]
    threads = max(1, (os.cpu_count() or 1) // machine.jobs)
    with ProcessPoolExecutor(machine.jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        waiting = [pool.submit(_opened, row, opener, plan, machine) for row, opener in pairs]
        return [entry for one in _shown(waiting, machine) for entry in one.result()]


def _shown(work: Sequence[Any], machine: Machine) -> Iterable[Any]:
    return tqdm(work, unit="model", desc="transfer", disable=not machine.progress or len(work) == 1)


def _opened(row: Checkpoint, opener: Callable[[], Target], plan: Plan, machine: Machine) -> list[dict[str, Any]]:
    return _pair(row, opener(), plan, Machine(machine.out, machine.cache, machine.device, progress=False))


@dataclass(frozen=True)
class Job:
    """One model's cells on one dataset, as a cluster's job; taken up again after a preemption, cells are not lost."""

    row: Checkpoint
    opener: Callable[[], Target]
    plan: Plan
    machine: Machine

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def out(self) -> Path:
        return self.machine.out

    def __call__(self) -> list[str]:
        return [entry["model"] for entry in _opened(self.row, self.opener, self.plan, self.machine)]

    def checkpoint(self) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit_all(
    names: Iterable[str | Checkpoint], targets: Sequence[Callable[[], Target]], plan: Plan, machine: Machine,
    parameters: Mapping[str, Any], cluster: str = "slurm",
) -> list[Any]:  # fmt: skip
    """A job for each model and dataset; returns submitit's handles. `robust-zoo transfer report` reads what is done."""
    return [submit(Job(get(n), opener, plan, machine), parameters, cluster) for opener in targets for n in names]


def _pair(row: Checkpoint, target: Target, plan: Plan, machine: Machine) -> list[dict[str, Any]]:
    robust = {"robust": {"norm": plan.threat.norm, "eps": plan.threat.eps, "n": ROBUST_IMAGES}} if plan.threat else {}
    settings = json.loads(json.dumps(asdict(plan.settings) | robust))  # as a cell is read again: lists for tuples
    weights, images = ensure(row).sha256, images_sha256(target)
    run = PROTOCOLS[plan.protocol].run
    found = []
    for seed in plan.seeds:
        cell = Cell(row.name, weights, target.name, images, plan.protocol, settings, seed)
        work = partial(run, row, target, plan.settings, plan.threat, seed, machine)
        found.append(fill(machine.out, cell, row, target, work))
    return found
