"""What the file of a source must be: as the row says, or the hub; and what is done where nobody says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.cache import largest
from robust_zoo.weights.causes import SourceFailed
from robust_zoo.weights.declared import declared
from robust_zoo.weights.first_seen import Seen
from robust_zoo.weights.transport import Expected
from robust_zoo.weights.unserved import NO_HASH, OTHER_WAY
from robust_zoo.weights.whereabouts import Source


@dataclass(frozen=True)
class Known:
    """What is known of a checkpoint's own file, at whichever source it has no hash of its own.

    Attributes:
        sha256: None where nobody says.
        size: In bytes, None when unknown.
        state: How far its origin is proven; see robust_zoo.weights.verify.VerifiedFile.
    """

    sha256: str | None
    size: int | None
    state: str


def known_of(checkpoint: Checkpoint, seen: Seen | None) -> Known:
    """What the row says of its file, or what was seen first.

    Args:
        checkpoint: Whose file.
        seen: What was seen first of a file without a public hash.

    Returns:
        What is known.
    """
    if checkpoint.sha256:
        return Known(checkpoint.sha256, checkpoint.size, "pinned")
    if seen:  # and no size: of another file the hash shall be known
        return Known(seen.sha256, checkpoint.size, "first-seen")
    return Known(None, checkpoint.size, "unverified" if checkpoint.has_public_hash else "first-seen")


def known_by_hub(checkpoint: Checkpoint) -> Known:
    """What the hub says of a row's file at the pinned revision; one question is asked.

    Args:
        checkpoint: Whose file.

    Returns:
        What the hub declares.

    Raises:
        SourceFailed: It does not say.
    """
    said = declared(checkpoint)
    return Known(said.sha256, said.size, "hub-declared")


def is_converted(checkpoint: Checkpoint, sha256: str | None) -> bool:
    """Whether a file with this sha256 is what the checkpoint's converts to: the published file, wherever it lies."""
    return sha256 is not None and sha256 == checkpoint.converted_sha256


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
    if not is_converted(checkpoint, source.sha256):
        return Expected(source.sha256, None, largest(checkpoint))
    size = checkpoint.published.size if checkpoint.published else None
    return Expected(source.sha256, size, size or largest(checkpoint), room=2)  # it is converted too, to itself


def accepted(checkpoint: Checkpoint, source: Source, sha256: str | None) -> frozenset[str]:
    """The hashes that a file of a source may have.

    On a disk it may be any file of the row; elsewhere the row says which.

    Args:
        checkpoint: Whose file.
        source: Where.
        sha256: Of the checkpoint's file, by the row or the hub.

    Returns:
        Hashes, none where nobody knows one.
    """
    alone = source.address or source.sha256
    return frozenset(filter(None, (source.sha256 or sha256,) if alone else (sha256, *checkpoint.hashes)))


def require_consent(checkpoint: Checkpoint, source: Source, allow_unverified: bool) -> None:
    """That a file whose hash nobody knows may be taken.

    Args:
        checkpoint: Whose file. Where it is known what it converts to, that proves it.
        source: Where.
        allow_unverified: Whether it was asked for.

    Raises:
        SourceFailed: It was not asked for, or anyone on the way could change it.
    """
    if checkpoint.converted_sha256:
        return
    if source.is_overheard:
        raise SourceFailed(
            "plain http, and no sha256 of the file is known: anyone on the way could change it, so it was not asked",
            OTHER_WAY,
        )
    if not allow_unverified and (source.address or Path(source.location).is_file()):
        raise SourceFailed(NO_HASH)
