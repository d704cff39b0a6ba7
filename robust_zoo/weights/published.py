"""What a published file must say of itself: it was converted elsewhere, and its row decides what of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from robust_zoo.errors import Refused, VerificationFailed
from robust_zoo.files import is_sha256
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights.safetensors_file import read_header
from robust_zoo.weights.verify import provenance


def header_digest(checkpoint: Checkpoint) -> str:
    """The sha256 of what a row alone puts into the header of its converted file.

    `robust-zoo publish` prints it for published.toml. When it changes (a licence, a crop), so do the bytes that the row
    converts to: they must be published again.

    Args:
        checkpoint: The row.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(provenance(checkpoint, ""), sort_keys=True).encode()).hexdigest()


def source_sha256_of(path: Path, checkpoint: Checkpoint, source: str) -> str:
    """The sha256 of the file that a published one was converted from, as its header says it.

    Args:
        path: The file, which has the sha256 that was published.
        checkpoint: Whose it must say that it is, in all that `provenance` says.
        source: Where it is from.

    Returns:
        The sha256, one of the row's where the row has any.

    Raises:
        VerificationFailed: It says something else: another row was published, or the row was changed since.
    """
    try:
        header = read_header(path)
    except Refused as error:
        raise _not_the_rows(checkpoint, source, error.expected, error.actual) from None
    sha256 = header.get("source_sha256", "")
    for key, text in provenance(checkpoint, sha256).items():
        if header.get(key) != text:
            raise _not_the_rows(checkpoint, source, f"{key} {text}", f"{key} {header.get(key)}")
    right = sha256 in checkpoint.hashes if checkpoint.sha256 else is_sha256(sha256)
    if not right:
        expected = " or ".join(sorted(checkpoint.hashes)) or "64 hexadecimal digits"
        raise _not_the_rows(checkpoint, source, f"source_sha256 {expected}", f"source_sha256 {sha256}")
    return sha256


def _not_the_rows(checkpoint: Checkpoint, source: str, expected: str, actual: str) -> VerificationFailed:
    return VerificationFailed(
        f"{checkpoint.name}: what was published is not what its row converts to",
        model=f"{checkpoint.name} ({checkpoint.name}.safetensors)",
        source=source,
        expected=f"{expected}, as the row says",
        actual=f"{actual} in the file's header",
        next="pip install --upgrade robust-zoo   a newer one may name another file; else tell its maintainers",
    )
