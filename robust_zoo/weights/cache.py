"""Where verified weights live, with a receipt beside each that says what they are and where they came from.

<root>/weights/<name>.safetensors   the weights          <root>/weights/<name>.json   the receipt
<root>/downloads/                   files on their way, resumable
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

from robust_zoo.errors import StorageError, VerificationFailed
from robust_zoo.files import Buffer, read_hashed, storage, sync_directory, write_chunks
from robust_zoo.owners import own_directory
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.receipts import Receipt


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """The cache's directory: the argument, ROBUST_ZOO_CACHE, or the platform's user cache. An empty value is unset.

    Args:
        cache_dir: The argument; None or "" leaves it to the others.

    Returns:
        The directory, which may not exist yet.

    Raises:
        StorageError: There is no home, and no private temporary directory either.
    """
    if chosen := cache_dir or os.environ.get("ROBUST_ZOO_CACHE"):
        return Path(os.path.expanduser(chosen))  # noqa: PTH111  (unlike Path's, it takes an unknown ~user as it is)
    from platformdirs import user_cache_path

    try:
        path = user_cache_path("robust_zoo", appauthor=False)
    except RuntimeError:  # newer versions, where older ones return a relative path
        path = Path()
    if path.is_absolute():
        return path
    fallback = _private_temporary()
    warnings.warn(f"no home directory: weights are kept in {fallback}; set ROBUST_ZOO_CACHE to choose", stacklevel=2)
    return fallback


def _private_temporary() -> Path:
    """A directory of this user alone: in a shared one, others could plant weights with receipts that fit them."""
    owner = os.getuid() if hasattr(os, "getuid") else None
    path = Path(tempfile.gettempdir()) / ("robust_zoo" if owner is None else f"robust_zoo-{owner}")
    with storage(path):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    if owner is not None and (found.st_uid != owner or stat.S_ISLNK(found.st_mode) or found.st_mode & 0o022):
        raise StorageError(
            "no home directory, and the temporary one is not private",
            source=str(path),
            expected="a directory that only you can write to",
            actual=f"owner {found.st_uid}, mode {stat.filemode(found.st_mode)}",
            next="set ROBUST_ZOO_CACHE to a directory of your own",
        )
    return path


def local_directories() -> tuple[Path, ...]:
    """ROBUST_ZOO_PATH: directories with source files, or whole (read-only) caches; searched, never written."""
    return tuple(Path(p).expanduser() for p in os.environ.get("ROBUST_ZOO_PATH", "").split(os.pathsep) if p)


def weights_path(root: Path, name: str) -> Path:
    """Where a checkpoint's weights are, or would be, in a cache."""
    return root / "weights" / f"{name}.safetensors"


def largest(checkpoint: Checkpoint) -> int:
    """Bytes that neither a checkpoint's file, where its size is not known, nor its weights in a cache can exceed."""
    whole_state = 16 * checkpoint.network.parameters  # the weights, their average and the two moments of Adam
    return max(checkpoint.size or 0, whole_state, int(1.5 * checkpoint.approximate_size)) + (10 << 20)


def read_receipt(root: Path, name: str) -> Receipt | None:
    """The receipt of a cached checkpoint, None when there is none that can be read."""
    try:
        return Receipt.parse(weights_path(root, name).with_suffix(".json"))
    except (OSError, ValueError, KeyError):
        return None


def hashed(checkpoint: Checkpoint, root: Path) -> tuple[Receipt, Buffer] | None:
    """The receipt of a cached file, and the bytes that were just hashed. Changes nothing.

    Args:
        checkpoint: Whose weights.
        root: The cache.

    Returns:
        (receipt, content), None when they are not cached.

    Raises:
        VerificationFailed: The file or its receipt is not what was promised.
        OSError: The file cannot be read.
    """
    path = weights_path(root, checkpoint.name)
    if not path.is_file():
        return None
    receipt = read_receipt(root, checkpoint.name)
    if receipt is None or receipt.name != checkpoint.name:
        raise corrupt(checkpoint, path, f"a receipt for {checkpoint.name}", "none that can be read")
    since = f", first seen on {receipt.seen} from {receipt.source}" if receipt.seen else ""
    if checkpoint.sha256 and receipt.source_sha256 not in checkpoint.hashes:
        expected, actual = f"made of sha256 {checkpoint.sha256}", f"made of {receipt.source_sha256}{since}"
        raise corrupt(checkpoint, path, expected, actual)
    if checkpoint.converted_sha256 not in (None, receipt.sha256):
        expected, actual = f"sha256 {checkpoint.converted_sha256}", f"a receipt of {receipt.sha256}{since}"
        raise corrupt(checkpoint, path, expected, actual)
    most = min(receipt.size, largest(checkpoint))
    if (size := path.stat().st_size) > most:  # before anything is read: it may be sparse, and huge
        raise corrupt(checkpoint, path, f"{receipt.size:,} bytes, sha256 {receipt.sha256}", f"{size:,} bytes")
    content, actual = read_hashed(path)
    if actual != receipt.sha256:
        raise corrupt(checkpoint, path, f"sha256 {receipt.sha256}", f"sha256 {actual} ({len(content):,} bytes)")
    return receipt, content


def corrupt(checkpoint: Checkpoint, path: Path, expected: str, actual: str) -> VerificationFailed:
    """The error for a cached file that is not what was promised: what was expected of it, and what it is."""
    return VerificationFailed(
        f"the cached weights of {checkpoint.name} are damaged",
        model=f"{checkpoint.name} ({path.name})",
        source=str(path),
        expected=expected,
        actual=actual,
        next=f"robust-zoo download {checkpoint.name}   fetches them again",
    )


def set_aside(root: Path, name: str) -> None:
    """Moves a damaged file to `.corrupt` (one copy is kept); its receipt goes, unless it says what was seen first.

    Args:
        root: The cache.
        name: The checkpoint's.

    Raises:
        StorageError: The disk refused.
    """
    path = weights_path(root, name)
    with storage(path):
        path.replace(path.with_suffix(".corrupt"))
        if _is_lone(path.with_suffix(".json")):
            path.with_suffix(".json").unlink(missing_ok=True)


def store(file: Path, receipt: Receipt, root: Path) -> Path:
    """Gives a finished file, already on the cache's disk, its name; the receipt first, so a crash leaves no orphan.

    A receipt without its file counts as absent, and one that does not fit the file as damaged: no order of
    events makes wrong bytes pass. Targets that are symbolic links are replaced, not followed.

    Args:
        file: The finished file; it moves.
        receipt: What it is.
        root: The cache.

    Returns:
        Where it is now.

    Raises:
        StorageError: The disk refused.
    """
    target = weights_path(root, receipt.name)
    with storage(target):
        write_receipt(receipt, root)
        file.replace(target)
        sync_directory(target.parent)
    return target


def write_receipt(receipt: Receipt, root: Path) -> None:
    """Writes a receipt alone: before its file comes, or of one that lies in another cache. Raises OSError."""
    target = weights_path(root, receipt.name)
    own_directory(target.parent)
    write_chunks(target.with_suffix(".json"), [json.dumps(asdict(receipt), indent=1, sort_keys=True).encode()])


def cached_names(root: Path) -> list[str]:
    """Names of the checkpoints whose weights are in this cache."""
    return sorted(path.stem for path in (root / "weights").glob("[!.]*.safetensors"))


def leftovers(root: Path, known: set[str]) -> list[Path]:
    """What `prune` may delete: cut downloads, temporaries, damaged copies, weights whose row is gone, lone receipts.

    A receipt that says what was first seen stays: without it other bytes would be taken for the first.

    Args:
        root: The cache.
        known: The names that have a row.

    Returns:
        Files, sorted.
    """
    weights = root / "weights"
    found = [p for p in (root / "downloads").glob("*") if p.is_file()]
    found += [p for p in weights.glob(".*.tmp")] + list(weights.glob("*.corrupt"))
    found += [p for p in weights.glob("[!.]*.safetensors") if p.stem not in known]
    found += [p for p in weights.glob("*.json") if p.stem not in known or _is_lone(p)]
    return sorted(found)


def _is_lone(path: Path) -> bool:
    """Whether a receipt has no file, and does not say what was first seen."""
    if path.with_suffix(".safetensors").exists():
        return False
    receipt = read_receipt(path.parents[1], path.stem)
    return not receipt or not receipt.seen
