"""Files, whole or absent: hashing, writing that survives a crash, and what the disk refuses as an error of ours."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robust_zoo.errors import cannot_write


def sha256_of(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_hashed(path: Path) -> tuple[bytearray, str]:
    """A whole file in memory, and the sha256 of those very bytes: what was hashed is what is used.

    Raises OSError when the file cannot be read, or changes its size while it is.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = bytearray(size)
        if file.readinto(content) != size or file.read(1):
            raise OSError(f"{path} changed while it was read")
    return content, hashlib.sha256(content).hexdigest()


def sync_directory(path: Path) -> None:
    """Makes a rename survive a power cut, where the platform can."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def storage(path: Path, next: str = "") -> Iterator[None]:
    """Turns the disk's refusals into a StorageError that names the path, and the next step."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, next) from error


def write_chunks(path: Path, chunks: Iterable[Any]) -> str:
    """Writes bytes-like `chunks` to `path`, all or nothing; returns the sha256 of what was written.

    `path` holds either what it held or the whole new content, whenever the power goes. Targets that are symbolic links
    are replaced, not followed. Raises OSError; what was there stays.
    """
    digest = hashlib.sha256()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:150]}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp's 0600 would hide a shared cache from its other readers
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return digest.hexdigest()


# The next step where what was done stays done: cells, entries of a ledger.
GO_ON = "free some space and give the same command again: it goes on where it was"


def replace_file(path: Path, content: bytes, next: str = "") -> None:
    """`path` holds either what it held or `content`, whenever the power goes.

    Raises StorageError (exit code 5) naming `next` as the next step when the disk refuses; what was there stays.
    """
    with storage(path, next):
        write_chunks(path, [content])
