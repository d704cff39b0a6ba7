"""What the hub says of a file, and how much of it counts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from robust_zoo.files import is_sha256
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.addresses import is_private
from robust_zoo.weights.cache import largest
from robust_zoo.weights.causes import SourceFailed
from robust_zoo.weights.credentials import token
from robust_zoo.weights.http import head
from robust_zoo.weights.whereabouts import source_at


@dataclass(frozen=True)
class Declared:
    """What the hub says of a file at the pinned revision.

    Attributes:
        sha256: Of its bytes.
        size: In bytes, None when it does not say.
    """

    sha256: str
    size: int | None


def declared(checkpoint: Checkpoint) -> Declared:
    """Asks the hub for the sha256 and size it records for the file at the pinned revision (LFS metadata).

    Args:
        checkpoint: Whose file.

    Returns:
        What the hub declares.

    Raises:
        SourceFailed: It does not answer, or answers for another revision or without a sha256.
    """
    place = checkpoint.hub
    if place is None:
        raise SourceFailed("it is not on the hub")
    hub = source_at(place)
    answer = head(hub.address, token())
    if not is_private(hub.address):  # whoever is on the way could say it
        raise SourceFailed("its word on a hash counts over https only", "use https in its address")
    commit = answer.headers.get("x-repo-commit")
    if commit not in (None, place.revision):
        raise SourceFailed(f"answers for revision {commit}, not {place.revision}")
    etag = (answer.headers.get("x-linked-etag") or answer.headers.get("etag") or "").removeprefix("W/").strip('"')
    if not is_sha256(etag):
        raise SourceFailed(f"declares no sha256 (ETag {etag!r})")
    text = answer.headers.get("x-linked-size", "")
    size = int(text) if re.fullmatch("[0-9]{1,15}", text) else None
    return Declared(etag, size if size and size <= largest(checkpoint) else None)
