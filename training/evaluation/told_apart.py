"""Entries whose names do not say which is which: two files of weights, image sets or seeds under one. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

# What may hide behind a field of an entry, and its words; of a hash eight digits are enough.
_HIDDEN = (
    ("model", "weights_sha256", "weights"),
    ("dataset", "data_sha256", "images"),
    ("attack", "seed", "seed"),
    ("attack", "batch_size", "batches of"),
)
_SAME = {"attack": ("model", "dataset", "attack", "norm", "eps", "precision")}  # else the field alone


def told_apart(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries as tables and pictures show them.

    Args:
        entries: Of the ledger, of either kind.

    Returns:
        The same, in their order; where one name is of several things, what tells them apart stands behind it.
    """
    found = [dict(entry) for entry in entries]
    for name, what, words in _HIDDEN:
        several = defaultdict(set)
        for entry in found:
            several[_of(entry, name)].add(entry.get(what))
        for entry, kinds in [(entry, several[_of(entry, name)]) for entry in found]:
            if len(kinds) > 1:
                entry[name] = f"{entry[name]}, {words} {str(entry[what])[:8]}"
    return found


def _of(entry: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    return tuple(entry.get(field) for field in _SAME.get(name, (name,)))
