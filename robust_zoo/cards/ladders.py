"""README's table of the checkpoints that the project began with: clean accuracy over the radius of training."""

from __future__ import annotations

from robust_zoo.cards.figures import table
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import natural_key
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown
from robust_zoo.threat import NORMS

_RANK = [*NORMS]


def ladder(collection: str = "salman2020") -> str:
    """Clean accuracy of a collection: a line for each architecture, a column for each radius of training.

    Args:
        collection: Its name.

    Returns:
        Markdown; each number, in percent with one decimal, leads to its card. Who reported them stands below.
    """
    rows = [row for row in load_registry().checkpoints.values() if row.collection.name == collection]
    threats = sorted({row.threat for row in rows}, key=lambda t: (_RANK.index(t.norm), t.eps))
    head = ["architecture", *(f"{NORMS[t.norm].label}<br>{t.radius}" for t in threats)]
    at = {(row.architecture, row.threat): row for row in rows}
    steps = {name: [at.get((name, threat)) for threat in threats] for name, _ in at}
    names = sorted(steps, key=lambda name: (steps[name].count(None), natural_key(name)))
    lines = [[name, *map(_step, steps[name])] for name in names]
    sources = ", ".join(dict.fromkeys(markdown(row.evidence) for row in rows))
    return f"{table(head, lines, numbers=1)}\n\nClean accuracy in %, {sources}.\n"


def _step(row: Checkpoint | None) -> str:
    return "" if row is None else f"[{row.clean_accuracy:.1f}](model_cards/{row.name}.md)"
