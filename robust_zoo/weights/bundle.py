"""Weights for a machine without internet, as one tar file: converted weights, receipts, cards, rows, and all hashes.

manifest.json               the hashes of the rest, first
checkpoints.toml            the rows of the package that made it, to read
weights/NAME.safetensors    after its receipt, weights/NAME.json
cards/NAME.md               to read

An archive is never unpacked by the names in it: what is taken must be in its manifest, is copied to a file of our own,
and passes the same checks as any download.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from robust_zoo.errors import UnknownCheckpoint, VerificationFailed, ZooError
from robust_zoo.files import storage
from robust_zoo.registry.load import TOML
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights import archive, manifest
from robust_zoo.weights.archive import Archive, Progress
from robust_zoo.weights.cache import cache_root, largest, read_receipt
from robust_zoo.weights.ensure import convert_into
from robust_zoo.weights.first_seen import noted
from robust_zoo.weights.lock import lock
from robust_zoo.weights.manifest import Entry
from robust_zoo.weights.passing_on import require_licences
from robust_zoo.weights.receipts import Receipt
from robust_zoo.weights.sources import Fetched
from robust_zoo.weights.verify import VerifiedFile, Weights, verified

_log = logging.getLogger(__name__)


def pack(
    out: Path,
    found: Sequence[tuple[Checkpoint, VerifiedFile]],
    card: Callable[[Checkpoint], str],
    progress: Progress = lambda n: None,
) -> None:
    """Bundles verified weights into `out`, all or nothing, and reads it back.

    The same weights give the same bytes, whoever bundles them.

    Args:
        out: The bundle to write.
        found: Checkpoints and their verified weights in a cache.
        card: Makes a checkpoint's card, to read.
        progress: Told the bytes as they are read back.

    Raises:
        UsageError: The licence of one is not known.
        StorageError: The disk refused.
        VerificationFailed: A file changed since it was verified.
    """
    require_licences(checkpoint for checkpoint, _ in found)
    texts: dict[str, bytes] = {TOML.name: TOML.read_bytes()}
    files: dict[str, tuple[Path, Entry]] = {}
    for checkpoint, weights in found:
        receipt = read_receipt(weights.path.parents[1], checkpoint.name)
        if receipt is None or receipt.sha256 != weights.sha256:
            raise archive.changed(weights.path, weights.sha256, receipt.sha256 if receipt else "without a receipt")
        state = "unverified" if weights.state == "first-seen" else weights.state  # seen first by whom?
        receipt = replace(receipt, state=state, seen="")
        texts[f"weights/{checkpoint.name}.json"] = json.dumps(asdict(receipt), indent=1, sort_keys=True).encode()
        texts[f"cards/{checkpoint.name}.md"] = card(checkpoint).encode()
        files[_weights(checkpoint.name)] = (weights.path, Entry(weights.sha256, weights.path.stat().st_size))
    archive.write(out, texts, files, progress)


def unpack(
    path: Path,
    *,
    cache_dir: str | Path | None = None,
    progress: Progress = lambda n: None,
    check: Callable[[Path], object] = lambda manifest: None,
) -> Iterator[tuple[str, Weights | ZooError]]:
    """Takes a bundle's weights into the cache, one after the other.

    A file with another hash than the manifest's, or another name than this registry's, is an error of that checkpoint.
    Weights that the cache has, verified, stay. The state is "vouched": the hash is the bundle's word, since the file
    that the checkpoint pins was converted elsewhere; what was first seen elsewhere is "unverified" here, as unverified
    weights stay. Where the row has the converted file's own hash, that decides, and the state is "pinned".

    Args:
        path: Of the bundle.
        cache_dir: Instead of ROBUST_ZOO_CACHE or the platform's user cache.
        progress: Told the bytes as they are copied.
        check: Given a file of the manifest that the bundle is read by; what it raises (manifest.check_signed) ends it.

    Yields:
        (name, what came of it): the weights in the cache, or the error.

    Raises:
        UsageError: There is no such file.
        Refused: It is no bundle, or holds what a bundle does not.
    """
    root = cache_root(cache_dir)
    with archive.opened(path) as bundle:
        with TemporaryDirectory() as folder:
            (written := Path(folder, archive.MANIFEST)).write_bytes(manifest.render(bundle.entries))
            check(written)
        for name in bundle.names:
            try:
                outcome: Weights | ZooError = _take(name, bundle, root, progress)
            except ZooError as error:
                outcome = error
            yield name, outcome


def size(path: Path) -> int:
    """Bytes of weights in a bundle.

    Args:
        path: Of the bundle.

    Returns:
        Their sum.

    Raises:
        UsageError: There is no such file.
        Refused: It is no bundle, or holds what a bundle does not.
    """
    with archive.opened(path) as bundle:
        return sum(bundle.members[_weights(name)].size for name in bundle.names)


def _weights(name: str) -> str:
    return f"weights/{name}.safetensors"


def _take(name: str, bundle: Archive, root: Path, progress: Progress) -> Weights:
    path, promised = bundle.path, bundle.entries[_weights(name)].sha256
    try:
        checkpoint = get(name)
    except UnknownCheckpoint as error:
        error.source, error.next = str(path), "pip install --upgrade robust-zoo   if the bundle is of a newer one"
        raise
    if (size := bundle.members[_weights(name)].size) > largest(checkpoint):
        raise _differs(path, checkpoint, f"at most {largest(checkpoint):,} bytes", f"{size:,} bytes")
    receipt = _receipt(bundle.texts[f"weights/{name}.json"], path, checkpoint)
    if checkpoint.converted_sha256 not in (None, promised):
        raise _differs(path, checkpoint, f"sha256 {checkpoint.converted_sha256}", f"sha256 {promised} in its manifest")
    doubtful = receipt.state in ("first-seen", "unverified")
    with lock(root, name, checkpoint.file):
        if (seen := noted(checkpoint, root)) and promised != seen.weights_sha256:
            raise seen.other(checkpoint, str(path), receipt.source_sha256, promised)
        if found := _kept(checkpoint, root, doubtful):
            return found
        copy = root / "downloads" / f"{checkpoint.file}.bundle.{uuid.uuid4()}.part"
        try:
            with storage(copy), copy.open("xb") as out:
                digest = archive.copy(bundle.content(_weights(name)), out, progress)
            if digest != promised:
                raise _differs(path, checkpoint, f"sha256 {promised}", f"sha256 {digest}")
            state = "unverified" if doubtful else "vouched"
            # Converted files convert to themselves: the contained reader checks names, shapes, values and provenance.
            fetched = Fetched(copy, receipt.source_sha256, state, f"{receipt.source} (in {path.name})", temporary=True)
            return convert_into(checkpoint, fetched, root, promised=promised)
        finally:
            copy.unlink(missing_ok=True)


def _kept(checkpoint: Checkpoint, root: Path, doubtful: bool) -> Weights | None:
    """Sound weights that the cache has already, unverified ones where the bundle's are no better."""
    try:
        found = verified(checkpoint, root)
    except (VerificationFailed, OSError) as error:
        _log.warning("%s", error)
        return None
    return found if found and (doubtful or found.state != "unverified") else None


def _receipt(text: bytes, path: Path, checkpoint: Checkpoint) -> Receipt:
    try:
        receipt = Receipt.parse(text)
    except (ValueError, KeyError) as error:
        raise _differs(path, checkpoint, "a receipt", f"{type(error).__name__}: {error}") from None
    if receipt.name != checkpoint.name:
        raise _differs(path, checkpoint, f"a receipt of {checkpoint.name}", f"of {str(receipt.name)[:60]}")
    if checkpoint.sha256 not in (None, receipt.source_sha256):
        raise _differs(path, checkpoint, f"made of sha256 {checkpoint.sha256}", f"of {str(receipt.source_sha256)[:64]}")
    return receipt


def _differs(path: Path, checkpoint: Checkpoint, expected: str, actual: str) -> VerificationFailed:
    return VerificationFailed(
        f"{checkpoint.name}: the bundle does not hold what it promises",
        model=f"{checkpoint.name} ({checkpoint.file})",
        source=str(path),
        expected=expected,
        actual=actual,
        next="copy the bundle again, or make it again: robust-zoo bundle",
    )
