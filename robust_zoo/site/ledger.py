"""A ledger on a disk -> the evidence that pages show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from robust_zoo.site.pages import Evidence
from robust_zoo.training.evaluation.entries import files_of, order, read_fates, require_ledger


def evidence(ledger_dir: Path) -> tuple[Evidence, ...]:
    """Reads a ledger; every entry is checked against its images' fates first.

    Args:
        ledger_dir: Of `robust-zoo evaluate`.

    Returns:
        Its entries with every image's fate, sorted by model, data, norm, attack and eps.

    Raises:
        UsageError: There is no such folder.
        VerificationFailed: An entry is not sound.
    """
    require_ledger(ledger_dir)
    found = [Evidence(file.relative_to(ledger_dir).as_posix(), *read_fates(file)) for file in files_of(ledger_dir)]
    return tuple(sorted(found, key=lambda e: (order(e.entry), e.file)))


def pictures(ledger_dir: Path) -> Mapping[str, bytes]:
    """What models see, as `make seen` draws it beside the entries.

    Args:
        ledger_dir: As for `evidence`.

    Returns:
        Names of checkpoints, and the bytes of their seen.webp.
    """
    return {file.parent.name: file.read_bytes() for file in sorted(ledger_dir.glob("*/seen.webp"))}
