"""Leaving a run in good order: signals and a vanished launcher, noticed between the steps of whatever takes long."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT")  # schedulers send the first three ahead of a preemption
EXIT_STOPPED = 75  # EX_TEMPFAIL: schedulers take it for "try again", and the same command does go on


class Stopped(Exception):
    """Raised where `Interrupt.poll` found that the run should end; what was begun is thrown away, nothing else."""


class Interrupt:
    """Within `with Interrupt() as interrupt:` signals set `reason` instead of killing; a second SIGINT does kill.

    A process whose launcher (torchrun) was killed would go on for ever beside its own successor, so a changed
    parent counts as a signal.
    """

    def __init__(self) -> None:
        """Notes the launcher; signals are caught within the `with` alone."""
        self.reason = ""
        self._parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for name in _SIGNALS:
                if number := getattr(signal, name, None):  # Windows has no SIGUSR
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name

    def poll(self, *_: object) -> None:
        """Ends what calls it once there is a reason to; takes and ignores what an attack's `watch` is given.

        Raises:
            Stopped: With the reason.
        """
        if self._parent is not None and os.getppid() != self._parent:
            self.reason = self.reason or "the launcher is gone"
        if self.reason:
            raise Stopped(self.reason)
