"""Several trainings at a time on one machine, each by `robust-zoo train` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from robust_zoo.training.signals import Interrupt

_PAUSE = 0.2  # seconds between two looks


@dataclass(frozen=True)
class Training:
    """One of them.

    Attributes:
        base: The checkpoint whose recipe is followed.
        recipe: TOML, the fields in which its recipe differs.
        data: What `--data` takes.
        out: The run's directory; what the command prints is in its output.txt.
    """

    base: str
    recipe: str
    data: Path
    out: Path

    @property
    def row(self) -> Path:
        """The last file that a training writes, beside its weights: there when it is done."""
        return self.out / "row.toml"


def train_all(trainings: Sequence[Training], jobs: int) -> Iterator[tuple[Training, int]]:
    """Trains what is not done yet; processes share the cores between them.

    A signal that asks this process to stop is passed on: all save, none is begun, and the same call goes on later.

    Args:
        trainings: In the order in which they are begun.
        jobs: Processes at a time.

    Yields:
        Each as it ends, with the exit status of its command: 0, or signals.EXIT_STOPPED where it was told to stop.
    """
    waiting, running = list(trainings), dict[Training, "subprocess.Popen[bytes]"]()
    threads = max(1, (os.cpu_count() or 1) // jobs)  # many processes of many threads stand in queues
    with Interrupt() as interrupt:
        try:
            while running or (waiting and not interrupt.reason):
                while waiting and len(running) < jobs and not interrupt.reason:
                    training = waiting.pop(0)
                    if training.row.exists():
                        yield training, 0
                    else:
                        running[training] = _begun(training, threads)
                if interrupt.reason:
                    _stop(running.values())  # once more at each look: to be told twice is to be told once
                for training, process in list(running.items()):
                    if (status := process.poll()) is not None:
                        del running[training]
                        yield training, status
                time.sleep(_PAUSE)
        finally:
            _stop(running.values())


def _begun(training: Training, threads: int) -> subprocess.Popen[bytes]:
    training.out.mkdir(parents=True, exist_ok=True)
    recipe = training.out / "recipe.toml"
    recipe.write_text(training.recipe, encoding="utf-8")
    words = ["train", training.base, "--data", training.data, "--out", training.out, "--recipe", recipe]
    with (training.out / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "robust_zoo", *map(str, words)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": str(threads), **os.environ},
        )


def _stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
