"""Weights in a cache, verified: the file is what its receipt says, and says itself which checkpoint it is. No torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from robust_zoo.errors import Refused, VerificationFailed
from robust_zoo.files import Buffer
from robust_zoo.owners import who_else
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights import cache
from robust_zoo.weights.cache import Receipt, weights_path
from robust_zoo.weights.safetensors_file import header_of

_log = logging.getLogger(__name__)
_warned: set[Path] = set()  # caches that were said to be not this user's alone


@dataclass(frozen=True)
class VerifiedFile:
    """A safetensors file whose bytes were verified a moment ago.

    Attributes:
        path: Where it is.
        sha256: Of this file.
        state: How far its origin is proven. "pinned": by the checkpoint's converted_sha256, or by the sha256 of the
            file that was converted here. "hub-declared": by the sha256 that the hub declares at the pinned revision.
            "vouched": by whoever made a bundle or keeps a cache that is not this user's alone. "unverified": by none,
            and the caller asked for it.
        source: Where its bytes came from.
    """

    path: Path
    sha256: str
    state: str
    source: str


@dataclass(frozen=True)
class Weights(VerifiedFile):
    """A verified file with the very bytes that were hashed: what was verified is what is used.

    It travels: `create_model(..., weights=)` takes it, once or for many models, and nothing is hashed again.

    Attributes:
        content: The whole file; path, sha256, state and source as in VerifiedFile.
    """

    content: Buffer = field(repr=False, compare=False)

    @property
    def header(self) -> dict[str, str]:
        """What the file says of itself.

        Raises:
            Refused: It is no safetensors file.
        """
        return header_of(self.content, self.path)

    @property
    def file(self) -> VerifiedFile:
        """Without the bytes: for many of them at once."""
        return VerifiedFile(self.path, self.sha256, self.state, self.source)


def verified(checkpoint: Checkpoint, root: Path) -> Weights | None:
    """The weights in one cache; the file must be what its receipt says, and say itself that it is this checkpoint.

    Args:
        checkpoint: Whose weights.
        root: The cache.

    Returns:
        The weights, None when the cache has none.

    Raises:
        VerificationFailed: The file is not what was promised.
        OSError: The file cannot be read.
    """
    found = cache.hashed(checkpoint, root)
    if found is None:
        return None
    receipt, content = found
    path = weights_path(root, checkpoint.name)
    state, promised = state_of(checkpoint, receipt, root), {}
    weights = Weights(path, receipt.sha256, state, receipt.source, content)
    try:
        header, promised = weights.header, provenance(checkpoint, receipt.source_sha256)
    except Refused as error:
        raise cache.corrupt(checkpoint, path, error.expected, error.actual) from None
    for key in ("name", "architecture", "dataset", "norm", "eps", "source_sha256"):
        if header.get(key) != promised[key]:
            raise cache.corrupt(checkpoint, path, f"weights of {key} {promised[key]}", f"of {key} {header.get(key)}")
    return weights


def state_of(checkpoint: Checkpoint, receipt: Receipt, root: Path) -> str:
    """How far the origin of a cached file is proven, that is what its receipt says and made of what the row pins.

    A receipt is this user's own note of what was converted here, as long as no one else may write to the cache. Of a
    site's cache (ROBUST_ZOO_PATH) it is someone's word.

    Args:
        checkpoint: Whose weights.
        receipt: What lies beside them.
        root: The cache.

    Returns:
        A word of cache.STATES.

    Raises:
        OSError: The cache cannot be looked at.
    """
    if checkpoint.converted_sha256:
        return "pinned"
    site = root in cache.local_directories()
    path = weights_path(root, checkpoint.name)
    others = "" if site else who_else(root, path.parent, path, path.with_suffix(".json"))
    if others and root not in _warned:
        _warned.add(root)
        _log.warning("%s: weights in it count as vouched. Next: chmod go-w, or a --cache-dir of your own", others)
    if receipt.state == "unverified" and (site or others or not checkpoint.sha256):
        return "unverified"
    if receipt.state == "vouched" or site or others:
        return "vouched"
    if checkpoint.sha256:
        return "pinned"
    return "hub-declared" if receipt.state == "hub-declared" else "vouched"


def cached(
    checkpoint: Checkpoint, roots: Sequence[Path], allow_unverified: bool, *, heal: bool = True
) -> Weights | None:
    """A sound copy in one of the caches.

    Args:
        checkpoint: Whose weights.
        roots: The caches, in the order in which they are searched.
        allow_unverified: Take a copy for which no hash is known anywhere too.
        heal: Skip a damaged copy, for a better one can be had.

    Returns:
        The weights, None when no cache has them.

    Raises:
        VerificationFailed: A copy is damaged, and `heal` is False.
    """
    for root in roots:
        try:
            found = verified(checkpoint, root)
        except VerificationFailed as error:
            if not heal:
                raise
            _log.warning("%s", error)
            continue
        except OSError as error:  # a site copy that this user may not read is as good as none
            _log.warning("%s cannot be read: %s", weights_path(root, checkpoint.name), error)
            continue
        if found and (allow_unverified or found.state != "unverified"):
            return found
    return None


def provenance(checkpoint: Checkpoint, source_sha256: str) -> dict[str, str]:
    """What a converted file's header says: a function of the checkpoint and the source's bytes, so conversions agree.

    Args:
        checkpoint: Whose weights.
        source_sha256: Of the file they were made of.

    Returns:
        Texts by key.
    """
    return {
        "name": checkpoint.name,
        "architecture": checkpoint.architecture,
        "dataset": checkpoint.dataset,
        "norm": checkpoint.norm,
        "eps": repr(checkpoint.eps),
        "source_file": checkpoint.file,
        "source_sha256": source_sha256,
        "source_repo": checkpoint.hub.repo if checkpoint.hub else "",
        "revision": checkpoint.hub.revision if checkpoint.hub else "",
        "licence": checkpoint.licence,
        "preprocessing": json.dumps(asdict(checkpoint.preprocessing), sort_keys=True),
    }
