"""Locks on open files, between processes: filelock's primitive on a descriptor that we opened ourselves."""

from __future__ import annotations

from typing import IO, Any


def taken(file: IO[Any]) -> bool | None:
    """Tries to lock an open file, without waiting; closing it, or the end of the process, frees it.

    filelock opens nothing here, so it is the opener who sees to it that a link is not followed and that nothing is
    truncated. Its lock is flock's, on Windows LockFileEx's of the first byte.

    Args:
        file: The file.

    Returns:
        True when it is ours now, False while another has it, None where the platform or the file system has no locks.
    """
    from filelock import lock_descriptor

    try:
        return lock_descriptor(file.fileno(), blocking=False)
    except OSError:
        return None
