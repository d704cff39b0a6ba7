"""JSON, TOML and tar files of anyone's: size, depth and numbers are bounded before the rest of the package sees them.

What is wrong with a file is a `Malformed`, a ValueError in plain words of which the caller makes an error of its own;
what the disk refuses stays an OSError.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from robust_zoo.files import open_file
from robust_zoo.text import printable

if TYPE_CHECKING:  # imported where a tar file is read: `list` is to be quick
    import tarfile

SMALL = 1 << 20  # bytes of a text that people or this package write
_DEPTH = 64  # tables within tables
_LARGEST = 1 << 63  # whole numbers stay below
_CODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_SURROGATE = re.compile("[\ud800-\udfff]")


class Malformed(ValueError):
    """A file's content is not what it should be; the message says why, in words that are printable."""


def read_bytes(path: Path, limit: int = SMALL) -> bytes:
    """A whole small file.

    Args:
        path: A regular file: neither a folder, a pipe nor a device.
        limit: The most bytes.

    Returns:
        Its content.

    Raises:
        Malformed: It is larger; nothing of it was read.
        OSError: The file cannot be read.
    """
    with open_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > limit:
            raise Malformed(f"{size:,} bytes, more than the {limit:,} that such a file can have")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise Malformed(f"more than the {limit:,} bytes that such a file can have")
    return content


def read_text(source: Path | bytes, limit: int = SMALL) -> str:
    """A small file's text, or that of its bytes.

    Args:
        source: The file, or its content.
        limit: The most bytes.

    Returns:
        The text, without a byte order mark.

    Raises:
        Malformed: It is larger, or not UTF-8.
        OSError: The file cannot be read.
    """
    content = source if isinstance(source, bytes) else read_bytes(source, limit)
    if len(content) > limit:
        raise Malformed(f"{len(content):,} bytes, more than the {limit:,} that it can have")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        coding = _CODINGS.get(content[:2], "not UTF-8")
        raise Malformed(f"{coding} text where UTF-8 is wanted (byte {error.start:,})") from None


def read_json(source: Path | bytes | str, kind: type = dict, *, limit: int = SMALL, finite: bool = True) -> Any:
    """JSON of known kind, in which no key stands twice.

    Args:
        source: The file, its bytes, or a text out of another file.
        kind: What the outermost value is: dict or list.
        limit: The most bytes.
        finite: Refuse NaN and Infinity, which are no JSON, though Python writes them.

    Returns:
        The value.

    Raises:
        Malformed: It is larger, not UTF-8, not JSON or of another kind, nested more than 64 deep; a key stands twice, a
            whole number has more than 63 bits, another is not finite, a text is no Unicode.
        OSError: The file cannot be read.
    """
    text = source if isinstance(source, str) else read_text(source, limit)
    if len(text) > limit:
        raise Malformed(f"{len(text):,} characters, more than the {limit:,} that it can have")
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except Malformed:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Malformed(f"not JSON: {printable(error, limit=200)}" if text.strip() else "empty, not JSON") from None
    if not isinstance(value, kind):
        raise Malformed(f"JSON of type {type(value).__name__}, not {kind.__name__}")
    return _sound(value, finite)


def read_toml(path: Path, *, limit: int = SMALL // 4, finite: bool = True) -> dict[str, Any]:
    """A TOML file.

    Args:
        path: The file.
        limit: The most bytes.
        finite: Refuse nan and inf.

    Returns:
        Its outermost table.

    Raises:
        Malformed: It is larger, not UTF-8, not TOML, nested more than 64 deep; a whole number has more than 63 bits,
            another is not finite.
        OSError: The file cannot be read.
    """
    text = read_text(path, limit)
    try:
        return _sound(tomllib.loads(text), finite)
    except Malformed:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Malformed(f"not TOML: {printable(error, limit=200)}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no key stands twice: readers differ in which of the two they take."""
    if len(table := dict(pairs)) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(f"the key {printable(twice, limit=80)!r} stands twice")
    return table


def _sound(value: Any, finite: bool) -> Any:
    """The same value, walked through without recursion."""
    level, depth = [value], 0
    while level:
        if (depth := depth + 1) > _DEPTH:
            raise _too_deep()
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                inner += item
            elif finite and isinstance(item, float) and not math.isfinite(item):
                raise Malformed(f"a number that is not finite: {item}")
            elif isinstance(item, int) and not -_LARGEST < item < _LARGEST:
                raise Malformed(f"a whole number of {item.bit_length():,} bits, where 63 are the most")
            elif isinstance(item, str) and _SURROGATE.search(item):
                raise Malformed(f"a text that is no Unicode: {printable(item, limit=80)}")
        level = inner
    return value


def _too_deep() -> Malformed:
    return Malformed(f"nested more than {_DEPTH} deep")


class _Headers:
    """A tar file that is read in pieces no larger than a header can be: headers say themselves how long they are."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= SMALL:
            raise Malformed(f"a header of {size:,} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset < 0:
            raise Malformed(f"a member at byte {offset:,}")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def open_tar(path: Path) -> Iterator[tuple[tarfile.TarFile, Iterator[tarfile.TarInfo]]]:
    """An uncompressed tar file and its members; nothing is unpacked, and no member is read before it is asked for.

    Args:
        path: The file.

    Yields:
        The open file, whose `extractfile(member).read(n)` takes n up to 1 MiB, and its members in order, each of which
        lies within the file; names are as they were written, which may be anything. They end where the file's end is
        marked.

    Raises:
        Malformed: It is no tar file, cut short, or a member is longer than the file, of negative size, or sparse.
        OSError: The file cannot be read.
    """
    import tarfile

    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with tarfile.open(fileobj=_Headers(file), mode="r:") as tar:  # type: ignore[call-overload]
                yield tar, _members(tar, file, size)
        except Malformed:
            raise
        except (tarfile.TarError, EOFError, OverflowError, RecursionError, UnicodeError) as error:
            raise Malformed(f"not a sound tar file: {printable(error, limit=200)}") from None


def _ends(tar: tarfile.TarFile, file: IO[bytes]) -> bool:
    block = 512  # bytes, in every tar file
    file.seek(tar.offset)
    return file.read(block) == bytes(block)


def _members(tar: tarfile.TarFile, file: IO[bytes], size: int) -> Iterator[tarfile.TarInfo]:
    while True:
        try:
            member = tar.next()
        except Malformed:
            raise
        except ValueError as error:  # of numbers in broken headers
            raise Malformed(f"not a sound tar file: {printable(error, limit=200)}") from None
        if member is None:
            if not _ends(tar, file):  # tarfile takes a damaged header for the end
                raise Malformed(f"no end mark at byte {tar.offset:,}: cut short or damaged there")
            return
        if member.issparse():
            raise Malformed(f"{printable(member.name, limit=80)} is sparse")
        if member.isreg() and not 0 <= member.size <= size - member.offset_data:
            raise Malformed(f"{printable(member.name, limit=80)} of {member.size:,} bytes goes beyond the file's end")
        yield member
