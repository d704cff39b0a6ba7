"""Which images a dataset holds, by their bytes: each is read and hashed once in a process, by several threads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

_PART = 256  # images that a thread hashes at a time
_SECONDS = 2  # after which a progress bar is shown
_MOST_THREADS = 16


class Digests(dict[int, bytes]):
    """sha256 of images by their index: of the process that read them, so none go to a loader process."""

    def __reduce__(self) -> tuple:
        return Digests, ()


def digests_of(rows: Sequence[int], read: Callable[[int], bytes], known: Digests) -> list[bytes]:
    """The sha256 of images' bytes.

    Args:
        rows: Indices of the images.
        read: index -> the file's bytes; its errors come as they are.
        known: What was hashed before; what is missing is added.

    Returns:
        32 bytes for each of `rows`.
    """

    def hashed(part: Sequence[int]) -> list[tuple[int, bytes]]:
        return [(row, hashlib.sha256(read(row)).digest()) for row in part]

    todo = [row for row in rows if row not in known]
    parts = [todo[start : start + _PART] for start in range(0, len(todo), _PART)]
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(todo), unit="img", desc="hashing images", delay=_SECONDS, leave=False) as bar,
    ):
        try:
            for found in pool.map(hashed, parts):
                known.update(found)
                bar.update(len(found))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [known[row] for row in rows]
