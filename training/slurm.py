"""A training as a Slurm job that takes itself up again after a preemption, through submitit (extra: slurm)."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust_zoo.errors import UsageError, not_installed
from robust_zoo.training.run import Machine, train
from robust_zoo.training.signals import Stopped


@dataclass(frozen=True)
class TrainingJob:
    """What each task of the job calls: torchrun's variables from Slurm's, then `train`.

    Attributes:
        name: The checkpoint to train.
        data: The images, as `train` takes them.
        out: The run's directory.
        overrides: A file of recipe values.
        machine: Where and how to run.
    """

    name: str
    data: str
    out: Path
    overrides: Path | None = None
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> str:
        import submitit

        # MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE, LOCAL_RANK
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        try:
            return str(train(self.name, self.data, self.out, overrides=self.overrides, machine=self.machine))
        except Stopped:
            # Saved. submitit's own handler, which is back now, asks for the requeue.
            signal.raise_signal(signal.SIGUSR2)
            raise

    def checkpoint(self) -> Any:
        """submitit calls this on a preemption or a timeout; the run's own checkpoints hold everything."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(job: Any, parameters: Mapping[str, Any], cluster: str = "slurm") -> Any:
    """Submits a job; its logs go to <out>/slurm.

    Args:
        job: A callable with `name`, `out` and submitit's `checkpoint`.
        parameters: submitit's (`slurm_partition`, `gpus_per_node`, `nodes`, `timeout_min`, ...). One task per GPU.
        cluster: submitit's name for where to run: "slurm", or "local" or "debug" for a trial.

    Returns:
        submitit's handle (`job_id`, `state`, `result()`).

    Raises:
        UsageError: submitit is not installed or does not know a parameter.
    """
    try:
        import submitit
    except ImportError:
        raise not_installed("--launcher slurm needs submitit", "submitit", "slurm") from None
    executor = submitit.AutoExecutor(folder=job.out / "slurm", cluster=cluster)
    values = {"name": job.name, "tasks_per_node": parameters.get("gpus_per_node", 1), "timeout_min": 24 * 60}
    try:
        executor.update_parameters(**values | dict(parameters))
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(
            "submitit refuses these parameters",
            expected="submitit's names, e.g. slurm_partition=gpu nodes=1",
            actual=str(error),
            next="robust-zoo train --help",
        ) from None
    return executor.submit(job)
