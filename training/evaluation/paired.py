"""Two checkpoints on the same images, image by image: what a ledger can tell apart and intervals cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_zoo.counts import PairedCount
from robust_zoo.registry.comparison import Paired
from robust_zoo.registry.robustness import Figure
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.evaluation.entries import read_fates, require_ledger
from robust_zoo.training.evaluation.fates import ROBUST, WRONG

Fates = dict[tuple[Any, ...], tuple[tuple[str, str], np.ndarray]]


def paired(ledger_dir: Path, checkpoints: Sequence[Checkpoint]) -> Paired:
    """Compares two checkpoints by the fates of the same images under the same attack.

    Args:
        ledger_dir: Of `robust-zoo evaluate`, with a folder for each checkpoint; every entry that is read is checked.
        checkpoints: In the order of their places.

    Returns:
        For `registry.comparison.compare`: (place, place, figure) -> how many images only one of them gets right, None
        where the ledger has not both, or not of the same images and settings.

    Raises:
        UsageError: There is no such folder.
        VerificationFailed: An entry is not sound.
    """
    require_ledger(ledger_dir)
    return paired_by([fates(_entries(ledger_dir, checkpoint)) for checkpoint in checkpoints])


def paired_by(known: Sequence[Fates]) -> Paired:
    """As `paired`, by fates that were read before.

    Args:
        known: Of each checkpoint, in the order of their places.

    Returns:
        As there.
    """

    def count(i: int, j: int, figure: Figure) -> PairedCount | None:
        key = (figure.attack, figure.norm, figure.eps, figure.n, figure.images)
        if key not in known[i] or key not in known[j]:
            return None
        (one, a), (other, b) = known[i][key], known[j][key]
        return PairedCount(int((a & ~b).sum()), int((b & ~a).sum()), len(a)) if one == other else None

    return count


def fates(entries: Iterable[tuple[Mapping[str, Any], np.ndarray]]) -> Fates:
    """Which images a checkpoint gets right, by what a figure is of; with the hashes of images and settings.

    Args:
        entries: Of the ledger and of one file of weights, each with what broke every image, (n,).

    Returns:
        (attack, norm, eps, n, images) -> (hashes, right), the last a bool (n,).
    """
    found = {}
    for entry, broken_by in entries:
        right = broken_by != WRONG if entry["norm"] is None else broken_by == ROBUST
        key = (entry["attack"], entry["norm"] or "", entry["eps"], entry["n"], entry["dataset"])
        found[key] = ((entry["data_sha256"], entry["settings_sha256"]), right)
    return found


def _entries(ledger_dir: Path, checkpoint: Checkpoint) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    weights = {m.weights_sha256 for m in checkpoint.measured}
    for file in sorted((ledger_dir / checkpoint.name).glob("*.json")):
        entry, _, broken_by = read_fates(file)
        if entry["weights_sha256"] in weights:
            yield entry, broken_by
