"""Checkpoints side by side: which of their figures may be compared, and whether the same images tell two apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

from robust_zoo.counts import PairedCount
from robust_zoo.describe import facts, images_of, source_of
from robust_zoo.registry.comparison import Kind, Paired, by_kind, compare, in_order, under
from robust_zoo.registry.reported import NORM_TITLES, radius_of
from robust_zoo.registry.robustness import Figure
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.site.ladders import ladders
from robust_zoo.site.pages import Contents, Page
from robust_zoo.site.table import lines
from robust_zoo.training.evaluation.paired import fates, paired_by

_MOST = 6  # side by side, as `robust-zoo compare` has it
_SAYS = (
    "A less B is {} points (95 % interval {} to {}). Of {} images only A gets {} right and only B {}"  # of `numbers`
)


def build(contents: Contents) -> list[Page]:
    """The page on which any checkpoints are compared, with a table of neighbours on ladders whose images are known.

    Args:
        contents: Of the site.

    Returns:
        compare.html.
    """
    measured = [checkpoint for checkpoint in contents.checkpoints if contents.of(checkpoint)]
    counts = _paired(contents, measured)
    values = {"data": as_script(table(contents.checkpoints, measured, counts)), "groups": neighbours(measured, counts)}
    about = "Any checkpoints of robust_zoo side by side: which differences chance can explain, image by image."
    return [Page("compare.html", "Compare", "compare.html", values, about, ("compare.js",))]


def _paired(contents: Contents, measured: Sequence[Checkpoint]) -> Paired:
    return paired_by([fates((e.entry, e.broken_by) for e in contents.of(checkpoint)) for checkpoint in measured])


def neighbours(measured: Sequence[Checkpoint], counts: Paired) -> list[dict[str, Any]]:
    """Each two checkpoints next to each other on a ladder, without an attack and under AutoAttack, on the same images.

    Args:
        measured: Which checkpoints.
        counts: Of two of their places and a figure.

    Returns:
        For each kind, in the order of `compare`: its `title`, and `lines` with `first` and `second` (checkpoints),
        their `figures`, their `count`, its numbers as texts (`difference`, `interval`, `p`), whether they are `apart`.
    """
    beside = {pair for ladder in ladders(measured) for pair in pairwise(rung.name for rung in ladder.rungs)}
    groups = []
    for line in compare(measured, counts):
        told = [
            {
                "first": measured[i],
                "second": measured[j],
                "figures": (line.figures[i], line.figures[j]),
                "count": counted,
                "difference": signed(counted.difference),
                "interval": " to ".join(map(signed, counted.interval)),
                "p": p_text(counted.p),
                "apart": apart,
            }
            for (i, j, counted), apart in zip(line.pairs, line.apart, strict=True)
            if counted and (measured[i].name, measured[j].name) in beside
        ]
        if told and line.kind.attack in ("none", "autoattack"):
            groups.append({"title": title(line.kind), "lines": told})
    return groups


def title(figure: Figure) -> str:
    """What a figure is of: "AutoAttack, Linf 4/255, 5,000 images"."""
    if figure.eps is None:
        return f"Clean, {images_of(figure)}"
    return (
        f"{figure.attack_title}, {NORM_TITLES[figure.norm]} {radius_of(figure.norm, figure.eps)}, {images_of(figure)}"
    )


def table(checkpoints: Sequence[Checkpoint], measured: Sequence[Checkpoint], counts: Paired) -> dict[str, Any]:
    """What the page's script compares by: the kinds of figures, each checkpoint's figures by kind, and counts.

    The script has no arithmetic of its own but this: figures of one kind are in one line, and two intervals overlap or
    do not.

    Args:
        checkpoints: All that may be compared.
        measured: Those of them whose images' fates are known.
        counts: Of two places in `measured` and a figure.

    Returns:
        `facts`: names of facts. `words`: what facts say, each once. `kinds`: [title, threat model or "", whether the
        number of images is known]. `by`: who has figures. `rows`: name -> [places of its facts in `words`, {kind:
        [value, low, high, place in `by`, measured, bound]}, other spellings]; low and high are what so many images
        allow. `pairs`: "place place" in `rows` -> {kind: [apart, numbers, p in words]}, where it is `tiny` without it.
        `says`: the sentence that the numbers of a pair are put into. `most`: how many at once.
    """
    found = [by_kind(checkpoint) for checkpoint in checkpoints]
    kinds = in_order(found)
    places = {kind: place for place, kind in enumerate(kinds)}
    also = {line.row.name: line.also for line in lines(checkpoints)}
    by: dict[str, int] = {}
    words: dict[str, int] = {}
    rows = {}
    for checkpoint, of in zip(checkpoints, found, strict=True):
        figures = {places[kind]: _figure(figure, by) for kind, figure in of.items()}
        said = [words.setdefault(word, len(words)) for word in facts(checkpoint).values()]
        rows[checkpoint.name] = [said, figures, also[checkpoint.name]]
    return {
        "most": _MOST,
        "says": _SAYS,
        "tiny": p_text(0.0),
        "facts": [*facts(checkpoints[0])] if checkpoints else [],
        "words": [*words],
        "kinds": [[title(figure), str(under(figure) or ""), figure.n is not None] for figure in kinds.values()],
        "by": [*by],
        "rows": rows,
        "pairs": _pairs(measured, counts, places, [*rows]),
    }


def _figure(figure: Figure, by: dict[str, int]) -> list[Any]:
    low, high = (round(end, 2) for end in figure.overall) if figure.overall else (None, None)
    return [figure.value, low, high, by.setdefault(source_of(figure), len(by)), int(figure.measured), int(figure.bound)]


def _pairs(
    measured: Sequence[Checkpoint], counts: Paired, places: dict[Kind, int], names: Sequence[str]
) -> dict[str, dict[int, list[Any]]]:
    at = [names.index(checkpoint.name) for checkpoint in measured]
    found: dict[str, dict[int, list[Any]]] = {}
    for (i, first), (j, _) in combinations(enumerate(measured), 2):
        for kind, figure in by_kind(first).items():
            if counted := counts(i, j, figure):
                of = found.setdefault(f"{at[i]} {at[j]}", {})
                of[places[kind]] = [int(counted.p < 0.05), numbers(counted), *_not_tiny(counted.p)]
    return found


def numbers(count: PairedCount) -> str:
    """What the same images say of two: the difference with its interval, and on which images it rests."""
    differences = map(signed, (count.difference, *count.interval))
    return " ".join([*differences, *(f"{images:,}" for images in (count.n, count.wins, count.losses))])


def signed(points: float) -> str:
    """A difference with its sign: "+4.5", "−0.3", "0.0"."""
    return f"{points:+.1f}".replace("-", "−") if round(points, 1) else "0.0"


def p_text(p: float) -> str:
    """A p-value in two digits: "p = 0.031", "p < 0.0001"."""
    return f"p = {p:.2g}" if p >= 0.0001 else "p < 0.0001"


def _not_tiny(p: float) -> list[str]:
    """Most are tiny, and are left out."""
    return [words] if (words := p_text(p)) != p_text(0.0) else []


def as_script(value: Any) -> Any:
    """A value as JSON that may stand in a <script> element."""
    from markupsafe import Markup

    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
