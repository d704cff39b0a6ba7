"""One transfer for many processes, where the file system has locks; right without them."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from robust_zoo.files import storage
from robust_zoo.locks import taken
from robust_zoo.owners import own_directory

PATIENCE = 60.0  # seconds without any growth after which another process' lock counts as stale
_ORPHAN_AGE = 86400.0  # seconds
_log = logging.getLogger(__name__)


@contextmanager
def lock(root: Path, name: str, source_file: str = "") -> Iterator[bool]:
    """Holds a checkpoint's lock while its weights are fetched, so that many ranks make one transfer.

    Args:
        root: The cache.
        name: The checkpoint's.
        source_file: The name of its source file, if it is not called by the checkpoint's.

    Yields:
        Whether the lock is held. It is best effort (network file systems may not have one): after a minute in which
        the holder got nowhere, or where locks do not exist, it is False and the caller must not share files.

    Raises:
        StorageError: The disk refused.
    """
    path = root / "downloads" / f"{name}.lock"
    with storage(path):
        own_directory(path.parent)
        if path.is_symlink():  # Windows has no O_NOFOLLOW
            raise OSError(errno.ELOOP, "a link in place of a lock", str(path))
        # never through a link, and never truncated; filelock opens nothing itself
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644), "r+")
    with file:
        yield _acquire(file, root, name, source_file or name)


def sweep(root: Path, name: str, source_file: str) -> None:
    """Deletes what killed processes left of a checkpoint's earlier stores. Call it under the lock.

    A process that gave up on the lock may still be writing, so only what is a day older than the lock's last use goes:
    both times are the file system's, whatever this machine's clock says.

    Args:
        root: The cache.
        name: The checkpoint's.
        source_file: The name of its source file.
    """
    lock_file = root / "downloads" / f"{name}.lock"
    with suppress(OSError):  # tidying must never stand in the way of weights
        os.utime(lock_file)
        now = lock_file.stat().st_mtime
        left = [*_temporary(root, name), *lock_file.parent.glob(f"{source_file}.*.*-*.part")]
        for path in left:
            if now - path.lstat().st_mtime > _ORPHAN_AGE:
                path.unlink()


def _acquire(file: IO[str], root: Path, name: str, source_file: str) -> bool:
    still_since, seen, told = time.monotonic(), None, False
    while not (held := taken(file)):
        if held is None:
            return False
        if not told:
            _log.warning("waiting for another process that fetches %s", name)
            told = True
        sizes = _sizes(root, name, source_file)
        if sizes != seen:
            still_since, seen = time.monotonic(), sizes
        if time.monotonic() - still_since > PATIENCE:
            _log.warning("%s is still locked, going on without the lock", name)
            return False
        time.sleep(0.2)
    return True


def _temporary(root: Path, name: str) -> Iterator[Path]:
    """What is being converted for a checkpoint; the child that converts puts a dot and an ending of its own to it."""
    for dots in (".", ".."):
        yield from (root / "weights").glob(f"{dots}{name}.*.tmp*")


def _sizes(root: Path, name: str, source_file: str) -> dict[str, int]:
    """What grows while this checkpoint is fetched and converted; another's growth is not the holder's."""
    sizes = {}
    for path in (*(root / "downloads").glob(f"{source_file}.*part"), *_temporary(root, name)):
        with suppress(FileNotFoundError):  # its download was just completed
            sizes[path.name] = path.stat().st_size
    return sizes
