"""Processes that share work: each is given one task at a time. None outlives this one; one that dies is an error."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from robust_zoo.errors import StorageError, ZooError

Tell = Callable[[Any], None]
"""In a worker: sends word of how far it is."""
Heard = Callable[[int, Any], None]
"""Here: a task's number, and what its worker told."""
_TOLD, _DONE, _FAILED = range(3)
_PATIENCE = 10.0  # seconds until a process whose pipe is closed must have ended
# A scheduler and Ctrl-C tell all processes; what follows is for the one that the others work for.
_NOT_THEIRS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")


class Workers:
    """Processes, started as there is work for them and killed at the end of the `with` that they are used in."""

    def __init__(self, jobs: int) -> None:
        """Args:
        jobs: How many processes, at most.
        """
        self.jobs = jobs
        self._processes: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        begun = [process for process in self._processes.values() if process.pid is not None]
        for process in begun:
            process.kill()
        for process in begun:
            process.join()
        for pipe in self._processes:
            pipe.close()
        self._processes.clear()

    def run(
        self,
        function: Callable[[Any, Tell], Any],
        tasks: Iterable[Any],
        n: int,
        heard: Heard = lambda number, told: None,
    ) -> Iterator[tuple[int, Any]]:
        """Does tasks, each with its share of the cores: all of them, where there is one task.

        Args:
            function: Of a task, and of a function to tell how far it is; found by name in the other process.
            tasks: What it is given; drawn when a process is free.
            n: How many tasks there are.
            heard: Called with each thing that is told.

        Yields:
            A task's number, from 0, and what the function returned, in the order in which they are done.

        Raises:
            StorageError: A process was killed, by the system for want of memory most likely.
            ZooError: Of the function, or a process could not begin.
        """
        most = max(1, min(self.jobs, n))
        share = max(1, torch.get_num_threads() // most)
        waiting, at_work = enumerate(tasks), dict[Connection, int]()

        def hand_out() -> None:
            while len(at_work) < most and (task := next(waiting, None)):
                pipe = next((p for p in self._processes if p not in at_work), None) or self._start()
                self._alive(pipe, partial(pipe.send, (function, task[1], share)))
                at_work[pipe] = task[0]

        hand_out()
        while at_work:
            for pipe in wait([*at_work]):
                assert isinstance(pipe, Connection)
                kind, value = self._alive(pipe, pipe.recv)
                if kind == _FAILED:
                    raise value
                if kind == _TOLD:
                    heard(at_work[pipe], value)
                    continue
                number = at_work.pop(pipe)
                hand_out()
                yield number, value

    def _start(self) -> Connection:
        context = get_context("spawn")
        here, there = context.Pipe()
        process = self._processes[here] = context.Process(target=_work, args=(there,))
        with _signals_blocked():
            process.start()
        there.close()  # its end is closed, then, once the process is gone
        return here

    def _alive(self, pipe: Connection, action: Callable[[], Any]) -> Any:
        """What an action on a process's pipe gives; the error that its end is."""
        try:
            return action()
        except (EOFError, OSError):  # the latter in the midst of a message
            process = self._processes[pipe]
            process.join(_PATIENCE)
        raise _ended(process)


def _ended(process: BaseProcess) -> ZooError:
    code = process.exitcode or 0
    if code < 0:
        return StorageError(
            "a process that shared the work was killed",
            source=f"process {process.pid}",
            expected="memory for every process, until the work is done",
            actual=signal.Signals(-code).name,
            next="the same command again goes on where it was; with fewer --jobs if the system killed it for want of "
            "memory, as SIGKILL mostly means",
        )
    return ZooError(
        "a process that was to share the work ended",
        source=f"process {process.pid}",
        expected="a process that imports the main module, which starts nothing by being imported",
        actual=f"exit code {code}",
        next="in a script of your own, call it below: if __name__ == '__main__':",
    )


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes that are started within inherit it, and never see these signals."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which unblocks some of them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in _NOT_THEIRS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection) -> None:
    """What each process does, until it is killed or its parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # nobody is left to work for
        while True:
            function, task, threads = pipe.recv()
            torch.set_num_threads(threads)
            try:
                answer = _DONE, function(task, lambda value: pipe.send((_TOLD, value)))
            except Exception as error:
                answer = _FAILED, _sendable(error)
            pipe.send(answer)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """An error as it is where that can be sent, else its kind and words; its traceback comes along, for --debug."""
    known = isinstance(error, ZooError | OSError | MemoryError)
    sent = error if known else RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(traceback.format_exc())
    return sent
