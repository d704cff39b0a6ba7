"""Arrays out of .npz and .npy files of anyone's: no pickle, and what a file declares is compared before it is read."""

from __future__ import annotations

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from robust_zoo.files import open_file
from robust_zoo.readers import Malformed
from robust_zoo.text import printable

LARGEST = 1 << 36  # bytes of one array; nothing in memory is larger
_SMALL = 1 << 28  # bytes that may be packed as tightly as a zip can
_TIGHTEST = 200  # times; images, which are the only large arrays, shrink to a half or a tenth
_HEADER = 10_000  # characters of an array's description, numpy's own limit
_VERSIONS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_BROKEN = (  # ways of zipfile and numpy to say that a file is broken, encrypted, or packed in a way of others
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, EOFError, RuntimeError, ValueError,
    OverflowError, TypeError, KeyError, SyntaxError,
)  # fmt: skip


def read_npz(path: Path, wanted: Iterable[str | tuple[str, ...]]) -> list[np.ndarray]:
    """Some arrays of an .npz file.

    Args:
        path: The file.
        wanted: The arrays' names; where several are given for one, the first that the file has.

    Returns:
        The arrays, in the order of `wanted`.

    Raises:
        Malformed: It is no .npz file, has no such array or two of them, or an array is not what the file declares, is
            larger than any memory, or holds Python objects.
        OSError: The file cannot be read.
    """
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return [_member(archive, names if isinstance(names, tuple) else (names,)) for names in wanted]
        except Malformed:
            raise
        except _BROKEN as error:
            raise Malformed(_words(error)) from None


def read_npy(path: Path) -> np.ndarray:
    """The array of an .npy file.

    Args:
        path: The file.

    Returns:
        The array.

    Raises:
        Malformed: It is no .npy file, is not as long as it declares, or holds Python objects.
        OSError: The file cannot be read.
    """
    with open_file(path) as file:
        try:
            return _array(file, os.fstat(file.fileno()).st_size, path.name)
        except Malformed:
            raise
        except _BROKEN as error:
            raise Malformed(_words(error)) from None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {printable(error, limit=200)}"


def _member(archive: zipfile.ZipFile, names: tuple[str, ...]) -> np.ndarray:
    there = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    name = next((name for name in names if name in there), None)
    if name is None:
        raise Malformed(f"no {names[0]}; it has {printable(', '.join(sorted(there)[:8]), limit=200) or 'nothing'}")
    if there.count(name) > 1:
        raise Malformed(f"two arrays called {name}")
    info = archive.infolist()[there.index(name)]
    if info.file_size > _SMALL and info.file_size > _TIGHTEST * info.compress_size:
        raise Malformed(f"{name}: {info.file_size:,} bytes out of {info.compress_size:,}")
    with archive.open(info) as file:
        return _array(file, info.file_size, name)


def _array(file: IO[bytes], size: int, name: str) -> np.ndarray:
    """size: of what is in `file`, description and all, which the array's shape and type must fill."""
    version = np.lib.format.read_magic(file)
    if version not in _VERSIONS:
        raise Malformed(f"{name}: .npy of version {version}")
    try:
        shape, _, dtype = _VERSIONS[version](file, max_header_size=_HEADER)
    except MemoryError:  # Python's word for a description nested too deep
        raise Malformed(f"{name}: no description of an array") from None
    if dtype.hasobject:
        raise Malformed(f"{name} holds Python objects, which are never loaded")
    if any(side < 0 for side in shape):
        raise Malformed(f"{name} of shape {shape}")
    declared = math.prod(shape) * dtype.itemsize
    if declared > LARGEST or declared != size - file.tell():
        raise Malformed(f"{name} of shape {printable(shape, limit=80)} and {dtype} is not in {size:,} bytes")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False, max_header_size=_HEADER)
