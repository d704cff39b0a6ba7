"""Arrays in a cache, each with the hash of its bytes at its end: one that was cut or changed counts as none."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robust_zoo.files import open_file, reserve, storage

if TYPE_CHECKING:
    from torch import Tensor

_DIGEST = hashlib.sha256().digest_size  # bytes
_WIDEST = 1 << 20  # bytes of a row; the widest network has 16 kB


def kept(file: Path, n: int) -> np.ndarray | None:
    """What `store` wrote.

    Args:
        file: Of an array.
        n: Its rows.

    Returns:
        The array, (n, D), mapped and read-only; None when there is nothing, or others than the bytes that were written.
    """
    try:
        with open_file(file, n * _WIDEST) as opened:
            content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # nothing there, or nothing in it
        return None
    array = memoryview(content)[:-_DIGEST]
    if hashlib.sha256(array).digest() != content[-_DIGEST:]:
        return None
    start = len(_header((n, 1)))  # as long for every width: numpy pads it
    width = (len(array) - start) // (4 * n)
    if array[:start] != _header((n, width)) or len(array) != start + 4 * n * width:
        return None
    return np.frombuffer(array, np.float32, offset=start).reshape(n, width)


def _header(shape: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return out.getvalue()


def store(parts: Iterable[Tensor], n: int, file: Path, told: Callable[[int], object]) -> None:
    """Writes an array in parts, whole or not at all; the disk's space is taken when the first one is there.

    Args:
        parts: (B, D) float32 on the CPU each, N rows together.
        n: N.
        file: Where it goes; its folder is made where it is not there.
        told: Called with the rows of each part that was written.

    Raises:
        StorageError: The disk refuses.
    """
    with storage(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".features-", suffix=".tmp")
    temporary, digest, done = Path(name), hashlib.sha256(), 0
    try:
        with os.fdopen(descriptor, "wb") as out:
            for part in parts:
                pieces = [part.numpy().tobytes()]
                if not done:
                    pieces.insert(0, _header((n, part.shape[1])))
                    with storage(file):
                        reserve(out, file.parent, len(pieces[0]) + n * part.shape[1] * 4 + _DIGEST)
                with storage(file):
                    for piece in pieces:
                        out.write(piece)
                        digest.update(piece)
                done += len(part)
                told(len(part))
            assert done == n > 0, "a dataset without images, or one that lost some"
            with storage(file):
                out.write(digest.digest())
                out.flush()
        with storage(file):
            temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
