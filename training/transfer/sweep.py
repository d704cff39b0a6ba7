"""`robust-zoo transfer`: models x datasets x seeds -> cells, in this process, in several, or on a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from robust_zoo.names import within
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.detection.scenes import DetectionTarget
from robust_zoo.training.distributed import device_of
from robust_zoo.training.jobs.slurm import Requeued, submit
from robust_zoo.training.jobs.workers import Tell, Workers
from robust_zoo.training.transfer.cells import Cell, fill, images_sha256
from robust_zoo.training.transfer.protocols.linear import Linear
from robust_zoo.training.transfer.protocols.table import PROTOCOLS, ROBUST_IMAGES
from robust_zoo.training.transfer.protocols.work import Transfer, Workspace
from robust_zoo.training.transfer.saved import Saved
from robust_zoo.training.transfer.task import Target
from robust_zoo.weights.ensure import Weights, ensure, is_present
from robust_zoo.weights.exported import checkpoint_of


@dataclass(frozen=True)
class TransferPlan:
    """How every model is transferred to every dataset.

    Attributes:
        protocol: A name of `PROTOCOLS`.
        settings: Of that protocol, e.g. `Linear`.
        threat: Also measure the PGD-20 accuracy of the transferred model under it; None for clean accuracy alone.
        seeds: Each gives a cell for each model and dataset.
    """

    protocol: str = "linear"
    settings: Any = field(default_factory=Linear)
    threat: ThreatModel | None = None
    seeds: Sequence[int] = (0,)


def transfer(
    names: Iterable[str | Checkpoint],
    targets: Sequence[Callable[[], Target | DetectionTarget]],
    plan: TransferPlan,
    workspace: Workspace,
) -> list[dict[str, Any]]:
    """Fills the cells of every model, dataset and seed; cells that exist are read.

    With more than one job, processes share the work model by model, dataset by dataset, and the cores between them; the
    entries are those of one process, but for their times. Model by model, so that a file of weights is read and hashed
    once in each process, whatever the number of its cells.

    Args:
        names: Of checkpoints, or files that robust-zoo wrote, or checkpoints.
        targets: Functions that open a dataset, each called once in each process; picklable for more than one job.
        plan: Protocol, settings, threat and seeds.
        workspace: Folders, device and processes.

    Returns:
        The entries of all cells, dataset by dataset, each once: a folder may be named in two ways.

    Raises:
        UnknownCheckpoint: No checkpoint has that name.
        UsageError: The protocol refuses the model, the dataset or the threat.
        VerificationFailed: Weights, images or existing cells are not sound.
        StorageError: The disk refuses a cell or features, or one of the processes was killed.

    Example:
        >>> workspace = Workspace(Path("cells"), Path("features"))
        >>> transfer(["resnet18_l2_eps3"], [digits], TransferPlan(seeds=range(3)), workspace)
    """
    checkpoints = [checkpoint_of(name) for name in names]
    pairs = [(checkpoint, opener) for checkpoint in checkpoints for opener in targets]
    alone = workspace.jobs == 1 or len(pairs) == 1
    open_targets = {opener: opener() for opener in targets if alone}  # what is wrong with them costs no download
    for checkpoint in checkpoints:
        if not is_present(checkpoint):
            ensure(checkpoint)  # fetched once, and before any work is lost
    if alone:
        found = []
        for checkpoint in _shown(checkpoints, workspace, len(checkpoints)):
            weights = ensure(checkpoint)
            found += [_pair(weights, checkpoint, open_targets[opener], plan, workspace) for opener in targets]
    else:
        with Workers(workspace.jobs) as workers:
            done = workers.run(partial(_opened, plan, workspace), pairs, len(pairs))
            found = [entries for _, entries in sorted(_shown(done, workspace, len(pairs)), key=itemgetter(0))]
    by_target = [found[i :: len(targets)] for i in range(len(targets))]
    ordered = [entry for of_target in by_target for entries in of_target for entry in entries]
    return list({Cell.of(entry).stem: entry for entry in ordered}.values())  # reports count seeds by their entries


def _shown(work: Iterable[Any], workspace: Workspace, n: int) -> Iterable[Any]:
    return tqdm(work, unit="model", desc="transfer", total=n, disable=not workspace.progress or n == 1)


@lru_cache(maxsize=1)
def _weights(checkpoint: Checkpoint) -> Weights:
    """In a process that gets pairs one by one, model by model: those of the model it is at."""
    return ensure(checkpoint)


def _opened(
    plan: TransferPlan,
    workspace: Workspace,
    pair: tuple[Checkpoint, Callable[[], Target | DetectionTarget]],
    tell: Tell | None = None,
) -> list[dict[str, Any]]:
    checkpoint, opener = pair
    return _pair(_weights(checkpoint), checkpoint, opener(), plan, replace(workspace, jobs=1, progress=False))


@dataclass(frozen=True)
class TransferJob(Requeued):
    """One model's cells on one dataset, as a cluster's job; taken up again after a preemption, cells are not lost.

    Attributes:
        backbone: The checkpoint; submitit takes the name `checkpoint` for its own.
        opener: Opens the dataset.
        plan: Protocol, settings, threat and seeds.
        workspace: Folders and device.
    """

    backbone: Checkpoint
    opener: Callable[[], Target | DetectionTarget]
    plan: TransferPlan
    workspace: Workspace

    @property
    def name(self) -> str:
        """The job's name on the cluster."""
        return self.backbone.name

    @property
    def out(self) -> Path:
        """The folder that the job writes to."""
        return self.workspace.out

    def __call__(self) -> list[str]:
        return [entry["model"] for entry in _opened(self.plan, self.workspace, (self.backbone, self.opener))]


def submit_all(
    names: Iterable[str | Checkpoint],
    targets: Sequence[Callable[[], Target | DetectionTarget]],
    plan: TransferPlan,
    workspace: Workspace,
    parameters: Mapping[str, Any],
    cluster: str = "slurm",
) -> list[Any]:
    """Submits a job for each model and dataset; `robust-zoo transfer report` reads what is done.

    Args:
        names: Of checkpoints, or files that robust-zoo wrote, or checkpoints.
        targets: Functions that open a dataset; picklable.
        plan: Protocol, settings, threat and seeds.
        workspace: Folders and device.
        parameters: submitit's, of each job.
        cluster: submitit's name of the cluster.

    Returns:
        submitit's handles.
    """
    return [
        submit(TransferJob(checkpoint_of(n), opener, plan, workspace), parameters, cluster)
        for opener in targets
        for n in names
    ]


def _pair(
    weights: Weights, checkpoint: Checkpoint, target: Target | DetectionTarget, plan: TransferPlan, workspace: Workspace
) -> list[dict[str, Any]]:
    robust = {"robust": {"norm": plan.threat.norm, "eps": plan.threat.eps, "n": ROBUST_IMAGES}} if plan.threat else {}
    settings = json.loads(json.dumps(asdict(plan.settings) | robust))  # as a cell is read again: lists for tuples
    PROTOCOLS[plan.protocol].check(target, plan.threat, keep=workspace.keep)
    images, device = images_sha256(target), device_of(workspace.device)
    found = []
    for seed in plan.seeds:
        cell = Cell(checkpoint.name, weights.sha256, target.name, images, plan.protocol, settings, seed)
        kept = within(workspace.out, cell.stem) if workspace.keep else None
        saved = Saved(within(workspace.out, f"{cell.stem}.part"), workspace.save_seconds)
        work = Transfer(checkpoint, weights, target, seed, plan.threat, workspace, device, kept, saved)
        run = partial(PROTOCOLS[plan.protocol].run, work, plan.settings)
        found.append(fill(workspace.out, cell, checkpoint, target, run, kept))
        saved.drop()
    return found
