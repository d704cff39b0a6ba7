"""A checkpoint's file, verified: which sources, in which order (pure), and each tried in turn."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from robust_zoo.files import sha256_of, storage
from robust_zoo.registry.places import Place
from robust_zoo.registry.rows import DATA, Checkpoint
from robust_zoo.weights.addresses import join, origin
from robust_zoo.weights.cache import largest, local_directories
from robust_zoo.weights.causes import SourceFailed
from robust_zoo.weights.credentials import MIRROR, Credentials, token
from robust_zoo.weights.first_seen import Seen
from robust_zoo.weights.on_disk import converted_name, local_paths
from robust_zoo.weights.promises import Known, accepted, is_converted, known_by_hub, known_of, promised, require_consent
from robust_zoo.weights.transport import CUTS, Stalled, WrongBytes, download
from robust_zoo.weights.unserved import unserved
from robust_zoo.weights.whereabouts import Source, remote, source_at

_log = logging.getLogger(__name__)
_MIRRORS = "ROBUST_ZOO_MIRRORS"
_unreachable: set[tuple[str, str]] = set()  # origins that did not answer in this run: they are tried last


@dataclass(frozen=True)
class Fetched:
    """A verified file of a checkpoint.

    Attributes:
        path: Where it is.
        sha256: Of its bytes; where it is the checkpoint's converted_sha256, it is converted already.
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

    A published file goes before those that it was converted from: it has fewer bytes, and no pickle.

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
    converted = checkpoint.converted_sha256
    local = [
        Source("local", str(path), sha256=converted if path.name == converted_name(checkpoint) else None)
        for directory in directories
        for path in local_paths(checkpoint, directory)
    ]
    if offline:
        return tuple(local)
    places = [source_at(place) for place in checkpoint.sources]
    if checkpoint.published:
        places.insert(0, replace(source_at(checkpoint.published.place), kind="published"))
    files = {converted_name(checkpoint): converted} if converted else {}
    further = [
        replace(remote("mirror", join(base, quote(file)), _MIRRORS), sha256=sha256)
        for base in extra_mirrors
        for file, sha256 in {**files, checkpoint.file: None}.items()
    ]
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
    """The file of a checkpoint, published or at its source, its bytes verified; sources are tried in turn.

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
    begun: set[Path] = set()
    known, place, asked = known_of(checkpoint, seen), checkpoint.hub, offline
    for source in sources:  # which grows, where one stalls
        try:
            there = source.address or Path(source.location).is_file()
            if place and there and not (known.sha256 or source.sha256 or asked):
                asked, known = True, _by_hub(checkpoint, place, known, failures, remedies)
            if source.kind == "hub" and not (source.sha256 or known.sha256):  # it was asked, and did not say
                continue
            right = accepted(checkpoint, source, known.sha256)
            if not right:
                require_consent(checkpoint, source, allow_unverified)
            if is_remote := bool(source.address):
                wanted = promised(checkpoint, source, known.sha256, known.size)
                path = directory / f"{checkpoint.file}.{(wanted.sha256 or 'unverified')[:12]}{unique}.part"
                begun.add(path)
                with storage(path):
                    directory.mkdir(parents=True, exist_ok=True)
                file = converted_name(checkpoint) if is_converted(checkpoint, wanted.sha256) else checkpoint.file
                label = f"{file} from {source.kind}" if progress else ""
                found, _ = download(source.address, path, wanted, credentials=credentials_for(source), label=label)
                if others := len({failed for failed, _ in failures + wrong} - {source}):
                    text = "%s was served by %s, after %d other source%s failed"
                    _log.warning(text, file, source.location, others, "s" * (others > 1))
                for cut in begun - {path}:  # of another file, which is not needed any more
                    cut.unlink(missing_ok=True)
            else:
                path, found = _take_local(source, right, largest(checkpoint))
            proven = "pinned" if found in checkpoint.hashes or is_converted(checkpoint, found) else known.state
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
    about = (checkpoint, known.sha256, known.state, wrong, failures)
    raise unserved(*about, offline=offline, remedies=filter(None, remedies))


def _by_hub(
    checkpoint: Checkpoint, place: Place, known: Known, failures: list[tuple[Source, str]], remedies: list[str]
) -> Known:
    """What the hub says of the row's file; `known`, and why, where it does not say."""
    hub = source_at(place)
    try:
        return known_by_hub(checkpoint)
    except SourceFailed as error:
        _remember(hub, error)
        remedies.append(_remedy(hub, error))
        failures.append((hub, f"asked for the file's sha256: {error}"))
        return known


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
    told = {"hub": token, "published": token, "mirror": lambda: MIRROR}
    return told.get(source.kind, lambda: None)()


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
