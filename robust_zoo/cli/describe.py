"""Rows as JSON objects, and names and patterns from the command line as rows: shared by the verbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from robust_zoo.errors import UnknownCheckpoint
from robust_zoo.registry import get, list_models
from robust_zoo.rows import Checkpoint
from robust_zoo.threat import written_eps


def promise(row: Checkpoint) -> str:
    """How far the row's weights can be proven: "bundled" and "pinned" by its sha256, "hub-declared" by the hub's."""
    return "bundled" if row.bundled else "pinned" if row.sha256 else "hub-declared"


def as_json(row: Checkpoint, status: str | None = None) -> dict[str, Any]:
    """eps is a number in [0, 1] image units, accuracy in percent, size in bytes (null when unknown)."""
    return {
        "name": row.name,
        "architecture": row.architecture,
        "dataset": row.dataset,
        "norm": row.norm,
        "eps": row.eps,
        "clean_accuracy": row.clean_accuracy,
        "evidence": row.evidence,
        "file": row.file,
        "sha256": row.sha256,
        "size": row.size,
        "licence": row.licence,
        "status": status or promise(row),
    }


def all_of(row: Checkpoint) -> dict[str, Any]:
    """as_json, and the rest of the row."""
    collection = row.collection
    return as_json(row) | {
        "timm_architecture": row.network.timm,
        "collection": collection.name,
        "title": collection.title,
        "paper": collection.paper,
        "origin": collection.origin,
        "repo": collection.repo,
        "revision": collection.revision,
        "recipe": row.recipe,
        "training": row.training,
        "preprocessing": asdict(row.preprocessing),
        "measured": [{**asdict(m), "accuracy": round(m.accuracy, 2)} for m in row.measured],
    }


def eps_text(row: Checkpoint) -> str:
    """As the field writes it: 0.5, or 4/255."""
    written = written_eps(row.norm, row.eps)
    return f"{written}/255" if row.norm == "linf" and row.eps else written


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e8 else f"{size / 1e6:,.0f} MB"


def select(names: Sequence[str]) -> list[Checkpoint]:
    """Names in any spelling and wildcard patterns -> rows, each once, in the order given.

    Raises UnknownCheckpoint for a name that is none, and for a pattern that matches nothing.
    """
    found: dict[str, Checkpoint] = {}
    for name in names:
        matches = list_models(name) if set(name) & set("*?[") else [get(name).name]
        if not matches:
            raise UnknownCheckpoint(
                f"no checkpoint matches {name!r}",
                expected="a pattern that matches, such as 'resnet50_l2_*'",
                actual=repr(name),
                next="robust-zoo list   shows every name",
            )
        found |= {match: get(match) for match in matches}
    return list(found.values())
