"""README's table of the checkpoints that the project began with: clean accuracy over the radius of training."""

from __future__ import annotations

from robust_zoo.cards.figures import table
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import natural_key
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown
from robust_zoo.threat import NORMS


def ladders(collection: str = "salman2020") -> str:
    """Clean accuracy of a collection: a table for each norm, with architectures and radii of training.

    Args:
        collection: Its name.

    Returns:
        Markdown; each number, in percent with one decimal, leads to its card. Who reported them stands below.
    """
    rows = [row for row in load_registry().checkpoints.values() if row.collection.name == collection]
    tables = [_ladder(norm, [row for row in rows if row.norm == norm]) for norm in NORMS]
    sources = ", ".join(dict.fromkeys(markdown(row.evidence) for row in rows))
    return "\n".join([*tables, f"Clean accuracy in %, {sources}.\n"])


def _ladder(norm: str, rows: list[Checkpoint]) -> str:
    radii = sorted({row.eps for row in rows})
    at = {(row.architecture, row.eps): row for row in rows}
    steps = {name: [at.get((name, eps)) for eps in radii] for name, _ in at}
    names = sorted(steps, key=lambda name: (steps[name].count(None), natural_key(name)))
    head = [f"{NORMS[norm].label} eps", *(NORMS[norm].spell(eps) for eps in radii)]
    return table(head, [[name, *map(_step, steps[name])] for name in names], numbers=range(1, len(head))) + "\n"


def _step(row: Checkpoint | None) -> str:
    return "" if row is None else f"[{row.clean_accuracy:.1f}](model_cards/{row.name}.md)"
