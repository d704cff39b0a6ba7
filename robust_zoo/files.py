"""Files, whole or absent: hashing, writing that survives a crash, and what the disk refuses as an error of ours."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robust_zoo.errors import cannot_write

Buffer = bytearray | mmap.mmap  # a file's content, which tensors may share


def sha256_of(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def buffer(size: int) -> Buffer:
    """Memory of `size` bytes that belongs to this process alone: no file is mapped, no zeros are written."""
    if not size or not hasattr(mmap, "MAP_ANONYMOUS"):
        return bytearray(size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def copy_of(content: Buffer) -> Buffer:
    """The same bytes in memory of their own."""
    copy = buffer(len(content))
    memoryview(copy)[:] = memoryview(content)
    return copy


def read_hashed(path: Path) -> tuple[Buffer, str]:
    """A whole file in memory, and the sha256 of those very bytes: what was hashed is what is used.

    Args:
        path: The file.

    Returns:
        (content, sha256).

    Raises:
        OSError: The file cannot be read, or changes its size while it is.
    """
    with path.open("rb", buffering=0) as file:
        content = buffer(os.fstat(file.fileno()).st_size)
        view, done = memoryview(content), 0
        while read := file.readinto(view[done:]):
            done += read
        if done != len(content) or file.read(1):
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


def own_directory(path: Path) -> None:
    """Makes a directory, and those above it, that no one else may write to, whatever the umask says.

    Args:
        path: The directory; one that is there stays as it is.

    Raises:
        OSError: The disk refused.
    """
    if not path.is_dir():
        own_directory(path.parent)
        path.mkdir(mode=0o755, exist_ok=True)


def who_else(*paths: Path) -> str:
    """Who besides this user may write to files and directories.

    Args:
        *paths: All of them; links count as what they lead to.

    Returns:
        In words, with the first such path; "" when no one else may but root, or the platform cannot tell.

    Raises:
        OSError: One is not there.
    """
    for path in paths if hasattr(os, "getuid") else ():
        found = path.stat()
        if found.st_uid not in (os.getuid(), 0):
            return f"{path} belongs to user {found.st_uid}"
        if found.st_mode & 0o022:
            return f"others may write to {path} ({stat.filemode(found.st_mode)})"
    return ""


@contextmanager
def storage(path: Path, next: str = "") -> Iterator[None]:
    """Turns the disk's refusals into a StorageError that names the path, and the next step.

    Args:
        path: What the block writes.
        next: What to do about a refusal; advice about the cache when empty.

    Raises:
        StorageError: The block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, next) from error


def write_chunks(path: Path, chunks: Iterable[Any]) -> str:
    """Writes chunks to a file, all or nothing.

    `path` holds either what it held or the whole new content, whenever the power goes. Targets that are symbolic links
    are replaced, not followed.

    Args:
        path: The file.
        chunks: Its content, as bytes-like pieces.

    Returns:
        The sha256 of what was written.

    Raises:
        OSError: The disk refused; what was there stays.
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

    Args:
        path: The file.
        content: The whole new content.
        next: What to do when the disk refuses; advice about the cache when empty.

    Raises:
        StorageError: The disk refused (exit code 5), with `next` as the next step; what was there stays.
    """
    with storage(path, next):
        write_chunks(path, [content])
