"""What became of every image: by the attack that broke it, and by class. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_zoo.counts import Count
from robust_zoo.registry.reported import attack_title, threat_title
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.site.pages import Evidence
from robust_zoo.training.evaluation.fates import ROBUST, WRONG

_MOST_CLASSES = 20


@dataclass(frozen=True)
class Fate:
    """What became of some of the images, a line of a table.

    Attributes:
        words: What.
        kind: "wrong", "broken" or "robust".
        counts: How many, of how many, under each threat model of the suite.
    """

    words: str
    kind: str
    counts: tuple[Count, ...]


@dataclass(frozen=True)
class Suite:
    """What each attack of a suite did.

    Attributes:
        title: The suite.
        under: Threat models, each with its entry.
        fates: Wrong without an attack, broken by each attack in its order, robust; together all images.
    """

    title: str
    under: tuple[tuple[str, Evidence], ...]
    fates: tuple[Fate, ...]


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


def suites(evidence: Sequence[Evidence]) -> list[Suite]:
    """What became of the images under suites of several attacks.

    Args:
        evidence: Of one checkpoint.

    Returns:
        A suite for each sequence of attacks, its threat models in the entries' order.
    """
    found: dict[tuple[str, ...], list[Evidence]] = {}
    for e in evidence:
        found.setdefault(tuple(stage["attack"] for stage in e.entry["settings"]["stages"]), []).append(e)
    return [_suite(attacks, of) for attacks, of in found.items() if len(attacks) > 1]


def _suite(attacks: Sequence[str], evidence: Sequence[Evidence]) -> Suite:
    entries = [e.entry for e in evidence]

    def fate(words: str, kind: str, images: Sequence[int]) -> Fate:
        return Fate(words, kind, tuple(Count(count, entry["n"]) for count, entry in zip(images, entries, strict=True)))

    broken = {a: [entry["broken_by"][a] for entry in entries] for a in attacks}
    return Suite(
        attack_title(entries[0]["attack"]),
        tuple((threat_title(e.entry["norm"], e.entry["eps"]), e) for e in evidence),
        (
            fate("wrong without an attack", "wrong", [entry["n"] - entry["clean_correct"] for entry in entries]),
            *(fate(f"broken by {attack_title(a)}", "broken", images) for a, images in broken.items()),
            fate("robust to all of them", "robust", [entry["robust_correct"] for entry in entries]),
        ),
    )


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
