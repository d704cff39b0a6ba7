"""Files, whole or absent: hashing, writing that survives a crash, and what the disk refuses as an error of ours."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from robust_zoo.errors import UsageError, cannot_write

_SHA256 = re.compile("[0-9a-f]{64}")
LARGEST = 1 << 34  # bytes of one file of weights; a sparse one may say that it has any number

Buffer = bytearray | mmap.mmap
"""A file's content, which tensors may share."""


def open_file(path: Path, limit: int | None = None) -> FileIO:
    """A regular file, to read; what is none is not waited for (a pipe) nor read without end (a device).

    Args:
        path: The file; links are followed.
        limit: The most bytes, None for any number.

    Returns:
        The open file, unbuffered.

    Raises:
        OSError: It cannot be opened, is larger, or is a folder, a pipe, a socket or a device.
    """
    file = FileIO(path, "rb", opener=_without_waiting)
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode) and (limit is None or found.st_size <= limit):
        return file
    file.close()
    if stat.S_ISREG(found.st_mode):
        raise OSError(errno.EFBIG, f"{found.st_size:,} bytes, more than the {limit:,} it can have", str(path))
    raise OSError(errno.EINVAL, f"not a regular file ({stat.filemode(found.st_mode)})", str(path))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def is_sha256(value: object) -> bool:
    """Whether a value is a sha256 as hexdigest writes it: 64 hexadecimal digits in small letters."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def sha256_of(path: Path) -> str:
    """The sha256 of a regular file of at most LARGEST bytes, read in pieces. Raises OSError."""
    with open_file(path, LARGEST) as file:
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
        OSError: The file cannot be read, is no regular one, has more than LARGEST bytes, or changes its size while it
            is read.
    """
    with open_file(path, LARGEST) as file:
        content = buffer(os.fstat(file.fileno()).st_size)
        view, done = memoryview(content), 0
        while read := file.readinto(view[done:]):
            done += read
        if done != len(content) or file.read(1):
            raise OSError(f"{path} changed while it was read")
    return content, hashlib.sha256(content).hexdigest()


def open_in_place(path: Path, flags: int) -> int:
    """Opens a file that is written where it lies, and makes it where it is not; never through a link.

    Args:
        path: The file.
        flags: As os.open takes them.

    Returns:
        A descriptor.

    Raises:
        UsageError: A link, a folder or a pipe has that name.
        StorageError: The disk refused.
    """
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UsageError(
                f"{path.name} is not an ordinary file",
                source=str(path),
                expected="a file, or nothing yet",
                actual="a link" if path.is_symlink() else "a folder" if path.is_dir() else "a pipe or a device",
                next="move it away, or choose another directory",
            )
    with storage(path):
        return os.open(path, flags | os.O_CREAT | safe, 0o644)


def sync_directory(path: Path) -> None:
    """Makes a rename survive a power cut, where the platform can."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def reserve(file: BinaryIO, folder: Path, size: int) -> None:
    """Takes the disk space of a file that is about to be written: a full disk refuses before the work, not in it.

    Args:
        file: Open for writing.
        folder: Where it is.
        size: The bytes that it will have.

    Raises:
        OSError: There is not so much space.
    """
    import shutil  # only where something is written: `list` is to be quick

    if (free := shutil.disk_usage(folder).free) < size:
        raise OSError(errno.ENOSPC, f"{size:,} bytes are needed, {free:,} are free", str(folder))
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV):  # a file system without that
                raise


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
        in_the_way = next == GO_ON and isinstance(error, FileExistsError | NotADirectoryError)
        raise cannot_write(path, error, _IN_THE_WAY if in_the_way else next) from error


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
    import tempfile  # only where something is written, as above

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
_IN_THE_WAY = "choose another place, or move the file away that lies where a directory must be"


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
