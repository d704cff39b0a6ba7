"""The table of checkpoints: a line for each, and what it can be filtered by. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from robust_zoo.describe import promise, short_count, size_text
from robust_zoo.registry.lookup import natural_key
from robust_zoo.registry.reported import threat_title
from robust_zoo.registry.robustness import Figure, best_robust, by_robustness, figures
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.site.words import KINDS, norm_title, radius_key

_Sort = Callable[[str], Any]
_SIZES = (10, 30, 60, 100, 300)  # millions of parameters that one may ask for at most


@dataclass(frozen=True)
class Facet:
    """Something to filter by.

    Attributes:
        key: Its name in the address, and of the lines' attribute.
        label: To a reader.
        options: (value, words), in order.
        most: Whether a line's number has to be at most the value, not the value itself.
    """

    key: str
    label: str
    options: tuple[tuple[str, str], ...]
    most: bool = False


# key -> label, a checkpoint's value, what values are sorted by, what a reader sees of one
_FACETS: dict[str, tuple[str, Callable[[Checkpoint], str], _Sort, Callable[[str], str]]] = {
    "norm": ("Norm", lambda c: c.norm, str, norm_title),
    "eps": ("Trained radius", lambda c: c.threat.radius, radius_key, str),
    "architecture": ("Architecture", lambda c: c.architecture, natural_key, str),
    "collection": ("Collection", lambda c: c.collection.name, str, str),
    "dataset": ("Trained on", lambda c: c.dataset, str, str),
    "licence": ("Licence", lambda c: c.licence, str, str),
    "kind": ("Kind", lambda c: c.collection.kind, str, KINDS.__getitem__),
    "weights": ("Weights", promise, str, str),
}
FACTS = (*_FACETS, "parameters", "size", "clean", "robust")


@dataclass(frozen=True)
class Line:
    """A checkpoint in the table.

    Attributes:
        row: The checkpoint.
        facts: What it is filtered and sorted by, by FACTS; "" for what is not known.
        also: Other spellings that `get` accepts, beside those that a radius may have.
        threat: What it was trained for.
        clean: Its clean accuracy.
        robust: Its best known robust accuracy.
        parameters: As text.
        size: Of its file, as text.
    """

    row: Checkpoint
    facts: dict[str, str]
    also: str
    threat: str
    clean: Figure | None
    robust: Figure | None
    parameters: str
    size: str


def facets(checkpoints: Sequence[Checkpoint]) -> list[Facet]:
    """What the table can be filtered by, with the values that its lines have.

    Args:
        checkpoints: The lines.

    Returns:
        The filters, in the order of the form.
    """
    found = []
    for key, (label, value_of, order, words) in _FACETS.items():
        values = sorted({value_of(checkpoint) for checkpoint in checkpoints}, key=order)
        found.append(Facet(key, label, tuple((value, words(value)) for value in values)))
    sizes = tuple((str(millions * 10**6), f"{millions} M or fewer") for millions in _SIZES)
    return [*found, Facet("parameters", "Parameters", sizes, most=True)]


def lines(checkpoints: Sequence[Checkpoint]) -> list[Line]:
    """The table's lines.

    Args:
        checkpoints: In their order.

    Returns:
        A line for each.
    """
    known = [c for c in checkpoints if best_robust(c)]
    ranks = {c.name: place for place, c in enumerate(sorted(known, key=by_robustness))}
    names = {c.name for c in checkpoints}
    return [_line(checkpoint, ranks.get(checkpoint.name), names) for checkpoint in checkpoints]


def _line(checkpoint: Checkpoint, rank: int | None, names: set[str]) -> Line:
    network, tag = checkpoint.network, checkpoint.threat.tag
    clean = next((figure for figure in figures(checkpoint) if figure.attack == "none"), None)
    also = [checkpoint.robustbench.lower()] if checkpoint.robustbench else []
    if checkpoint.name == f"{network.name}_{tag}":
        also += [spelling for alias in sorted(network.aliases) if (spelling := f"{alias}_{tag}") not in names]
    return Line(
        row=checkpoint,
        facts=dict(zip(FACTS, _facts(checkpoint, clean, rank), strict=True)),
        also=" ".join(also),
        threat=threat_title(checkpoint.norm, checkpoint.eps),
        clean=clean,
        robust=best_robust(checkpoint),
        parameters=short_count(network.parameters).replace("M", " M"),
        size=size_text(checkpoint),
    )


def _facts(checkpoint: Checkpoint, clean: Figure | None, rank: int | None) -> Iterator[str]:
    yield from (value_of(checkpoint) for _, value_of, _, _ in _FACETS.values())
    yield str(checkpoint.network.parameters)
    yield str(checkpoint.approximate_size)
    yield str(clean.value) if clean else ""
    yield "" if rank is None else str(rank)
