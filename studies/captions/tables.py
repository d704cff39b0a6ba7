"""The study's cells as the tables of README.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_zoo import get
from robust_zoo.registry.reported import threat_title
from robust_zoo.training.transfer.crossed import Crossed

_STEM = "resnet18_x0_25_cifar10"
BACKBONES = tuple(f"{_STEM}_{threat}" for threat in ("l2_eps0", "l2_eps0_25", "l2_eps0_5", "linf_eps8"))
COLOURS = "36 mean colours"
SEEN = (*BACKBONES, COLOURS)
SAME = "captions"  # the text that is the captions themselves
TEXTS = (SAME, "WordNet", "Austen")
METRICS = {  # column -> field of a cell, digits
    "perplexity": ("perplexity", 2),
    "CIDEr-D": ("cider", 3),
    "BLEU-1": ("bleu1", 3),
    "BLEU-2": ("bleu2", 3),
    "word F1": ("f1", 3),
    "R@5": ("recall", 3),
    "different": ("different", 0),
}
Cell = Mapping[str, Any]


@dataclass(frozen=True)
class Start:
    """Where a captioner's embedding and GRU come from.

    Attributes:
        text: What their language model was trained on, None for a random start.
        frozen: They are not trained with the captioner.
    """

    text: str | None
    frozen: bool

    @property
    def title(self) -> str:
        """As the tables have it."""
        if self.text is None:
            return "random, frozen" if self.frozen else "from scratch"
        return f"{self.text}, {'frozen' if self.frozen else 'tuned'}"


Asked = tuple[Start, Sequence[str]]
"""Captioners: where their language part comes from; what they see, of which the mean is taken."""

SCRATCH = Start(None, False)
STARTS = (SCRATCH, Start(None, True), *(Start(text, frozen) for text in TEXTS for frozen in (False, True)))


def read(file: Path = Path(__file__).parent / "cells.jsonl") -> list[Cell]:
    """The cells that lie beside this file."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def captioners(cells: Iterable[Cell], field: str, start: Start, seen: Sequence[str] = SEEN) -> Crossed:
    """One figure of captioners, split by split.

    Args:
        cells: Of all splits.
        field: Of a cell.
        start: Where their embedding and GRU come from.
        seen: What they see; the mean over these.

    Returns:
        [1, splits]: the error is over splits alone.
    """
    asked = (start.text, start.frozen)
    of = {(c["sees"], c["split"]): c[field] for c in cells if c["sees"] and (c["text"], c["frozen"]) == asked}
    splits = sorted({split for _, split in of})
    return Crossed(np.array([[of[name, split] for split in splits] for name in seen]).mean(0, keepdims=True))


def language(cells: Iterable[Cell], field: str, text: str) -> Crossed:
    """One figure of a text's language models, [1, splits]."""
    of = {c["split"]: c[field] for c in cells if not c["sees"] and c["text"] == text}
    return Crossed(np.array([[of[split] for split in sorted(of)]], dtype=float))


def title(name: str) -> str:
    """What a captioner sees, as the tables have it."""
    if name == COLOURS:
        return name
    row = get(name)
    return threat_title(row.norm, row.eps)


def tables(cells: Sequence[Cell]) -> str:
    """Writes the tables of README.md.

    Args:
        cells: Of all splits.

    Returns:
        Markdown: language models; captioners by their start, then against scratch; by what they see, then against the
        standard model's features. Differences beyond two standard errors are bold.
    """
    lines = _head("language model of", "sentences", "perplexity of test captions", "CIDEr-D", "word F1")
    for text in TEXTS:
        n, *measured = (language(cells, field, text) for field in ("sentences", "perplexity", "cider", "f1"))
        lines.append(_line(text, f"{n.mean:,.0f}", *map(_said, measured, (2, 3, 3))))

    def against(first: str, rows: Mapping[str, tuple[Start, Sequence[str]]], whose: str) -> list[str]:
        found = ["", *_head(first, *METRICS)]
        for name, asked in rows.items():
            ours = [(captioners(cells, field, *asked), digits) for field, digits in METRICS.values()]
            found.append(_line(name, *(_said(*one) for one in ours)))
        found += ["", *_head(f"less {whose}", *METRICS)]
        for name, asked in list(rows.items())[1:]:
            less = [(difference(cells, field, asked, rows[whose]), digits) for field, digits in METRICS.values()]
            found.append(_line(name, *(_said(*one, signed=True) for one in less)))
        return found

    lines += against("embedding and GRU", {start.title: (start, SEEN) for start in STARTS}, SCRATCH.title)
    lines += against("from scratch, sees", {title(name): (SCRATCH, (name,)) for name in SEEN}, title(SEEN[0]))
    return "\n".join(lines) + "\n"


def difference(cells: Sequence[Cell], field: str, ours: Asked, theirs: Asked) -> Crossed:
    """By how much a figure of some captioners is above that of others, split by split, [1, splits]."""
    return captioners(cells, field, *ours) - captioners(cells, field, *theirs)


def _said(figure: Crossed, digits: int, signed: bool = False) -> str:
    if not signed:
        return f"{figure.mean:.{digits}f} ± {figure.error:.{digits}f}"
    text = f"{figure.mean:+z.{digits}f} ± {figure.error:.{digits}f}"
    return f"**{text}**" if abs(figure.mean) > 2 * figure.error else text


def _head(first: str, *others: str) -> list[str]:
    return [_line(first, *others), "|---|" + "---:|" * len(others)]


def _line(*parts: str) -> str:
    return f"| {' | '.join(parts)} |"
