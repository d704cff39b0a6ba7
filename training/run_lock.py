"""One process trains in a run's directory at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from robust_zoo.errors import UsageError
from robust_zoo.files import open_in_place
from robust_zoo.locks import taken


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Holds the run's directory; a killed process leaves no lock behind.

    Where the file system has no locks, nothing is held.

    Args:
        run: The directory, which must be there.

    Raises:
        UsageError: Another process holds it; the error names the process. Or the lock is a link, a folder or a pipe.
    """
    with os.fdopen(open_in_place(run / "lock", os.O_RDWR), "r+", errors="replace") as file:
        if taken(file) is False:
            raise UsageError(
                "this run is live already",
                source=str(run),
                expected="a run directory that no other process trains in",
                actual=f"held by {_holder(file) or 'another process'}",
                next="wait for it, stop it with SIGTERM (it saves), or choose another --out",
            )
        if os.fstat(file.fileno()).st_nlink == 1:  # not another file by a second name
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        for leftover in run.glob(".*.tmp"):  # of a process that was killed while it wrote
            with suppress(OSError):
                leftover.unlink()
        yield


def _holder(file: IO[str]) -> str:
    """What the process that holds the lock wrote of itself; "" where it cannot be read, as on Windows."""
    try:
        return file.read(200).strip()
    except OSError:
        return ""
