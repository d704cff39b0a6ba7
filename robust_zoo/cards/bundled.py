"""The tables of docs/measured.md: what was measured of the bundled models."""

from __future__ import annotations

from robust_zoo.cards.figures import table
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.reported import attack_title
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS, ThreatModel

_WEAKEST_FIRST = ("fgsm", "pgd-20", "apgd-ce", "autoattack")


def on_all_images() -> str:
    """A line for each model: clean and PGD-20 accuracy on the same images, all that the dataset has for tests.

    Returns:
        Markdown.
    """
    lines = []
    for row in _rows():
        clean = next(m for m in row.measured if m.threat is None)
        attacked = [m for m in row.measured if m.threat and (m.attack, m.n) == ("pgd-20", clean.n)]
        lines += [[f"`{row.name}`", _percent(clean), _words(m.threat), _percent(m)] for m in attacked if m.threat]
    return table(["model", "clean", "PGD-20 at", "robust"], lines) + "\n"


def on_fewer_images() -> str:
    """A line for each model and threat model under AutoAttack, a column for each attack, on the same images.

    Returns:
        Markdown.
    """
    lines = []
    for norm in NORMS:
        for row in _rows():
            suites = [m for m in row.measured if (m.attack, m.norm) == (_WEAKEST_FIRST[-1], norm)]
            for threat in dict.fromkeys(m.threat for m in suites if m.threat):
                n = max(m.n for m in suites if m.threat == threat)
                at = {m.attack: _percent(m) for m in row.measured if (m.threat, m.n) == (threat, n)}
                found = (at.get(attack, "") for attack in _WEAKEST_FIRST)
                lines.append([f"`{row.name}`", _words(threat), f"{n:,}", *found])
    return table(["model", "attack at", "images", *map(attack_title, _WEAKEST_FIRST)], lines) + "\n"


def _rows() -> list[Checkpoint]:
    return [row for row in load_registry().checkpoints.values() if row.bundled]


def _words(threat: ThreatModel) -> str:
    return f"{NORMS[threat.norm].label} eps {threat.radius}"


def _percent(m: Measurement) -> str:
    return f"{m.accuracy:.2f} %"
