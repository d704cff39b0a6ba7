"""From a checkpoint to a verified safetensors file: the cache, else fetch and convert. Torch runs in a child only."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

from robust_zoo.errors import VerificationFailed, damaged
from robust_zoo.files import buffer, read_hashed, sha256_of, storage
from robust_zoo.owners import own_directory
from robust_zoo.registry.rows import DATA, Checkpoint
from robust_zoo.weights import cache
from robust_zoo.weights.cache import cache_root, local_directories, weights_path
from robust_zoo.weights.convert import convert
from robust_zoo.weights.first_seen import noted, today
from robust_zoo.weights.lock import lock, sweep
from robust_zoo.weights.promises import is_converted
from robust_zoo.weights.published import source_sha256_of
from robust_zoo.weights.receipts import Receipt
from robust_zoo.weights.sources import Fetched, fetch, is_offline
from robust_zoo.weights.verify import Weights, cached, provenance, verified


def ensure(
    checkpoint: Checkpoint,
    *,
    cache_dir: str | Path | None = None,
    offline: bool | None = None,
    allow_unverified: bool = False,
    progress: bool = True,
) -> Weights:
    """The checkpoint's weights, verified: bundled, from a cache, or fetched and converted once.

    Args:
        checkpoint: Whose weights.
        cache_dir: Instead of ROBUST_ZOO_CACHE or the platform's user cache.
        offline: Open no socket; None follows ROBUST_ZOO_OFFLINE and HF_HUB_OFFLINE.
        allow_unverified: Accept bytes for which no hash is known anywhere. Where there can be none, they are noted as
            seen first, and no later use needs this.
        progress: Show a bar on stderr while downloading.

    Returns:
        The weights, with the bytes that were hashed.

    Raises:
        VerificationFailed: The weights are not the ones promised, or not those that were seen first.
        Unavailable: No source could serve the file.
        StorageError: The disk refused.
        Refused: The file is unsafe or malformed.
    """
    offline = is_offline() if offline is None else offline
    root = cache_root(cache_dir)
    if checkpoint.bundled:
        return _packaged(checkpoint)
    if found := cached(checkpoint, (root, *local_directories()), allow_unverified):
        return found
    with lock(root, checkpoint.name, checkpoint.file) as alone:
        found = cached(checkpoint, (root,), allow_unverified, heal=not offline)
        if found:  # another process was first
            return found
        if alone:
            sweep(root, checkpoint.name, checkpoint.file)
        fetched = fetch(
            checkpoint,
            root / "downloads",
            offline=offline,
            allow_unverified=allow_unverified,
            progress=progress,
            unique="" if alone else f".{uuid.uuid4()}",
            seen=noted(checkpoint, root),
        )
        return _take(checkpoint, fetched, root)


def is_present(checkpoint: Checkpoint, cache_dir: str | Path | None = None) -> bool:
    """Whether a copy lies in the package or in a cache; nothing is read.

    Args:
        checkpoint: Whose weights.
        cache_dir: Instead of ROBUST_ZOO_CACHE or the platform's user cache.

    Returns:
        Whether there is one, sound or not.
    """
    places = (cache_root(cache_dir), *local_directories())
    return checkpoint.bundled or any(weights_path(root, checkpoint.name).is_file() for root in places)


def _packaged(checkpoint: Checkpoint) -> Weights:
    """Weights that lie on this disk already, in the package or where `robust-zoo train` put them."""
    path = DATA / checkpoint.file  # an absolute path stays itself
    try:
        content, sha256 = read_hashed(path)
    except OSError as error:
        content, sha256 = buffer(0), f"none: {error.strerror or error}"
    if sha256 != checkpoint.sha256:
        exported = {} if path.is_relative_to(DATA) else {"next": "copy it again, or export it again: robust-zoo train"}
        raise damaged(
            f"the weights of {checkpoint.name} are",
            path,
            f"sha256 {checkpoint.sha256}",
            f"sha256 {sha256}",
            model=f"{checkpoint.name} ({path.name})",
            **exported,
        )
    return Weights(path, sha256, "pinned", "bundled", content)


def _take(checkpoint: Checkpoint, fetched: Fetched, root: Path) -> Weights:
    """Installs what was fetched: the row's own file, or the published one, which must convert to itself."""
    if not is_converted(checkpoint, fetched.sha256):
        return convert_into(checkpoint, fetched, root)
    try:
        made_of = source_sha256_of(fetched.path, checkpoint, fetched.source)
        return convert_into(checkpoint, replace(fetched, sha256=made_of), root, promised=fetched.sha256)
    finally:
        if fetched.temporary:
            fetched.path.unlink(missing_ok=True)


def convert_into(checkpoint: Checkpoint, fetched: Fetched, root: Path, *, promised: str | None = None) -> Weights:
    """Converts a source file into the cache, contained and checked; a temporary one is then deleted.

    Args:
        checkpoint: Whose weights.
        fetched: The source file, or what was converted elsewhere, with the sha256 of its source file.
        root: The cache.
        promised: The sha256 that the result must have. What was converted elsewhere converts to itself, or is not what
            it says. The row's converted_sha256 when None.

    Returns:
        The weights in the cache.

    Raises:
        VerificationFailed: They are not this checkpoint's, or not those that were seen first.
        Refused: The source file is unsafe or malformed.
        StorageError: The disk refused.
    """
    target = weights_path(root, checkpoint.name)
    temporary = target.with_name(f".{checkpoint.name}.{uuid.uuid4()}.tmp")
    with storage(target):
        own_directory(target.parent)
    preprocessing, handed = checkpoint.preprocessing, promised is not None
    before = None if fetched.state == "pinned" else noted(checkpoint, root)
    known = before if before and (before.size or handed) else None
    try:
        size = 0 if handed else fetched.path.stat().st_size
        if before and fetched.sha256 != before.sha256:  # another process was first
            raise before.other(checkpoint, fetched.source, fetched.sha256)
        answer = convert(
            fetched.path,
            temporary,
            checkpoint.network,
            provenance(checkpoint, fetched.sha256),
            mean=preprocessing.mean,
            std=preprocessing.std,
            num_classes=preprocessing.num_classes,
            sha256=promised or fetched.sha256,  # what was converted elsewhere is not the source file itself
            model=checkpoint.name,
            format=checkpoint.format,
        )
        promised = promised or checkpoint.converted_sha256
        if promised not in (None, answer["sha256"]):
            raise VerificationFailed(
                f"{checkpoint.name}: sound weights of this architecture, but not as this checkpoint converts",
                model=f"{checkpoint.name} ({fetched.path.name})",
                source=fetched.source,
                expected=f"sha256 {promised}, with the provenance of {checkpoint.name}",
                actual=f"sha256 {answer['sha256']}",
                next=f"robust-zoo download {checkpoint.name}   where there is internet, by the newest robust-zoo",
            )
        if before and answer["sha256"] != before.weights_sha256 and (handed or not before.size):
            raise before.other(checkpoint, fetched.source, fetched.sha256, answer["sha256"])
        receipt = Receipt(
            name=checkpoint.name,
            sha256=answer["sha256"],
            size=temporary.stat().st_size,
            state="first-seen" if before else fetched.state,
            source=known.source if known else fetched.source,
            source_file=checkpoint.file,
            source_sha256=fetched.sha256,
            revision=checkpoint.hub.revision if checkpoint.hub else "",
            source_size=known.size if known else size,
            seen=known.date if known else today() if before or fetched.state == "first-seen" else "",
        )
        if target.exists() and not _holds(target, receipt):  # else another process was first, and may be reading it
            cache.set_aside(root, checkpoint.name)
        cache.store(temporary, receipt, root)
    finally:
        temporary.unlink(missing_ok=True)
        if fetched.temporary:  # converted or refused, it is not needed again
            fetched.path.unlink(missing_ok=True)
    if (found := verified(checkpoint, root)) is None:
        raise cache.corrupt(checkpoint, target, f"sha256 {receipt.sha256}", "nothing: it was deleted meanwhile")
    return found


def _holds(path: Path, receipt: Receipt) -> bool:
    """Whether a file is the one that the receipt is of."""
    try:
        return path.stat().st_size == receipt.size and sha256_of(path) == receipt.sha256
    except OSError:
        return False
