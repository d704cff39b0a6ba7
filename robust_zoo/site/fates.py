"""What became of every image: by the attack that broke it, and by class. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_zoo.counts import Count
from robust_zoo.registry.reported import attack_title
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.site.pages import Evidence
from robust_zoo.site.words import threat_title
from robust_zoo.training.evaluation.fates import ROBUST, WRONG

_MOST_CLASSES = 20


@dataclass(frozen=True)
class Share:
    """A part of the images.

    Attributes:
        words: What became of them.
        count: How many, of how many.
        kind: "wrong", "broken" or "robust".
    """

    words: str
    count: Count
    kind: str


@dataclass(frozen=True)
class Stages:
    """What each attack of a suite did.

    Attributes:
        title: The suite and the threat model.
        shares: Wrong without an attack, broken by each stage in its order, robust; together all images.
        evidence: Its entry.
    """

    title: str
    shares: tuple[Share, ...]
    evidence: Evidence


@dataclass(frozen=True)
class Classes:
    """Accuracies by class, with and without an attack.

    Attributes:
        title: The attack and the threat model.
        rows: A class, its clean count, its robust count; the least robust first.
        evidence: Its entry.
    """

    title: str
    rows: tuple[tuple[str, Count, Count], ...]
    evidence: Evidence


def stages(evidence: Sequence[Evidence]) -> list[Stages]:
    """The entries whose suite has several attacks.

    Args:
        evidence: Of one checkpoint.

    Returns:
        What became of their images.
    """
    return [_stages(e) for e in evidence if len(e.entry["broken_by"]) > 1]


def _stages(evidence: Evidence) -> Stages:
    entry, n = evidence.entry, evidence.entry["n"]
    order = [stage["attack"] for stage in entry["settings"]["stages"]]
    broken = [Share(f"broken by {attack_title(name)}", Count(entry["broken_by"][name], n), "broken") for name in order]
    wrong = Share("wrong without an attack", Count(n - entry["clean_correct"], n), "wrong")
    robust = Share("robust to all of them", Count(entry["robust_correct"], n), "robust")
    return Stages(_under(evidence), (wrong, *broken, robust), evidence)


def _under(evidence: Evidence) -> str:
    entry = evidence.entry
    return f"{attack_title(entry['attack'])} at {threat_title(entry['norm'], entry['eps'])}"


def classes(checkpoint: Checkpoint, evidence: Sequence[Evidence]) -> Classes | None:
    """Accuracy of each class, by the attack at the checkpoint's own threat model that saw most images.

    Args:
        checkpoint: Which; one that was trained for no threat is shown under any.
        evidence: Of it.

    Returns:
        The classes; None where no such entry is known, or there are more classes than a page can show.
    """
    names = checkpoint.collection.dataset.class_names
    asked = (checkpoint.norm, checkpoint.eps)
    attacked = [e for e in evidence if e.entry["norm"]]
    own = [e for e in attacked if not checkpoint.eps or (e.entry["norm"], e.entry["eps"]) == asked]
    if not own or not 0 < len(names) <= _MOST_CLASSES:
        return None
    best = max(own, key=lambda e: e.entry["n"])
    rows = []
    for label, name in enumerate(names):
        fates = best.broken_by[best.labels == label]
        if len(fates):
            clean, robust = int(np.sum(fates != WRONG)), int(np.sum(fates == ROBUST))
            rows.append((name, Count(clean, len(fates)), Count(robust, len(fates))))
    return Classes(_under(best), tuple(sorted(rows, key=lambda row: (row[2].accuracy, row[0]))), best)
