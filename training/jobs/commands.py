"""`robust-zoo` in processes of its own, several at a time on one machine, which all end when this one is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from robust_zoo.training.signals import EXIT_STOPPED


class Commands:
    """Those that run at the moment.

    Attributes:
        threads: Of each process, where OMP_NUM_THREADS does not say; many processes of many threads stand in queues.
        stopped: Whether they were told to end.
    """

    def __init__(self, threads: int = 1) -> None:
        """Args:
        threads: Of each process.
        """
        self.threads, self.stopped = threads, False
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = Lock()

    def stop_on_signals(self) -> None:
        """SIGTERM and Ctrl-C tell all of them to end from here on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def stop(self) -> None:
        """Tells all of them to end, and starts no more."""
        self.stopped = True
        for child in list(self._children):
            child.terminate()

    def robust_zoo(self, arguments: Sequence[object], output: Path) -> int:
        """Runs a command.

        Args:
            arguments: Of `robust-zoo`.
            output: The file that its words are appended to; its folder is made where it is not there.

        Returns:
            Its exit code; EXIT_STOPPED once all were told to end.
        """
        command = [sys.executable, "-m", "robust_zoo", *map(str, arguments)]
        environment = {"OMP_NUM_THREADS": str(self.threads), **os.environ}
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("ab") as file:
            with self._lock:
                if self.stopped:
                    return EXIT_STOPPED
                child = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
                self._children.add(child)
            if self.stopped:  # while it was started
                child.terminate()
            code = child.wait()
        self._children.discard(child)
        return EXIT_STOPPED if self.stopped else code


@dataclass(frozen=True)
class Training:
    """A run of `robust-zoo train`.

    Attributes:
        base: The checkpoint whose recipe is followed.
        recipe: TOML, the fields in which its recipe differs.
        data: What `--data` takes.
        out: The run's directory; what the command prints is in its output.txt.
        more: Further words of the command.
    """

    base: str
    recipe: str
    data: Path
    out: Path
    more: tuple[str, ...] = ()

    def by(self, commands: Commands) -> int:
        """Trains it where that is not done.

        Args:
            commands: What runs it.

        Returns:
            The exit code, 0 where it was done.
        """
        if (self.out / "row.toml").exists():  # the last file that a training writes
            return 0
        self.out.mkdir(parents=True, exist_ok=True)
        recipe = self.out / "recipe.toml"
        recipe.write_text(self.recipe, encoding="utf-8")
        words = ["train", self.base, "--data", self.data, "--out", self.out, "--recipe", recipe, *self.more]
        return commands.robust_zoo(words, self.out / "output.txt")


def train_all(trainings: Sequence[Training], jobs: int) -> Iterator[tuple[Training, int]]:
    """Trains what is not done; told to stop, all save, none is begun, and the same call goes on later.

    Args:
        trainings: In the order in which they are begun.
        jobs: Processes at a time, which share the cores.

    Yields:
        Each in its order, with its exit code: 0, or EXIT_STOPPED where it was told to stop.
    """
    commands = Commands(max(1, (os.cpu_count() or 1) // jobs))
    commands.stop_on_signals()
    with ThreadPoolExecutor(jobs) as pool:
        yield from zip(trainings, pool.map(lambda training: training.by(commands), trainings), strict=True)
