"""An untrusted file, read once into memory of the contained process; the last reading gives that back as it goes."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from robust_zoo.files import LARGEST
from robust_zoo.weights.child import open_once

_PIECE = 1 << 24  # bytes that are read at once, so that no more of them is there twice
_WORTH = 1 << 16  # bytes that are worth a system call to let go of


@dataclass(frozen=True)
class Content:
    """The bytes of a file, whatever happens to the file.

    Attributes:
        file: They, in memory without a name; where a system has none, in a temporary file without one.
        size: How many.
        sha256: Of these very bytes.
    """

    file: BinaryIO
    size: int
    sha256: str

    def start(self, size: int) -> bytes:
        """The first bytes, `size` or fewer."""
        self.file.seek(0)
        return self.file.read(size)

    def mapped(self) -> mmap.mmap:
        """The bytes, not copied; what is written into them is the caller's own."""
        return mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY)

    def drained(self) -> BinaryIO:
        """The bytes, to read once more: the memory of what was read is given back, so that a copy takes its place."""
        self.file.seek(0, os.SEEK_END)  # it forgets what it read ahead, and where it would go back to when it is closed
        return io.BufferedReader(_Drained(self.file.fileno(), closefd=False), 1)  # nothing ahead: all is read once


def read_once(source: Path, limit: int = LARGEST) -> Content:
    """Reads a file once; what is hashed is what is looked at.

    Args:
        source: The file.
        limit: The most bytes that are taken.

    Returns:
        Its content. Its memory is given back when `file` is closed.

    Raises:
        Refused: It cannot be opened, or is no ordinary file.
        MemoryError: It has more bytes.
        OSError: It cannot be read, or there is no memory.
    """
    file, digest, size = _nameless(), hashlib.sha256(), 0
    try:
        with open_once(source) as untrusted:
            while chunk := untrusted.read(1 << 20):
                if (size := size + len(chunk)) > limit:
                    raise MemoryError
                digest.update(chunk)
                file.write(chunk)
        file.flush()
    except BaseException:
        file.close()
        raise
    return Content(file, size, digest.hexdigest())


def _nameless() -> Any:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("checkpoint"), "w+b")
    return tempfile.TemporaryFile()  # who reads it closes it


class _Drained(io.FileIO):
    """A file in memory that lets go of the pages that were read, in parts that are worth it; each is read once."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._descriptor = super().fileno()
        self._gone = bytearray(os.fstat(self._descriptor).st_size // mmap.PAGESIZE + 1)  # of each page, whether it is
        self.seek(0)

    def fileno(self) -> int:
        raise io.UnsupportedOperation("all is read by readinto")

    def readinto(self, into: Any, /) -> int:
        begin = self.tell()
        count = super().readinto(memoryview(into).cast("B")[:_PIECE]) or 0
        end = begin + count
        if any(self._gone[begin // mmap.PAGESIZE : -(-end // mmap.PAGESIZE)]):
            raise OSError("two parts of the file lie in one place")
        first, last = -(-begin // mmap.PAGESIZE), end // mmap.PAGESIZE  # whole pages
        if count >= _WORTH and hasattr(mmap, "MADV_REMOVE"):
            with suppress(OSError, ValueError):  # a kernel without that keeps them
                self._let_go(first, last - first)
        return count

    def _let_go(self, first: int, pages: int) -> None:
        with mmap.mmap(self._descriptor, pages * mmap.PAGESIZE, offset=first * mmap.PAGESIZE) as part:
            part.madvise(mmap.MADV_REMOVE)
        self._gone[first : first + pages] = b"\1" * pages
