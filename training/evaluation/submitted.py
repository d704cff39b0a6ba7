"""An evaluation as jobs of a cluster, which take themselves up again after a preemption."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.evaluation.datasets import require_dataset
from robust_zoo.training.evaluation.run import EvaluationPlan, check_attack, evaluate, threats_of
from robust_zoo.training.jobs.slurm import Requeued, submit
from robust_zoo.weights.exported import checkpoint_of


@dataclass(frozen=True)
class EvaluationJob(Requeued):
    """One model under one threat model; what a preempted job did is in the ledger's parts.

    Attributes:
        model: The checkpoint; submitit takes the name `checkpoint` for its own.
        data: The images, as `evaluate` takes them.
        dataset: The same.
        out: The ledger.
        plan: Attack, threat model and number of images.
        device: "auto", "cpu", "cuda" or "cuda:N".
        jobs: Processes that share the job's work.
    """

    model: Checkpoint
    data: str
    dataset: str
    out: Path
    plan: EvaluationPlan
    device: str = "auto"
    jobs: int = 1

    @property
    def name(self) -> str:
        """The job's name on the cluster."""
        return self.model.name

    def __call__(self) -> list[str]:
        found = evaluate([self.model], self.data, self.dataset, self.out, self.plan, device=self.device, jobs=self.jobs)
        return [entry["model"] for entry in found]


def submit_all(
    names: Iterable[str | Checkpoint],
    data: str,
    dataset: str,
    ledger_dir: Path,
    plan: EvaluationPlan,
    parameters: Mapping[str, Any],
    *,
    device: str = "auto",
    jobs: int = 1,
    cluster: str = "slurm",
) -> list[Any]:
    """Submits a job for each model and threat model; `robust-zoo report` reads what is done.

    Args:
        names: Of checkpoints, or files that robust-zoo wrote, or checkpoints.
        data: The images, as `evaluate` takes them.
        dataset: The same.
        ledger_dir: The ledger; the jobs' logs lie in its folder slurm.
        plan: Attack, threat models and number of images.
        parameters: submitit's, of each job.
        device: Of each job.
        jobs: Processes that share the work of each.
        cluster: submitit's name of the cluster.

    Returns:
        submitit's handles.

    Raises:
        UsageError: Before anything is submitted, for unknown attacks and datasets, and a model without a radius where
            the plan gives no threat model; for parameters that submitit refuses.
    """
    check_attack(plan.attack, dataset)
    models = [*map(checkpoint_of, names)]
    for model in models if dataset else []:
        require_dataset(dataset, data, model)
    work = [(model, threat) for model in models for threat in threats_of(model, plan)]
    found = [
        EvaluationJob(model, data, dataset, ledger_dir, replace(plan, threats=(threat,)), device, jobs)
        for model, threat in work
    ]
    return [submit(job, parameters, cluster) for job in found]
