"""Weights in a cache, verified: the file is what its receipt says, and says itself which checkpoint it is. No torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from robust_zoo.errors import Refused, VerificationFailed
from robust_zoo.files import Buffer
from robust_zoo.owners import who_else
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights import cache, first_seen
from robust_zoo.weights.cache import weights_path
from robust_zoo.weights.first_seen import OtherFile, Seen, noted
from robust_zoo.weights.receipts import Receipt
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
            "vouched": by whoever made a bundle or keeps a cache that is not this user's alone. "first-seen": no public
            hash is known; it is what this user took when asking for it, and noted (see weights/first_seen.py).
            "unverified": not even that; only a caller who asks for it gets it.
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


def verified(checkpoint: Checkpoint, root: Path, seen: Seen | None = None) -> Weights | None:
    """The weights in one cache; the file must be what its receipt says, and say itself that it is this checkpoint.

    Args:
        checkpoint: Whose weights.
        root: The cache.
        seen: What this user's own cache notes of them (first_seen.noted).

    Returns:
        The weights, None when the cache has none.

    Raises:
        VerificationFailed: The file is not what was promised, or (OtherFile) not the one that was seen first.
        OSError: The file cannot be read.
    """
    found = cache.hashed(checkpoint, root)
    if found is None:
        return None
    receipt, content = found
    path = weights_path(root, checkpoint.name)
    state, promised = state_of(checkpoint, receipt, root, seen), {}
    weights = Weights(path, receipt.sha256, state, receipt.source, content)
    try:
        header, promised = weights.header, provenance(checkpoint, receipt.source_sha256)
    except Refused as error:
        raise cache.corrupt(checkpoint, path, error.expected, error.actual) from None
    for key in ("name", "architecture", "dataset", "norm", "eps", "source_sha256"):
        if header.get(key) != promised[key]:
            raise cache.corrupt(checkpoint, path, f"weights of {key} {promised[key]}", f"of {key} {header.get(key)}")
    if seen and receipt.sha256 != seen.weights_sha256:
        raise seen.other(checkpoint, str(path), receipt.source_sha256, receipt.sha256)
    return weights


def state_of(checkpoint: Checkpoint, receipt: Receipt, root: Path, seen: Seen | None = None) -> str:
    """How far the origin of a cached file is proven, that is what its receipt says and made of what the row pins.

    A receipt is this user's own note of what was converted here, as long as no one else may write to the cache. Of a
    site's cache (ROBUST_ZOO_PATH) it is someone's word.

    Args:
        checkpoint: Whose weights.
        receipt: What lies beside them.
        root: The cache.
        seen: What this user's own cache notes of them, where `root` is another.

    Returns:
        A word of receipts.STATES.

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
    own = not site and not others
    if seen and receipt.sha256 == seen.weights_sha256:
        return "first-seen"
    if receipt.state in ("first-seen", "unverified"):
        if own and receipt.source_sha256 in checkpoint.hashes:  # known since; what was hashed here counts
            return "pinned" if receipt.source_size else "vouched"
        return receipt.state if own and not checkpoint.has_public_hash else "unverified"
    if receipt.state == "vouched" or not own:
        return "vouched"
    if receipt.source_sha256 in checkpoint.hashes:
        return "pinned"
    return "hub-declared" if receipt.state == "hub-declared" and checkpoint.hub else "vouched"


def cached(
    checkpoint: Checkpoint, roots: Sequence[Path], allow_unverified: bool, *, heal: bool = True
) -> Weights | None:
    """A sound copy in one of the caches.

    Args:
        checkpoint: Whose weights.
        roots: The caches, in the order in which they are searched: the user's own first.
        allow_unverified: Take a copy for which no hash is known anywhere too; it is noted as seen first.
        heal: Skip a damaged copy, for a better one can be had.

    Returns:
        The weights, None when no cache has them.

    Raises:
        VerificationFailed: A copy is damaged, and `heal` is False.
        OtherFile: A copy is another file than the one that was seen first.
    """
    seen = noted(checkpoint, roots[0])
    for root in roots:
        try:
            found = verified(checkpoint, root, seen)
        except OtherFile:
            raise
        except VerificationFailed as error:
            if not heal:
                raise
            _log.warning("%s", error)
            continue
        except OSError as error:  # a site copy that this user may not read is as good as none
            _log.warning("%s cannot be read: %s", weights_path(root, checkpoint.name), error)
            continue
        if found and found.state == "unverified" and allow_unverified:
            return _accepted(checkpoint, found, root, roots[0])
        if found and found.state != "unverified":
            return found
    return None


def _accepted(checkpoint: Checkpoint, found: Weights, root: Path, own: Path) -> Weights:
    """Unverified weights that were asked for: seen first, where no public hash is known and it can be noted."""
    receipt = cache.read_receipt(root, checkpoint.name)
    if checkpoint.has_public_hash or receipt is None:
        return found
    first_seen.accept(checkpoint, receipt, found.path, own)
    return replace(found, state=state_of(checkpoint, receipt, root, noted(checkpoint, own)))


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
