"""The README's table of the strongest checkpoints, from the rows."""

from __future__ import annotations

from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get_dataset, natural_key
from robust_zoo.registry.robustness import Figure, best_robust, by_robustness
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown
from robust_zoo.threat import NORMS, ThreatModel

MOST = 5  # checkpoints of a norm
_HEADER = """| robust at | checkpoint | clean | robust | attack | images | reported by | parameters |
|---|---|---|---|---|---|---|---|"""


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
    source, lines, silent = get_dataset(dataset), [], []
    for norm in reversed(NORMS):  # Linf first, in which most is known
        threat = source.usual_threat(norm)
        found = strongest(threat, dataset)
        lines += [_line(threat, *pair) for pair in found]
        silent += [] if found else [f"{NORMS[norm].label} {threat.radius}"]
    text = "\n".join([_HEADER, *lines, ""]) if lines else ""
    none = f"No robust accuracy on {source.title} is known of any row at {' or '.join(silent)} yet.\n" if silent else ""
    return "\n".join(filter(None, [text, none]))


def _line(threat: ThreatModel, checkpoint: Checkpoint, figure: Figure) -> str:
    cells = (
        f"{NORMS[threat.norm].label} {threat.radius}",
        f"[`{checkpoint.name}`](model_cards/{checkpoint.name}.md)",
        "-" if checkpoint.clean_accuracy is None else f"{checkpoint.clean_accuracy:.2f} %",
        f"{figure.value:.2f} %",
        markdown(figure.attack_title) + (" (an upper bound)" if figure.bound else ""),
        f"{figure.n:,}" if figure.n else "not said",
        "*measured here*" if figure.measured else markdown(figure.by),
        f"{checkpoint.network.parameters / 1e6:,.1f} M",
    )
    return f"| {' | '.join(cells)} |"
