"""One HTTP download: resumable, bounded, hashed while it streams. Knows nothing of checkpoints."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robust_zoo.errors import StorageError, cannot_write
from robust_zoo.http import SourceFailed, get

if TYPE_CHECKING:
    import requests

_CUTS = 5  # resumes at one source that make progress
_CHUNK = 1 << 16  # bytes; what arrived of a chunk that is cut is lost, so not more


class WrongBytes(Exception):
    """The source served a whole file with another hash."""

    def __init__(self, sha256: str, size: int) -> None:
        super().__init__(sha256, size)
        self.sha256, self.size = sha256, size


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it arrives. limit: the most bytes that are ever read."""

    sha256: str | None
    size: int | None
    limit: int


def download(
    url: str, part: Path, expected: Expected, *, headers: Mapping[str, str], label: str = ""
) -> tuple[str, int]:
    """Streams `url` into `part`, going on where an earlier try stopped; returns (sha256, bytes).

    label: shown on the progress bar on stderr; none when empty. Without an expected hash nothing is resumed.

    Raises SourceFailed, WrongBytes or StorageError; after WrongBytes the part is gone, otherwise it is kept.
    """
    import requests

    if expected.sha256 is None:
        part.unlink(missing_ok=True)
    for attempt in range(_CUTS):
        resumed = part.stat().st_size if part.exists() else 0
        try:
            sha256, size = _transfer(url, part, expected, headers, label)
        except (requests.exceptions.RequestException, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, requests.exceptions.RequestException):
                raise cannot_write(part, error) from error
            grown = part.stat().st_size - resumed if part.exists() else 0
            if grown > 0 and attempt < _CUTS - 1 and expected.sha256:
                continue
            raise SourceFailed(_cause(error)) from error
        if expected.sha256 in (None, sha256):
            return sha256, size
        part.unlink()
        if not resumed:  # else: the earlier part may be of another file; once more from the start
            raise WrongBytes(sha256, size)
    raise SourceFailed(f"the connection broke {_CUTS} times")


def _transfer(url: str, part: Path, expected: Expected, headers: Mapping[str, str], label: str) -> tuple[str, int]:
    import requests
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    if have > expected.limit:
        part.unlink()
        have = 0
    if have and have == expected.size:  # whole, but its process ended before the rename
        return _hash_of(part).hexdigest(), have
    with requests.Session() as session:
        response = get(session, url, headers, have)
        with response:
            total = _total(response, have, expected)
            if response.status_code != 206:
                have = 0
            digest = _hash_of(part) if have else hashlib.sha256()
            _check_space(part, total or expected.limit, have)
            bar = tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc=label, disable=not label, file=sys.stderr
            )
            with part.open("ab" if have else "wb") as file, bar:
                size = have
                for chunk in _body(response, first=not have):
                    size += len(chunk)
                    if size > expected.limit:
                        raise SourceFailed(f"sends more than {expected.limit:,} bytes")
                    file.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
                file.flush()
                os.fsync(file.fileno())
    if total is not None and size != total:
        raise requests.exceptions.ConnectionError(f"cut after {size:,} of {total:,} bytes")
    return digest.hexdigest(), size


def _body(response: requests.Response, *, first: bool) -> Iterator[bytes]:
    for chunk in response.iter_content(_CHUNK):
        if first and chunk.lstrip()[:1] == b"<":
            raise SourceFailed("looks like an HTML page, not a file")
        first = False
        yield chunk


def _total(response: requests.Response, have: int, expected: Expected) -> int | None:
    """The whole file's size as this answer implies it; refused when that is not the size promised."""
    length = response.headers.get("content-length", "")
    if not length.isdigit():
        return expected.size
    total = int(length) + (have if response.status_code == 206 else 0)
    if expected.size is not None and total != expected.size:
        raise SourceFailed(f"offers {total:,} bytes instead of {expected.size:,}")
    if total > expected.limit:
        raise SourceFailed(f"offers {total:,} bytes, more than {expected.limit:,}")
    return total


def _hash_of(part: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest


def _check_space(part: Path, total: int, have: int) -> None:
    needed, free = int(1.6 * total) - have, shutil.disk_usage(part.parent).free  # the file, and its half as safetensors
    if needed > free:
        raise StorageError(
            f"not enough space for {part.name}",
            source=str(part.parent),
            expected=f"{needed:,} bytes free (the file and its conversion)",
            actual=f"{free:,} bytes free",
            next="make room (robust-zoo cache prune), or set ROBUST_ZOO_CACHE to another disk",
        )


def _cause(error: BaseException) -> str:
    """The innermost reason in one line: a TLS, DNS or proxy failure is named, not the wrapper around it."""
    text = type(error).__name__
    proxy = " (a proxy variable is set)" if "Proxy" in text else ""
    inner = getattr(error, "args", ())
    while inner and isinstance(inner[0], BaseException):
        error = inner[0]
        error = getattr(error, "reason", None) or error
        inner = error.args if isinstance(error, BaseException) else ()
    return f"{text}: {str(error)[:160]}{proxy}"
