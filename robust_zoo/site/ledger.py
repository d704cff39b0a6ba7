"""A ledger on a disk -> the evidence that pages show."""

from __future__ import annotations

from pathlib import Path

from robust_zoo.errors import missing_file
from robust_zoo.site.pages import Evidence


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
    from robust_zoo.training.data.npz import read_npz
    from robust_zoo.training.evaluation.entries import read_entry

    if not ledger_dir.is_dir():
        raise missing_file(ledger_dir, "a ledger of robust-zoo evaluate", "robust-zoo evaluate NAME --out LEDGER")
    found = []
    for file in sorted({*ledger_dir.glob("*.json"), *ledger_dir.glob("*/*.json")}):
        entry = read_entry(file)
        labels, broken_by = read_npz(file.with_suffix(".npz"), ["labels", ("broken_by", "fell")])
        found.append(Evidence(file.relative_to(ledger_dir).as_posix(), entry, labels, broken_by))

    def order(e: Evidence) -> tuple[object, ...]:
        about = e.entry
        return about["model"], about["dataset"], about["norm"] or "", about["attack"], about["eps"] or 0, e.file

    return tuple(sorted(found, key=order))
