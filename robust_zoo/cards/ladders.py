"""README's and docs' tables of what the project began with, from the rows: clean accuracy over the radius of training,
and what was measured of the bundled models."""

from __future__ import annotations

from robust_zoo.cards.figures import table
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import natural_key
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.reported import attack_title
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown
from robust_zoo.threat import NORMS, ThreatModel

_RANK = [*NORMS]


def ladder(collection: str = "salman2020") -> str:
    """Clean accuracy of a collection: a line for each architecture, a column for each radius of training.

    Args:
        collection: Its name.

    Returns:
        Markdown; each number, in percent with one decimal, leads to its card. Who reported them stands below.
    """
    rows = [row for row in load_registry().checkpoints.values() if row.collection.name == collection]
    threats = sorted({row.threat for row in rows}, key=_order)
    head = ["architecture", *(f"{NORMS[t.norm].label} {t.radius}" for t in threats)]
    at = {(row.architecture, row.threat): row for row in rows}
    names = sorted({row.architecture for row in rows}, key=lambda name: (-sum(name == a for a, _ in at), *natural(name)))
    lines = [[name, *(_step(at.get((name, threat))) for threat in threats)] for name in names]
    sources = ", ".join(dict.fromkeys(markdown(row.evidence) for row in rows))
    return f"{table(head, lines, numbers=1)}\n\nClean accuracy in %, {sources}.\n"


def natural(name: str) -> tuple[object, ...]:
    """As people sort names with numbers, as a tuple."""
    return (natural_key(name),)


def bundled(threat_of: str = "own") -> str:
    """What was measured on all test images of the bundled models.

    Args:
        threat_of: For those who read a table by name; there is one so far.

    Returns:
        Markdown: a line for each model.
    """
    raise NotImplementedError


def _order(threat: ThreatModel) -> tuple[int, float]:
    return _RANK.index(threat.norm), threat.eps


def _step(row: Checkpoint | None) -> str:
    return "" if row is None else f"[{row.clean_accuracy:.1f}](model_cards/{row.name}.md)"
