"""`robust-zoo` in processes of one thread each, which all end when this one is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from robust_zoo.training.signals import EXIT_STOPPED


class Processes:
    """Those that run at the moment.

    Attributes:
        stopped: Whether they were told to end.
    """

    def __init__(self) -> None:
        self.stopped = False
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
            output: The file that its words are appended to.

        Returns:
            Its exit code; EXIT_STOPPED once all were told to end.
        """
        command = [sys.executable, "-m", "robust_zoo", *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
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
