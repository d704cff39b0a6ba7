"""Weights that no public hash is known of: what this user took first is noted, and other bytes later are an alarm.

The note is the receipt in the user's own cache. It outlives its file: only whoever deletes it takes another for the
first.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from robust_zoo.errors import StorageError, VerificationFailed
from robust_zoo.files import storage
from robust_zoo.owners import who_else
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.weights import cache
from robust_zoo.weights.receipts import Receipt


class OtherFile(VerificationFailed):
    """Weights without a public hash are not those that were seen first."""


@dataclass(frozen=True)
class Seen:
    """What was seen first of a checkpoint.

    Attributes:
        sha256: Of the file at its source; of weights that someone else converted, what they say of it.
        size: Its bytes, 0 where it was converted by someone else.
        date: The day, in UTC.
        source: Where it was from.
        weights_sha256: Of the safetensors file that it converts to.
        path: Of the receipt that says so.
    """

    sha256: str
    size: int
    date: str
    source: str
    weights_sha256: str
    path: Path

    @property
    def lines(self) -> list[str]:
        """What a row of checkpoints.toml would say; none where the file itself was not seen."""
        if not self.size:
            return []
        said = f"recorded by robust_zoo on {self.date} from {self.source}".replace("\\", "\\\\").replace('"', '\\"')
        return [f'sha256 = "{self.sha256}"', f"size = {self.size}", f'sha256_from = "{said}"']

    def other(self, checkpoint: Checkpoint, source: str, sha256: str, weights_sha256: str = "") -> OtherFile:
        """The alarm.

        Args:
            checkpoint: Whose weights.
            source: Where other bytes were found.
            sha256: What the file there has, or is said to have.
            weights_sha256: What the converted file there has, where that is all that differs.

        Returns:
            An error to raise.
        """
        ours, theirs = f"sha256 {self.sha256}", f"sha256 {sha256}"
        if sha256 == self.sha256:  # so it says, but a file converts to the same bytes each time
            ours, theirs = f"converted, sha256 {self.weights_sha256}", f"converted, sha256 {weights_sha256}"
        both = " ".join(shlex.quote(str(path)) for path in (self.path, self.path.with_suffix(".safetensors")))
        return OtherFile(
            f"{checkpoint.name}: not the file that was seen first, and no public hash says which is right",
            model=f"{checkpoint.name} ({checkpoint.file})",
            source=source,
            expected=f"{ours}, first seen on {self.date} from {self.source}",
            actual=f"{theirs}, on {today()} from {source}",
            next="nothing was taken; ask the authors whether they replaced it, or who gave you this copy. If the other "
            f"one is right: rm -f {both}; robust-zoo download {checkpoint.name} --allow-unverified",
        )


def noted(checkpoint: Checkpoint, root: Path) -> Seen | None:
    """What was seen first of a checkpoint, as far as this user's own cache says so.

    Args:
        checkpoint: Whose weights.
        root: The user's own cache.

    Returns:
        The note; None where a public hash decides, nothing was noted, or others may write to the cache.
    """
    path = cache.weights_path(root, checkpoint.name).with_suffix(".json")
    receipt = None if checkpoint.has_public_hash else cache.read_receipt(root, checkpoint.name)
    if receipt is None or receipt.state != "first-seen" or receipt.name != checkpoint.name:
        return None
    try:
        if who_else(root, path.parent, path):
            return None
    except OSError:  # deleted meanwhile
        return None
    return Seen(receipt.source_sha256, receipt.source_size, receipt.seen, receipt.source, receipt.sha256, path)


def accept(checkpoint: Checkpoint, receipt: Receipt, copy: Path, root: Path) -> None:
    """Notes weights that someone else converted: this user asked for them, and no public hash is known.

    Args:
        checkpoint: Whose weights.
        receipt: What lies beside them.
        copy: Where they are: in `root`, or in a site's cache.
        root: The user's own cache.
    """
    here = copy == cache.weights_path(root, checkpoint.name)
    source = receipt.source if here else str(copy)
    taken = replace(receipt, state="first-seen", seen=today(), source=source, source_size=0)
    try:
        with storage(copy):
            cache.write_receipt(taken, root)
    except StorageError:  # nothing can be noted: they stay unverified
        pass


def today() -> str:
    """The day in UTC, as receipts and rows have it: 2026-11-27."""
    return datetime.now(UTC).date().isoformat()
