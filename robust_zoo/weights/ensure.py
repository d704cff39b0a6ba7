"""From a checkpoint to a verified safetensors file: the cache, else fetch and convert. Torch runs in a child only."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from robust_zoo.errors import Refused, VerificationFailed, damaged
from robust_zoo.files import read_hashed
from robust_zoo.registry.rows import DATA, Checkpoint
from robust_zoo.weights import cache
from robust_zoo.weights.cache import Receipt, cache_root, local_directories, weights_path
from robust_zoo.weights.convert import convert
from robust_zoo.weights.lock import lock, sweep
from robust_zoo.weights.safetensors_file import header_of
from robust_zoo.weights.sources import Fetched, fetch, is_offline

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerifiedFile:
    """A safetensors file whose bytes were verified a moment ago.

    Attributes:
        sha256: Of this file.
        state: How far its origin is proven. "pinned": by the row's sha256. "hub-declared": by the sha256 that the hub
            declares at the pinned revision. "vouched": by a bundle, made where one of these two held. "unverified": by
            none, and the caller asked for it.
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
    """

    content: bytearray = field(repr=False, compare=False)

    @property
    def header(self) -> dict[str, str]:
        """What the file says of itself. Raises Refused when it is no safetensors file."""
        return header_of(self.content, self.path)

    @property
    def file(self) -> VerifiedFile:
        """Without the bytes: for many of them at once."""
        return VerifiedFile(self.path, self.sha256, self.state, self.source)


def ensure(
    checkpoint: Checkpoint,
    *,
    cache_dir: str | Path | None = None,
    offline: bool | None = None,
    allow_unverified: bool = False,
    progress: bool = True,
) -> Weights:
    """The checkpoint's weights, verified: bundled, from a cache, or fetched and converted once.

    cache_dir: instead of ROBUST_ZOO_CACHE or the platform's user cache.
    offline: open no socket; None follows ROBUST_ZOO_OFFLINE and HF_HUB_OFFLINE.
    allow_unverified: accept bytes for which no hash is known anywhere.

    Raises VerificationFailed, Unavailable, StorageError or Refused.
    """
    offline = is_offline() if offline is None else offline
    root = cache_root(cache_dir)
    if checkpoint.bundled:
        return _packaged(checkpoint)
    if found := cached(checkpoint, (root, *local_directories()), allow_unverified):
        return found
    with lock(root, checkpoint.name) as alone:
        if found := cached(
            checkpoint, (root,), allow_unverified, heal=not offline
        ):  # another process may have been first
            return found
        if alone:
            sweep(root, checkpoint.name, checkpoint.file)
        fetched = fetch(
            checkpoint,
            root / "downloads",
            offline=offline,
            allow_unverified=allow_unverified,
            progress=progress,
            unique="" if alone else f".{os.getpid()}-{uuid.uuid4().hex[:8]}",
        )
        return convert_into(checkpoint, fetched, root)


def is_present(checkpoint: Checkpoint, cache_dir: str | Path | None = None) -> bool:
    """Whether a copy lies in the package or in a cache; nothing is read."""
    places = (cache_root(cache_dir), *local_directories())
    return checkpoint.bundled or any(weights_path(root, checkpoint.name).is_file() for root in places)


def cached(
    checkpoint: Checkpoint, roots: Sequence[Path], allow_unverified: bool, *, heal: bool = True
) -> Weights | None:
    """A sound copy in one of the caches. A damaged one is skipped; raised if nothing better can be had (not heal)."""
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


def verified(checkpoint: Checkpoint, root: Path) -> Weights | None:
    """The weights in one cache; the file must be what its receipt says, and say itself that it is this checkpoint.

    Raises VerificationFailed, or OSError when the file cannot be read.
    """
    found = cache.hashed(checkpoint, root)
    if found is None:
        return None
    receipt, content = found
    path = weights_path(root, checkpoint.name)
    weights, promised = Weights(path, receipt.sha256, receipt.state, receipt.source, content), {}
    try:
        header, promised = weights.header, provenance(checkpoint, receipt.source_sha256)
    except Refused as error:
        raise cache.corrupt(checkpoint, path, error.expected, error.actual) from None
    for key in ("name", "architecture", "dataset", "norm", "eps", "source_sha256"):
        if header.get(key) != promised[key]:
            raise cache.corrupt(checkpoint, path, f"weights of {key} {promised[key]}", f"of {key} {header.get(key)}")
    return weights


def _packaged(checkpoint: Checkpoint) -> Weights:
    """Weights that lie on this disk already, in the package or where `robust-zoo train` put them."""
    path = DATA / checkpoint.file  # an absolute path stays itself
    try:
        content, sha256 = read_hashed(path)
    except OSError as error:
        content, sha256 = bytearray(), f"none: {error.strerror or error}"
    if sha256 != checkpoint.sha256:
        raise damaged(
            f"the weights of {checkpoint.name} are",
            path,
            f"sha256 {checkpoint.sha256}",
            f"sha256 {sha256}",
            model=f"{checkpoint.name} ({path.name})",
        )
    return Weights(path, sha256, "pinned", "bundled", content)


def provenance(checkpoint: Checkpoint, source_sha256: str) -> dict[str, str]:
    """What a converted file's header says: a function of the row and the source's bytes, so conversions agree."""
    return {
        "name": checkpoint.name,
        "architecture": checkpoint.architecture,
        "dataset": checkpoint.dataset,
        "norm": checkpoint.norm,
        "eps": repr(checkpoint.eps),
        "source_file": checkpoint.file,
        "source_sha256": source_sha256,
        "source_repo": checkpoint.collection.repo,
        "revision": checkpoint.collection.revision,
        "licence": checkpoint.licence,
        "preprocessing": json.dumps(asdict(checkpoint.preprocessing), sort_keys=True),
    }


def convert_into(checkpoint: Checkpoint, fetched: Fetched, root: Path, *, promised: str | None = None) -> Weights:
    """Converts a source file into the cache, contained and checked; a temporary one is then deleted.

    promised: the sha256 that the result must have. What was converted elsewhere converts to itself, or is not what
    it says. Raises VerificationFailed, Refused or StorageError.
    """
    target = weights_path(root, checkpoint.name)
    temporary = target.with_name(f".{checkpoint.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    with cache.storage(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    preprocessing = checkpoint.preprocessing
    try:
        answer = convert(
            fetched.path,
            temporary,
            checkpoint.network,
            provenance(checkpoint, fetched.sha256),
            mean=preprocessing.mean,
            std=preprocessing.std,
            num_classes=preprocessing.num_classes,
            model=checkpoint.name,
        )
        if promised not in (None, answer["sha256"]):
            raise VerificationFailed(
                f"{checkpoint.name}: sound weights of this architecture, but not as this checkpoint converts",
                model=f"{checkpoint.name} ({fetched.path.name})",
                source=fetched.source,
                expected=f"sha256 {promised}, with the provenance of {checkpoint.name}",
                actual=f"sha256 {answer['sha256']}",
                next=f"robust-zoo download {checkpoint.name}   where there is internet",
            )
        receipt = Receipt(
            name=checkpoint.name,
            sha256=answer["sha256"],
            size=temporary.stat().st_size,
            state=fetched.state,
            source=fetched.source,
            source_file=checkpoint.file,
            source_sha256=fetched.sha256,
            revision=checkpoint.collection.revision,
        )
        if target.exists():
            cache.set_aside(root, checkpoint.name)
        cache.store(temporary, receipt, root)
    finally:
        temporary.unlink(missing_ok=True)
        if fetched.temporary:  # converted or refused, it is not needed again
            fetched.path.unlink(missing_ok=True)
    if (found := verified(checkpoint, root)) is None:
        raise cache.corrupt(checkpoint, target, f"sha256 {receipt.sha256}", "nothing: it was deleted meanwhile")
    return found
