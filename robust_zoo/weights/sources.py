"""A checkpoint's source file, verified: which sources, in which order (pure), and each tried in turn."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from robust_zoo.files import sha256_of, storage
from robust_zoo.registry.rows import DATA, Checkpoint
from robust_zoo.weights.addresses import join, origin
from robust_zoo.weights.cache import largest, local_directories
from robust_zoo.weights.causes import SourceFailed
from robust_zoo.weights.credentials import MIRROR, Credentials, token
from robust_zoo.weights.declared import declared
from robust_zoo.weights.first_seen import Seen
from robust_zoo.weights.on_disk import local_paths
from robust_zoo.weights.transport import CUTS, Expected, Stalled, WrongBytes, download
from robust_zoo.weights.unserved import NO_HASH, OTHER_WAY, unserved
from robust_zoo.weights.whereabouts import Source, remote, source_at

_log = logging.getLogger(__name__)
_MIRRORS = "ROBUST_ZOO_MIRRORS"
_unreachable: set[tuple[str, str]] = set()  # origins that did not answer in this run: they are tried last


@dataclass(frozen=True)
class Fetched:
    """A verified source file.

    Attributes:
        path: Where it is.
        sha256: Of its bytes.
        state: How far its origin is proven; see robust_zoo.weights.verify.VerifiedFile.
        source: Where its bytes came from.
        temporary: Whether it is ours to delete after use.
    """

    path: Path
    sha256: str
    state: str
    source: str
    temporary: bool


def is_offline() -> bool:
    """Whether ROBUST_ZOO_OFFLINE or HF_HUB_OFFLINE is set to something true."""
    truths = {"1", "true", "yes", "on"}
    return any(os.environ.get(v, "").strip().lower() in truths for v in ("ROBUST_ZOO_OFFLINE", "HF_HUB_OFFLINE"))


def mirrors() -> tuple[str, ...]:
    """ROBUST_ZOO_MIRRORS: further base addresses, separated by spaces or commas."""
    return tuple(base for base in re.split(r"[\s,]+", os.environ.get(_MIRRORS, "")) if base)


def sources_for(
    checkpoint: Checkpoint, *, directories: Sequence[Path], extra_mirrors: Sequence[str], offline: bool
) -> tuple[Source, ...]:
    """The sources of a checkpoint, in the order in which they are tried.

    Args:
        checkpoint: Whose file.
        directories: Local ones that may have it.
        extra_mirrors: Base addresses, besides the collection's.
        offline: Without those that need a socket.

    Returns:
        The sources.
    """
    if checkpoint.bundled:
        return (Source("bundled", str(DATA / checkpoint.file)),)
    local = [Source("local", str(path)) for directory in directories for path in local_paths(checkpoint, directory)]
    if offline:
        return tuple(local)
    places = [source_at(place) for place in checkpoint.sources]
    further = [remote("mirror", join(base, quote(checkpoint.file)), _MIRRORS) for base in extra_mirrors]
    return (*local, *places, *further)


def fetch(
    checkpoint: Checkpoint,
    directory: Path,
    *,
    offline: bool = False,
    allow_unverified: bool = False,
    progress: bool = True,
    unique: str = "",
    seen: Seen | None = None,
) -> Fetched:
    """The source file of a checkpoint, its bytes verified; sources are tried in turn.

    Args:
        checkpoint: Whose file.
        directory: Where downloads are kept while they arrive (resumable by another process).
        offline: Open no socket.
        allow_unverified: Also take a file for which no hash is known anywhere.
        progress: Show a bar on stderr.
        unique: A suffix for the partial file, when another process may be writing the usual one.
        seen: What was seen first of a file without a public hash: only that is taken.

    Returns:
        The file.

    Raises:
        VerificationFailed: A source served other bytes, and none the right ones (exit code 1); OtherFile, when what is
            right is what was seen first.
        Unavailable: No source served the file (exit code 3); the sources and causes are in the error.
        StorageError: The disk refused (exit code 5).
    """
    planned = sources_for(checkpoint, directories=local_directories(), extra_mirrors=mirrors(), offline=offline)
    sources = sorted(planned, key=_goes_last)
    failures: list[tuple[Source, str]] = []
    remedies: list[str] = []
    wrong: list[tuple[Source, str]] = []
    sha256, size, state = checkpoint.sha256, checkpoint.size, "pinned"
    if sha256 is None:
        state = "unverified" if checkpoint.has_public_hash else "first-seen"
        if seen:
            sha256 = seen.sha256  # and no size: of another file the hash shall be known
        elif not offline and (place := checkpoint.hub):
            try:
                promise = declared(checkpoint)
                sha256, size, state = promise.sha256, promise.size, "hub-declared"
            except SourceFailed as error:
                hub = source_at(place)
                _remember(hub, error)
                remedies.append(_remedy(hub, error))
                failures.append((hub, f"asked for the file's sha256: {error}"))
                sources = [source for source in sources if source.kind != "hub"]
    for source in sources:  # which grows, where one stalls
        try:
            accepted = _accepted(checkpoint, source, sha256)
            if not accepted:
                _require_consent(source, allow_unverified)
            if is_remote := bool(source.address):
                wanted = promised(checkpoint, source, sha256, size)
                path = directory / f"{checkpoint.file}.{(wanted.sha256 or 'unverified')[:12]}{unique}.part"
                with storage(path):
                    directory.mkdir(parents=True, exist_ok=True)
                label = f"{checkpoint.file} from {source.kind}" if progress else ""
                found, _ = download(source.address, path, wanted, credentials=credentials_for(source), label=label)
                if others := len({failed for failed, _ in failures + wrong} - {source}):
                    text = "%s was served by %s, after %d other source%s failed"
                    _log.warning(text, checkpoint.file, source.location, others, "s" * (others > 1))
            else:
                path, found = _take_local(source, accepted, largest(checkpoint))
            proven = "pinned" if found in checkpoint.hashes else state
            return Fetched(path, found, proven, source.location, temporary=is_remote)
        except SourceFailed as error:
            _remember(source, error)
            remedies.append(_remedy(source, error))
            failures.append((source, str(error)))
            if isinstance(error, Stalled) and sources.count(source) < CUTS:
                sources.append(source)  # its turn comes again, after the others'
        except OSError as error:  # of a local file; a disk that refuses a download is a StorageError
            failures.append((source, f"cannot be read: {error.strerror or error}"))
        except WrongBytes as error:
            wrong.append((source, f"sha256 {error.sha256} ({error.size:,} bytes)"))
            if sum(bool(failed.address) for failed, _ in wrong) == 1 and source.address:
                sources.append(source)  # a bit may have flipped on the way: once more, after the others
    if seen and wrong:
        source, cause = wrong[0]
        raise seen.other(checkpoint, source.location, cause.removeprefix("sha256 "))
    raise unserved(checkpoint, sha256, state, wrong, failures, offline=offline, remedies=filter(None, remedies))


def _goes_last(source: Source) -> bool:
    try:
        return origin(source.address or source.location) in _unreachable
    except ValueError:  # an address that is none: its turn will say so
        return False


def _remember(source: Source, error: SourceFailed) -> None:
    """A source that did not answer for one file makes the next ones wait as long: until the run ends it goes last."""
    import requests

    if isinstance(error.__cause__, (requests.ConnectionError, requests.Timeout)):
        _unreachable.add(origin(source.address))


def _remedy(source: Source, error: SourceFailed) -> str:
    return error.remedy.replace(
        "its address", f"the address in {source.variable}" if source.variable else "its address"
    )


def credentials_for(source: Source) -> Credentials | None:
    """What a source is told: the hub a token, a mirror what its address holds, and the hosts of rows nothing."""
    return {"hub": token, "mirror": lambda: MIRROR}.get(source.kind, lambda: None)()


def _accepted(checkpoint: Checkpoint, source: Source, sha256: str | None) -> frozenset[str]:
    """The hashes that a file of this source may have, none where nobody knows one.

    On a disk it may be any file of the row; elsewhere the row says which.
    """
    known = (source.sha256 or sha256,) if source.address else (sha256, *checkpoint.hashes)
    return frozenset(filter(None, known))


def promised(checkpoint: Checkpoint, source: Source, sha256: str | None, size: int | None) -> Expected:
    """What is known of the file of a source.

    Args:
        checkpoint: Whose file.
        source: Where; what it has of its own counts there.
        sha256: Of the checkpoint's file, by the row or the hub.
        size: In bytes, of the same.

    Returns:
        What a download from there must be.
    """
    if source.sha256 in (None, sha256):
        return Expected(sha256, size, size or largest(checkpoint))
    return Expected(source.sha256, None, largest(checkpoint))


def _require_consent(source: Source, allow_unverified: bool) -> None:
    """Raises SourceFailed for a file whose hash nobody knows, unless it was asked for and no one else can change it."""
    if source.is_overheard:
        raise SourceFailed(
            "plain http, and no sha256 of the file is known: anyone on the way could change it, so it was not asked",
            OTHER_WAY,
        )
    if not allow_unverified and (source.address or Path(source.location).is_file()):
        raise SourceFailed(NO_HASH)


def _take_local(source: Source, accepted: frozenset[str], limit: int) -> tuple[Path, str]:
    path = Path(source.location)
    if not path.is_file():
        raise SourceFailed("no such file")
    if (size := path.stat().st_size) > limit:  # sparse, perhaps: reading it could take for ever
        raise WrongBytes(f"not looked at, for it is larger than {limit:,} bytes", size)
    found = sha256_of(path)
    if accepted and found not in accepted:
        raise WrongBytes(found, path.stat().st_size)
    return path, found
