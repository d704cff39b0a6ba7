"""One process trains in a run's directory at a time."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robust_zoo.errors import UsageError
from robust_zoo.files import open_in_place


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
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UsageError(
                    "this run is live already",
                    source=str(run),
                    expected="a run directory that no other process trains in",
                    actual=f"held by {file.read(200).strip() or 'another process'}",
                    next="wait for it, stop it with SIGTERM (it saves), or choose another --out",
                ) from None
        if os.fstat(file.fileno()).st_nlink == 1:  # not another file by a second name
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        for leftover in run.glob(".*.tmp"):  # of a process that was killed while it wrote
            with suppress(OSError):
                leftover.unlink()
        yield
