"""The README's table of the strongest checkpoints, from the rows."""

from __future__ import annotations

from robust_zoo.cards.figures import table
from robust_zoo.cards.letters import Letters
from robust_zoo.describe import short_count
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get_dataset, natural_key
from robust_zoo.registry.robustness import Figure, best_robust, by_robustness, figures
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import NORMS, ThreatModel

MOST = 5  # checkpoints of a norm
_HEAD = ["checkpoint", "clean, %", "robust, %", "attack", "params"]


def strongest(threat: ThreatModel, dataset: str) -> list[tuple[Checkpoint, Figure]]:
    """The checkpoints of a dataset with the highest known robust accuracy.

    Args:
        threat: At which threat model.
        dataset: Which they were trained on.

    Returns:
        At most MOST of them, each with its best known figure; AutoAttack's before those of weaker attacks.
    """
    under = (threat.norm, threat.eps)
    rows = [row for row in load_registry().checkpoints.values() if row.dataset == dataset]
    known = [(row, figure) for row in rows if (figure := best_robust(row, under))]
    return sorted(known, key=lambda pair: (by_robustness(pair[0], under), natural_key(pair[0].name)))[:MOST]


def block(dataset: str = "imagenet") -> str:
    """The table, at the radius of each norm that the field reports.

    Args:
        dataset: Whose.

    Returns:
        Markdown; a sentence for a norm in which no figure is known.
    """
    source, letters = get_dataset(dataset), Letters()
    lines: list[list[str]] = []
    silent = []
    for norm in reversed(NORMS):  # Linf first, in which most is known
        threat = source.usual_threat(norm)
        found = strongest(threat, dataset)
        lines += [_line(threat, *pair, letters) for pair in found]
        silent += [] if found else [f"{NORMS[norm].label} {threat.radius}"]
    text = f"{table(_HEAD, lines, numbers=(1, 2, 4))}\n\n{letters.legend}\n" if lines else ""
    none = f"No robust accuracy on {source.title} is known of any row at {' or '.join(silent)} yet.\n" if silent else ""
    return "\n".join(filter(None, [text, none]))


def _line(threat: ThreatModel, checkpoint: Checkpoint, robust: Figure, letters: Letters) -> list[str]:
    clean = next((figure for figure in figures(checkpoint) if figure.eps is None), None)
    return [
        f"[`{checkpoint.name}`](model_cards/{checkpoint.name}.md)",
        letters.cell(clean),
        letters.cell(robust),
        letters.attack(robust, f"{NORMS[threat.norm].label} {threat.radius}"),
        short_count(checkpoint.network.parameters),
    ]
