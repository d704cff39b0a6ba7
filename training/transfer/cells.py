"""Cells: one JSON a transfer, keyed by weights, images, protocol, settings and seed; what exists is not done again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robust_zoo.counts import wilson_interval
from robust_zoo.errors import VerificationFailed
from robust_zoo.files import replace_file
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.transfer.task import Outcome, Target
from robust_zoo.training.version import code_version

# What differs between two computations of the same cell.
TIMES = ("seconds", "finished")


@dataclass(frozen=True)
class Model:
    """What reports say of a checkpoint. It lies in each of its cells, so that they need no registry.

    clean_accuracy: on the source's images, in percent. approximate_mb: of the network's file.
    """

    name: str
    architecture: str
    norm: str
    eps: float
    clean_accuracy: float
    approximate_mb: float

    @classmethod
    def of(cls, row: Checkpoint) -> Model:
        size = row.network.approximate_mb
        return cls(row.name, row.architecture, row.norm, row.eps, row.clean_accuracy, size)


@dataclass(frozen=True)
class Cell:
    """What a transfer is of. dataset: the target's name; data_sha256: of all its images, split by split.

    settings: of the protocol, JSON values.
    """

    model: str
    weights_sha256: str
    dataset: str
    data_sha256: str
    protocol: str
    settings: dict[str, Any]
    seed: int

    @property
    def key(self) -> str:
        """The model's name is not in it: two names of the same weights share their cells' numbers, not their files."""
        values = {name: value for name, value in asdict(self).items() if name not in ("model", "dataset")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def stem(self) -> str:
        return f"{self.model}__{_safe(self.dataset)}__{self.protocol}__seed{self.seed}__{self.key[:12]}"


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def images_sha256(target: Target) -> str:
    """Of the content of every image of every split, and of its labels."""
    splits = (target.train, target.val, target.test)
    return hashlib.sha256(" ".join(s.contents_sha256 if s is not None else "-" for s in splits).encode()).hexdigest()


def fill(folder: Path, cell: Cell, row: Checkpoint, target: Target, compute: Callable[[], Outcome]) -> dict[str, Any]:
    """The cell's entry: read when it is there, else computed and written whole.

    Processes that fill the same cell at once write the same entry, but for its times.
    """
    file = folder / f"{cell.stem}.json"
    if file.exists():
        return read(file)
    started = time.perf_counter()
    outcome = compute()
    entry = asdict(cell) | {
        "checkpoint": asdict(Model.of(row)),
        "classes": len(target.classes),
        "metric": target.metric,
        "note": target.note,
        "n": outcome.n,
        "correct": outcome.correct,
        "accuracy": outcome.accuracy,
        "interval_95": list(outcome.interval),
        "mean_per_class": outcome.mean_per_class,
        "chosen": outcome.chosen,
        "tried": outcome.tried,
        "details": outcome.details,
        "code": code_version(),
        "seconds": round(time.perf_counter() - started, 2),
        "finished": time.strftime("%FT%TZ", time.gmtime()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(file, json.dumps(entry, indent=1, sort_keys=True).encode() + b"\n")
    return entry


def read(file: Path) -> dict[str, Any]:
    """An entry, checked against its own counts and key.

    Raises VerificationFailed when it was changed or cut.
    """
    try:
        entry: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        cell = Cell(**{name: entry[name] for name in Cell.__dataclass_fields__})
        said = (entry["accuracy"], entry["interval_95"])
        counted = (100 * entry["correct"] / entry["n"], list(wilson_interval(entry["correct"], entry["n"])))
        sound = cell.stem == file.stem and said == counted
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise _unsound(file, f"{type(error).__name__}: {error}") from None
    if not sound:
        raise _unsound(file, f"accuracy {said[0]}, counted {counted[0]}; key {cell.key[:12]}")
    return entry


def _unsound(file: Path, actual: str) -> VerificationFailed:
    return VerificationFailed(
        f"{file.name} is not a sound cell", source=str(file), expected="an entry of robust-zoo transfer, unchanged",
        actual=actual, next="delete it and give the same robust-zoo transfer again",
    )  # fmt: skip


def entries(folder: Path) -> list[dict[str, Any]]:
    """All cells under a directory, sorted by dataset, protocol, model and seed; every one is checked."""
    found = [read(file) for file in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda e: (e["dataset"], e["protocol"], e["model"], e["seed"], e["data_sha256"]))


def settled(entry: dict[str, Any], leave: Iterable[str] = TIMES) -> dict[str, Any]:
    """An entry without what differs from one computation to the next."""
    return {name: value for name, value in entry.items() if name not in leave}
