"""One HTTP download: resumable, bounded, hashed while it streams. Knows nothing of checkpoints."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from robust_zoo.errors import StorageError, cannot_write
from robust_zoo.files import is_sha256, sha256_of
from robust_zoo.weights.addresses import shown
from robust_zoo.weights.asked import opened
from robust_zoo.weights.causes import SourceFailed, explained
from robust_zoo.weights.credentials import Credentials
from robust_zoo.weights.http import request
from robust_zoo.weights.pages import WebPage

if TYPE_CHECKING:
    import requests

_log = logging.getLogger(__name__)
CUTS = 5  # tries at one source, as long as they make progress
_CHUNK = 1 << 16  # bytes; what arrived of a chunk that is cut is lost, so not more


class WrongBytes(Exception):
    """The source served a whole file with another hash.

    Args:
        sha256: Of what was served.
        size: Its bytes.
    """

    def __init__(self, sha256: str, size: int) -> None:
        super().__init__(sha256, size)
        self.sha256, self.size = sha256, size


class Stalled(SourceFailed):
    """The source stopped in the middle. What arrived is kept: another one can go on, or this one later."""


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it arrives.

    Attributes:
        sha256: None when unknown.
        size: In bytes, None when unknown.
        limit: The most bytes that are ever read.
        room: How many times its size the disk needs, with what it is converted to.
    """

    sha256: str | None
    size: int | None
    limit: int
    room: float = 1.6  # a .ckpt, and its half as safetensors


def download(
    url: str, part: Path, expected: Expected, *, credentials: Credentials | None = None, label: str = ""
) -> tuple[str, int]:
    """Streams an address into a file, going on where an earlier try stopped.

    What is on the disk is hashed again at the end: where locks lie, another process may have written there too.

    Args:
        url: The address.
        part: The file; without an expected hash it is not resumed.
        expected: What is known of it.
        credentials: For the address's origin.
        label: Shown on the progress bar on stderr; no bar when empty.

    Returns:
        (sha256, bytes).

    Raises:
        SourceFailed: The source cannot serve the file (Stalled: it stopped in the middle); the part is kept.
        WrongBytes: It served another file; the part is gone.
        StorageError: The disk refused; the part is kept.
    """
    import requests
    from urllib3.exceptions import ReadTimeoutError

    if expected.sha256 is None or part.is_symlink():
        part.unlink(missing_ok=True)
    for attempt in range(CUTS):
        resumed = _size(part)
        try:
            sha256, size = _transfer(url, part, expected, credentials, label)
            stored = sha256_of(part) if part.exists() else None
        except requests.exceptions.RequestException as error:
            if _size(part) > resumed and expected.sha256:
                if any(isinstance(inner, ReadTimeoutError) for inner in error.args):  # as requests wraps it in a body
                    raise explained(error, url, Stalled) from error
                if attempt < CUTS - 1:
                    continue
            raise explained(error, url) from error
        except OSError as error:
            raise cannot_write(part, error) from error
        except ValueError as error:  # a length that is no number, an address that is none
            raise SourceFailed(f"malformed answer: {error}") from error
        if expected.sha256 in (None, sha256):
            if stored == sha256:
                return sha256, size
            continue
        part.unlink(missing_ok=True)
        if not resumed:  # else: the earlier part may be of another file; once more from the start
            raise WrongBytes(sha256, size)
    raise SourceFailed(f"no whole file in {CUTS} attempts")


def _transfer(url: str, part: Path, expected: Expected, credentials: Credentials | None, label: str) -> tuple[str, int]:
    import requests
    from tqdm import tqdm

    have = _size(part)
    if have > expected.limit:
        part.unlink()
        have = 0
    if have and have == expected.size:  # whole, but its process ended before the rename
        return sha256_of(part), have
    with opened() as session:
        session.hooks["response"] = [partial(_compare_declared, expected)]
        response = request(session, url, have, credentials)
        with response:
            total = _total(response, have, expected)
            if response.status_code != 206:
                have = 0
            _check_space(part, int(expected.room * (total or expected.limit)) - have)
            bar = tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc=label, disable=not label, file=sys.stderr
            )
            with _open(part) as file, bar:
                digest, size = _hash_of(file, have), have
                for chunk in _body(response, first=not have):
                    size += len(chunk)
                    if size > expected.limit:
                        raise SourceFailed(f"sends more than {expected.limit:,} bytes")
                    file.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
                if total is not None and size != total:
                    raise requests.exceptions.ConnectionError(f"cut after {size:,} of {total:,} bytes")
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
    return digest.hexdigest(), size


def _body(response: requests.Response, *, first: bool) -> Iterator[bytes]:
    for chunk in response.iter_content(_CHUNK):
        if first and chunk.lstrip()[:1] == b"<":
            raise WebPage(chunk)
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


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _open(part: Path) -> IO[bytes]:
    """For writing at an offset: never through a link, and what is there stays until better bytes have arrived.

    Neither appended to nor truncated: a part's name holds its file's hash, so two processes that write to it put the
    same bytes at the same places.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(part, flags, 0o644), "r+b")


def _hash_of(file: IO[bytes], size: int) -> hashlib._Hash:
    """The digest of the first `size` bytes; leaves the file positioned after them."""
    digest, left = hashlib.sha256(), size
    file.seek(0)
    while chunk := file.read(min(left, 1 << 20)):
        digest.update(chunk)
        left -= len(chunk)
    file.seek(size)
    return digest


def _compare_declared(expected: Expected, response: requests.Response, *_: Any, **__: Any) -> None:
    declared = response.headers.get("x-linked-etag", "").strip('"')
    if expected.sha256 and is_sha256(declared) and declared != expected.sha256:
        _log.warning(
            "%s declares sha256 %s; %s is expected and decides", shown(str(response.url)), declared, expected.sha256
        )


def _check_space(part: Path, needed: int) -> None:
    if needed > (free := shutil.disk_usage(part.parent).free):
        raise StorageError(
            f"not enough space for {part.name}",
            source=str(part.parent),
            expected=f"{needed:,} bytes free (the file and its conversion)",
            actual=f"{free:,} bytes free",
            next="make room (robust-zoo cache prune), or set ROBUST_ZOO_CACHE to another disk",
        )
