"""Accuracies under corruptions as tables of Markdown: of one checkpoint for its card, of the bundled ones for docs/."""

from __future__ import annotations

from robust_zoo.cards.figures import table
from robust_zoo.registry.corruptions import Corruptions
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.ranking import ranked
from robust_zoo.registry.reported import threat_title
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown


def words(kind: str) -> str:
    """A corruption as tables call it: "gaussian noise"."""
    return markdown(kind.replace("_", " "))


def section(checkpoint: Checkpoint, results: str = "") -> str:
    """What was measured of a checkpoint under corruptions.

    Args:
        checkpoint: Whose.
        results: Where the folder results/ is, for links to the evidence; "" leaves them out.

    Returns:
        Markdown: a table for each set of images; "" where there is none.
    """
    return "\n\n".join(_of_one(figure, f"{results}/{checkpoint.name}" if results else "")
                       for figure in checkpoint.corruptions)  # fmt: skip


def _of_one(figure: Corruptions, where: str) -> str:
    rows = [
        [words(kind), *(_percent(100 * count / figure.n) for count in counts), _percent(figure.by_kind[kind])]
        for kind, counts in figure.correct
    ]
    low, high = figure.interval
    digits = figure.entry[-12:]
    evidence = f"[{digits}]({where}/tables/{figure.entry}.json)" if where else digits
    clean = "" if figure.clean_accuracy is None else f", without any {figure.clean_accuracy:.1f} %"
    mce = "" if figure.mce is None else f"; mCE {figure.mce:.1f} % of AlexNet's"
    return (
        f"Accuracy in % of {figure.n:,} images of {markdown(figure.data)}: mean over corruptions and severities "
        f"{figure.mean:.1f} % ({low:.1f}-{high:.1f}){clean}{mce} ({evidence}).\n\n"
        + table(["corruption", "1", "2", "3", "4", "5", "mean"], rows, numbers=range(1, 7))
    )


def bundled() -> str:
    """A line for each corruption, a column for each bundled model, the means over severities; on the same images.

    Returns:
        Markdown; the best of each line is bold.
    """
    rows = [row for row in load_registry().checkpoints.values() if row.bundled]
    return "\n\n".join(_beside(data, pairs) for data, pairs in ranked(rows).items()) + "\n"


def _beside(data: str, pairs: list[tuple[Checkpoint, Corruptions]]) -> str:
    order = [*load_registry().checkpoints]
    pairs = sorted(pairs, key=lambda pair: order.index(pair[0].name))
    figures = [figure for _, figure in pairs]
    lines = [["mean", *_best([figure.mean for figure in figures])]]
    if all(figure.clean is not None for figure in figures):
        lines.insert(0, ["none", *_best([figure.clean_accuracy or 0.0 for figure in figures])])
    lines += [[words(kind), *_best([figure.by_kind[kind] for figure in figures])] for kind, _ in figures[0].correct]
    head = [
        markdown(f"{figures[0].n:,} of {data}"),
        *(threat_title(checkpoint.norm, checkpoint.eps) for checkpoint, _ in pairs),
    ]
    return table(head, lines)


def _best(values: list[float]) -> list[str]:
    return [f"**{_percent(value)}**" if value == max(values) else _percent(value) for value in values]


def _percent(value: float) -> str:
    return f"{value:.1f}"
