"""What the verbs share: rows as JSON objects, names and patterns as rows, and the gravest of several exit codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from robust_zoo.errors import StorageError, UnknownCheckpoint, UsageError
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import written_eps
from robust_zoo.weights.exported import exported

# A string, not a path: an empty one ("$UNSET") means the default, where Path("") would mean the working directory.
CACHE_DIR = click.option("--cache-dir", metavar="DIR", help="Instead of ROBUST_ZOO_CACHE or the user cache.")

# Wrong or hostile bytes matter more than a full disk, and that more than a source that is down.
_GRAVITY = (1, 6, 5, 3, 4, 2)


def gravest(exit_codes: Iterable[int]) -> int:
    """The exit code of a command in which several things failed; 0 when none did."""
    return min(exit_codes, key=_GRAVITY.index, default=0)


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


def size_text(row: Checkpoint) -> str:
    """The size of the file at its source; `~` marks what is only typical of the architecture."""
    return ("" if row.size else "~") + megabytes(row.approximate_size)


def count(n: int, noun: str = "checkpoint") -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def require_directory(output: Path) -> None:
    """Says before the work that its result would have no place to go. Raises StorageError."""
    if not output.parent.is_dir():
        raise StorageError(
            f"no such directory: {output.parent}",
            source=str(output),
            expected="an existing directory",
            actual="nothing there",
            next=f"mkdir -p {output.parent}",
        )


def select(names: Sequence[str]) -> list[Checkpoint]:
    """Names in any spelling, wildcard patterns, and files that robust-zoo train wrote -> rows, each once, in order.

    Raises UnknownCheckpoint for a name that is none, and for a pattern that matches nothing.
    """
    found: dict[str, Checkpoint] = {}
    for name in names:
        if name.endswith(".safetensors") and Path(name).is_file():
            rows = [exported(Path(name))]
        else:
            rows = [get(match) for match in _matches(name)] if set(name) & set("*?[") else [get(name)]
        found |= {row.file if row.bundled else row.name: row for row in rows}
    return list(found.values())


def _matches(pattern: str) -> list[str]:
    if matches := list_models(pattern):
        return matches
    import difflib

    bare = pattern.translate(str.maketrans("", "", "*?[]"))
    closest = difflib.get_close_matches(bare, list_models(), n=3, cutoff=0.0)
    raise UnknownCheckpoint(
        f"no checkpoint matches {pattern!r}",
        model=pattern,
        source="the registry",
        expected=f"a pattern that matches, such as 'resnet50_l2_*'; closest names: {', '.join(closest)}",
        actual=repr(pattern),
        next="robust-zoo list   shows every name",
    )


def slurm_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """submitit's parameters from `--slurm KEY=VALUE`."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--slurm {pair} is not KEY=VALUE", expected="KEY=VALUE", actual=pair,
                next="--slurm slurm_partition=gpu --slurm gpus_per_node=8",
            )  # fmt: skip
        values[key] = int(value) if value.isdigit() else value
    return values
