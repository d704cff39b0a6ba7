"""The error when no source served a file: who was asked, what each said, and what to do, true for that row."""

from __future__ import annotations

from collections.abc import Iterable

from robust_zoo.errors import Unavailable, VerificationFailed, ZooError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.whereabouts import Source, is_overheard

NO_HASH = "no sha256 is known for this file, so it was not used"
OTHER_WAY = "give the file over https (a mirror in ROBUST_ZOO_MIRRORS) or from a disk (a directory in ROBUST_ZOO_PATH)"


def unserved(
    checkpoint: Checkpoint,
    sha256: str | None,
    state: str,
    wrong: list[tuple[Source, str]],
    failures: list[tuple[Source, str]],
    *,
    offline: bool,
    remedies: Iterable[str] = (),
) -> ZooError:
    """The error that names every source tried, with its cause.

    Args:
        checkpoint: Whose file.
        sha256: What it must be, None when unknown.
        state: Where that hash is from; see robust_zoo.weights.verify.VerifiedFile.
        wrong: Sources that served other bytes, and which.
        failures: Sources that served nothing, and why.
        offline: Whether no socket was opened.
        remedies: What may help, in words.

    Returns:
        VerificationFailed when a source served other bytes, else Unavailable.
    """
    model = f"{checkpoint.name} ({checkpoint.file})"
    tried = "; ".join(dict.fromkeys(f"{source}: {cause}" for source, cause in wrong + failures))
    if wrong:
        promises = {source.sha256 or sha256 for source, _ in wrong if source.address} or {sha256, *checkpoint.hashes}
        pinned = {*checkpoint.hashes, checkpoint.converted_sha256}
        expected = [f"sha256 {one} ({'pinned' if one in pinned else state})" for one in promises if one]
        return VerificationFailed(
            f"{checkpoint.name}: other bytes than promised, and no source has the right ones",
            model=model,
            source=tried,
            expected=" or ".join(sorted(expected)),
            actual="; ".join(dict.fromkeys(cause for _, cause in wrong)),
            next=f"robust-zoo info {checkpoint.name}   shows where this hash comes from",
        )
    return Unavailable(
        f"{checkpoint.name} is not cached, and offline mode is on"
        if offline
        else f"no source could serve {checkpoint.name}",
        model=model,
        source=tried or "the cache and ROBUST_ZOO_PATH",
        expected=f"{checkpoint.file}" + (f" with sha256 {sha256}" if sha256 else ""),
        actual="offline: no socket was opened"
        if offline
        else f"failed sources: {len({source for source, _ in failures})}",
        next=_next(
            checkpoint,
            provable=bool(sha256 or checkpoint.hashes or checkpoint.converted_sha256),
            refused=any(cause == NO_HASH for _, cause in failures),
            offline=offline,
            help="; ".join(dict.fromkeys(remedies)),
        ),
    )


def _next(checkpoint: Checkpoint, *, provable: bool, refused: bool, offline: bool, help: str) -> str:
    """What to do when nothing served: with a hash, wait or ask elsewhere; without one, decide whom to trust."""
    command = f"robust-zoo download {checkpoint.name}"
    unverified = f"{command} --allow-unverified"
    if refused and checkpoint.hub:
        first = "go online" if offline else help or "try again later"
        return f"{first}, so that the hub can declare its sha256; or {unverified}   takes the file unproven"
    if refused:
        return (
            f"no sha256 of this file is published: look, or ask, for one at {checkpoint.collection.origin}; or, if you "
            f"trust who serves it, {unverified}   takes the bytes as they come, and no others later"
        )
    if not provable and not (checkpoint.hub and offline):  # asked for as it is, it has to be again
        command = unverified
    if offline and not provable and is_overheard(checkpoint):
        return f"{OTHER_WAY}; then {command}"
    if offline:
        return f"online: {command} (about {checkpoint.download_size / 1e6:,.0f} MB)"
    if help:
        return f"{help}; then {command}"
    return f"{command}   tries again{' and resumes' if provable else ''}; ROBUST_ZOO_MIRRORS adds sources"
