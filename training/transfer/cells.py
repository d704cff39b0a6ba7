"""Cells: one JSON per transfer, keyed by weights, images, protocol, settings and seed; none is done twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robust_zoo.errors import VerificationFailed
from robust_zoo.files import GO_ON, replace_file, storage
from robust_zoo.names import within
from robust_zoo.readers import read_json, read_text
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.detection.scenes import DetectionTarget
from robust_zoo.training.transfer.cell_fields import contradiction, wrong_field
from robust_zoo.training.transfer.task import Outcome, Target
from robust_zoo.training.version import code_version

# What differs between two computations of the same cell.
TIMES = ("seconds", "finished")
_LARGEST = 1 << 28  # bytes of many cells; one has about 3 kB


@dataclass(frozen=True)
class Model:
    """What reports say of a checkpoint. It lies in each of its cells, so that they need no registry.

    Attributes:
        name: The checkpoint's name.
        architecture: The architecture's name.
        norm: Of the threat model it was trained for.
        eps: The radius, in the norm's own unit of pixels in [0, 1]; 0 for a standard model.
        clean_accuracy: On the source's images, in percent; None for a file of one's own that was not measured yet.
        approximate_mb: Megabytes of the network's file.
    """

    name: str
    architecture: str
    norm: str
    eps: float
    clean_accuracy: float | None
    approximate_mb: float

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Model:
        """What a checkpoint's cells say of it."""
        size = 4e-6 * checkpoint.network.parameters or checkpoint.approximate_size / 1e6
        return cls(
            checkpoint.name, checkpoint.architecture, checkpoint.norm, checkpoint.eps, checkpoint.clean_accuracy, size
        )


@dataclass(frozen=True)
class Cell:
    """What a transfer is of.

    Attributes:
        model: The checkpoint's name.
        weights_sha256: Of the checkpoint's file.
        dataset: The target's name.
        data_sha256: Of all its images, split by split.
        protocol: A name of `PROTOCOLS`.
        settings: Of the protocol, JSON values.
        seed: Of everything that is random.
    """

    model: str
    weights_sha256: str
    dataset: str
    data_sha256: str
    protocol: str
    settings: dict[str, Any]
    seed: int

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Cell:
        """That which an entry is of."""
        return cls(**{name: entry[name] for name in cls.__dataclass_fields__})

    @property
    def key(self) -> str:
        """sha256 of what decides the figures; two names of the same weights share their numbers, not their files."""
        values = {name: value for name, value in asdict(self).items() if name not in ("model", "dataset")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def stem(self) -> str:
        """The name of its file, without the ending."""
        return f"{self.model}__{_safe(self.dataset)}__{self.protocol}__seed{self.seed}__{self.key[:12]}"


def _safe(name: str) -> str:
    letters = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return letters.encode()[:60].decode(errors="ignore")  # disks count bytes


def images_sha256(target: Target | DetectionTarget) -> str:
    """sha256 of the content of every image of every split, and of its labels."""
    splits = (target.train, target.val, target.test)
    return hashlib.sha256(" ".join(s.sha256 if s is not None else "-" for s in splits).encode()).hexdigest()


def fill(
    folder: Path, cell: Cell, checkpoint: Checkpoint, target: Target | DetectionTarget, compute: Callable[[], Outcome],
    kept: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The cell's entry: read when it is there, else computed and written whole.

    Processes that fill the same cell at once write the same entry, but for its times.

    Args:
        folder: Of the cells; made where it is not there.
        cell: What the transfer is of.
        checkpoint: The checkpoint whose name and weights `cell` holds.
        target: The dataset whose name and images `cell` holds.
        compute: Does the transfer; called only when the cell is not there.
        kept: The folder that `compute` keeps its model in, which must be there too.

    Returns:
        The entry: the cell's fields, the model, the figures with their counts, what was chosen and tried, the code.

    Raises:
        VerificationFailed: The cell is there and was changed or cut.
        StorageError: The disk refuses the file.
    """
    file = within(folder, f"{cell.stem}.json")
    if file.exists() and (kept is None or (kept / "config.json").exists()):  # what is kept last
        return read_cell(file)
    with storage(folder, GO_ON):  # what it is computed for has a place
        folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    outcome = compute()
    entry = asdict(cell) | {
        "checkpoint": asdict(Model.of(checkpoint)),
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
    replace_file(file, json.dumps(entry, indent=1, sort_keys=True).encode() + b"\n", GO_ON)
    return entry


def read_cell(file: Path) -> dict[str, Any]:
    """Reads an entry and checks it against its own counts and key.

    Args:
        file: The cell's .json.

    Returns:
        The entry, as `fill` made it.

    Raises:
        VerificationFailed: It was changed or cut.
    """
    try:
        return _checked(read_json(file, finite=False), file.stem, file)
    except (OSError, ValueError) as error:
        raise _unsound(file, f"{type(error).__name__}: {error}") from None


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Reads a file that `write_lines` made; every entry is checked as `read_cell` does.

    Args:
        file: JSON lines, [name, entry] each.

    Returns:
        The entries, in the file's order.

    Raises:
        VerificationFailed: A line was changed or cut.
    """
    try:
        lines = read_text(file, _LARGEST).splitlines()
        pairs = [(stem, entry) for stem, entry in (read_json(line, list, finite=False) for line in lines)]
    except (OSError, ValueError) as error:
        raise _unsound(file, f"{type(error).__name__}: {error}") from None
    return [_checked(entry, stem, file) for stem, entry in pairs]


def write_lines(file: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Writes many cells as one file of JSON lines, [name, entry] each, in the order of `read_cells`.

    Args:
        file: Written whole or not at all.
        entries: As `fill` and `read_cells` return them.

    Raises:
        StorageError: The disk refuses the file.
    """
    lines = [json.dumps([Cell.of(entry).stem, entry], sort_keys=True) for entry in sorted(entries, key=_place)]
    replace_file(file, ("\n".join(lines) + "\n").encode(), GO_ON)


def _checked(entry: dict[str, Any], stem: str, file: Path) -> dict[str, Any]:
    fault = "no JSON object" if not isinstance(entry, dict) else wrong_field(entry) or contradiction(entry)
    if not fault and Cell.of(entry).stem != stem:
        fault = f"it is called {stem}, and is {Cell.of(entry).stem}"
    if fault:
        raise _unsound(file, fault)
    return entry


def _unsound(file: Path, actual: str) -> VerificationFailed:
    return VerificationFailed(
        f"{file.name} is not a sound cell",
        source=str(file),
        expected="an entry of robust-zoo transfer, unchanged",
        actual=actual,
        next="name the --out of a robust-zoo transfer; of it, delete what was changed and give the same again",
    )


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """Reads all cells of a folder; every one is checked.

    Args:
        folder: What `fill` wrote to.

    Returns:
        The entries, sorted by dataset, protocol, model and seed.

    Raises:
        VerificationFailed: A cell was changed or cut.
    """
    return sorted((read_cell(file) for file in sorted(folder.glob("*.json"))), key=_place)


def _place(entry: dict[str, Any]) -> tuple:
    return entry["dataset"], entry["protocol"], entry["model"], entry["seed"], entry["data_sha256"]


def settled(entry: dict[str, Any], leave: Iterable[str] = TIMES) -> dict[str, Any]:
    """An entry without the names in `leave`: what differs from one computation to the next."""
    return {name: value for name, value in entry.items() if name not in leave}
