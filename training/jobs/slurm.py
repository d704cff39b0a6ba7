"""Trainings and commands as Slurm jobs that take themselves up again after a preemption (extra: slurm)."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust_zoo.errors import UsageError, ZooError, not_installed
from robust_zoo.training.run import Machine, train
from robust_zoo.training.signals import Stopped

_TIMEOUTS = 1000  # after which submitit gives a job up: a training may take many times the limit of a queue


class Requeued(ABC):
    """A job that is begun again after a preemption or a timeout: what it did is on the disk, and goes on from there."""

    @abstractmethod
    def __call__(self) -> Any:
        """The work."""

    def checkpoint(self) -> Any:
        """What submitit calls then: the same job, once more."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class TrainingJob(Requeued):
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


@dataclass(frozen=True)
class CommandJob(Requeued):
    """One command of `robust-zoo` as a job, begun again after a preemption: its runs, cells and entries go on.

    Attributes:
        arguments: Of robust-zoo.
        program: What they are given to.
    """

    arguments: tuple[str, ...]
    program: tuple[str, ...] = (sys.executable, "-m", "robust_zoo")

    def __call__(self) -> None:
        child, warned = subprocess.Popen([*self.program, *self.arguments]), False

        def warn(*_: Any) -> None:
            nonlocal warned
            warned = True
            child.send_signal(signal.SIGUSR2)

        before = signal.signal(signal.SIGUSR2, warn)  # submitit's own would ask for the requeue while it still saves
        try:
            code = child.wait()
        finally:
            signal.signal(signal.SIGUSR2, before)
        if code and warned:  # not after a SIGTERM alone: who cancels a job does not want it back
            signal.raise_signal(signal.SIGUSR2)
        if code:
            raise ZooError(f"robust-zoo {shlex.join(self.arguments)} ended with {code}: see the job's error output")


def submit(job: Any, parameters: Mapping[str, Any], cluster: str = "slurm") -> Any:
    """Submits a job; its logs go to <out>/slurm.

    Args:
        job: A Requeued with `name` and `out`, to be called.
        parameters: submitit's (`slurm_partition`, `gpus_per_node`, `nodes`, `timeout_min`, ...). One task per GPU.
        cluster: submitit's name for where to run: "slurm", or "local" or "debug" for a trial.

    Returns:
        submitit's handle (`job_id`, `state`, `result()`).

    Raises:
        UsageError: submitit is not installed or does not know a parameter.
    """
    return _executor(job.name, job.out / "slurm", parameters, cluster).submit(job)


def submit_array(
    jobs: Sequence[Any], name: str, folder: Path, parameters: Mapping[str, Any], cluster: str = "slurm"
) -> list[Any]:
    """Submits jobs as one array, in their order.

    Args:
        jobs: Each a Requeued, to be called.
        name: Of the array.
        folder: Of its logs.
        parameters: As `submit` takes them; `slurm_array_parallelism` is how many run at a time.
        cluster: As `submit` takes it.

    Returns:
        submitit's handles.

    Raises:
        UsageError: As `submit`.
    """
    executor = _executor(name, folder, parameters, cluster)
    with executor.batch():
        return [executor.submit(job) for job in jobs]


def _executor(name: str, folder: Path, parameters: Mapping[str, Any], cluster: str) -> Any:
    try:
        import submitit
    except ImportError:
        raise not_installed("--launcher slurm needs submitit", "submitit", "slurm") from None
    values = {"name": name, "tasks_per_node": parameters.get("gpus_per_node", 1), "timeout_min": 24 * 60}
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=_TIMEOUTS)
        executor.update_parameters(**values | dict(parameters))
    except (AssertionError, NameError, TypeError, ValueError) as error:
        raise UsageError(
            "submitit refuses these parameters",
            expected="submitit's names, e.g. slurm_partition=gpu nodes=1",
            actual=str(error),
            next="robust-zoo train --help",
        ) from None
    except RuntimeError as error:  # no srun here
        raise UsageError(
            "this is no machine of a Slurm cluster",
            expected="srun and sbatch on PATH",
            actual=str(error),
            next="give the command on a login node of the cluster",
        ) from None
    return executor
