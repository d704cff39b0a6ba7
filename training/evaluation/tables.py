"""Entries of several accuracies: how many images are right under each of some conditions, and what that adds up to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_zoo.counts import Count, MeanCount
from robust_zoo.errors import UsageError, ZooError
from robust_zoo.files import is_sha256
from robust_zoo.readers import read_json
from robust_zoo.training.choices import CORRUPTIONS, CUES, FP32, PRECISIONS, TABLES, go_together
from robust_zoo.training.corruptions.kinds import KINDS
from robust_zoo.training.data.npz import read_npz
from robust_zoo.training.evaluation import fields
from robust_zoo.training.evaluation.entries import not_sound
from robust_zoo.training.evaluation.fates import ROBUST

FOLDER = "tables"  # in a checkpoint's folder of a ledger
CLEAN = "clean"  # the condition without any corruption
SHAPE, TEXTURE = "shape", "texture"  # the conditions of a cue conflict
Right = Mapping[str, np.ndarray]
"""By condition which images are right: (n,) bool."""


def kind_of(condition: str) -> str:
    """The corruption of a condition: "fog 3" -> "fog"."""
    return condition.rpartition(" ")[0]


def _corruptions(right: Right) -> dict[str, Any]:
    """The mean over the fifteen and their severities, or as many as there are; "clean" and extra ones apart."""
    counted = [hits for condition, hits in right.items() if kind_of(condition) in KINDS]
    often: np.ndarray = np.stack(counted).sum(axis=0, dtype=np.int64)
    mean = MeanCount(int(often.sum()), int((often**2).sum()), len(counted), len(often))
    return {"mean_accuracy": mean.accuracy, "mean_interval_95": list(mean.interval)}


def _cues(right: Right) -> dict[str, Any]:
    """Shape bias (Geirhos et al. 2019): decisions by shape among those by shape or texture."""
    shape, texture = (int(right[condition].sum()) for condition in (SHAPE, TEXTURE))
    if not shape + texture:
        raise UsageError(
            "shape bias has no meaning: no decision was for the shape or the texture of an image",
            expected="a classifier of ImageNet's classes",
            actual=f"0 of {len(right[SHAPE]):,} decisions for either",
            next="robust-zoo evaluate NAME -d imagenet   shows whether it classifies at all",
        )
    bias = Count(shape, shape + texture)
    return {"shape_bias": bias.accuracy, "shape_bias_interval_95": list(bias.interval)}


FIGURES: Mapping[str, Callable[[Right], dict[str, Any]]] = {CORRUPTIONS: _corruptions, CUES: _cues}
go_together("training/evaluation/tables.py", FIGURES, TABLES)


@dataclass(frozen=True)
class TableKey:
    """What a table is of.

    Attributes:
        table: A name of `choices.TABLES`.
        model: The checkpoint's name.
        weights_sha256: Of the checkpoint's file.
        dataset: In words, e.g. "cifar10-c"; what we made ourselves says so.
        data_sha256: Of the images under all conditions, or of all that makes them.
        conditions: Their names, in alphabetical order.
        seed: Of images that we made.
        precision: A name of `choices.PRECISIONS`.
    """

    table: str
    model: str
    weights_sha256: str
    dataset: str
    data_sha256: str
    conditions: tuple[str, ...]
    seed: int = 0
    precision: str = FP32

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the figure but for weights and images; no batch changes it."""
        return {"table": self.table, "seed": self.seed, "precision": self.precision}

    @property
    def settings_sha256(self) -> str:
        """sha256 of `settings`."""
        return _sha256(self.settings)

    @property
    def chunk(self) -> int:
        """Images that are evaluated together, and lost together: no more than a usual batch."""
        return 250

    @property
    def stem(self) -> Path:
        """Its files in a ledger, without their endings."""
        key = _sha256([self.weights_sha256, self.data_sha256, self.settings_sha256])
        rounded = "" if self.precision == FP32 else f"_{self.precision}"
        words = self.dataset.replace(" ", "-").replace(",", "")
        return Path(self.model, FOLDER, f"{words}__{self.table}{rounded}__{key[:12]}")

    def entry(self, broken_by: np.ndarray, flags: list[str] | None) -> dict[str, Any]:
        """As of `ledger.Key`; no attack is judged here, so there are no flags. Raises UsageError for no figure."""
        right = self._right(broken_by)
        about = {name: value for name, value in asdict(self).items() if name != "conditions"}
        counts = {condition: int(hits.sum()) for condition, hits in right.items()}
        n = len(broken_by) // len(self.conditions)
        return about | {"n": n, "correct": counts} | FIGURES[self.table](right)

    def arrays(self, labels: np.ndarray, broken_by: np.ndarray) -> dict[str, np.ndarray]:
        """The fates alone: (n, C / 8) uint8, a bit for each condition."""
        return {"right": np.packbits(np.stack([*self._right(broken_by).values()], axis=1), axis=1)}

    def read(self, file: Path) -> dict[str, Any]:
        """As `read_table`."""
        return read_table(file)

    def _right(self, broken_by: np.ndarray) -> Right:
        return dict(zip(self.conditions, (broken_by == ROBUST).reshape(len(self.conditions), -1), strict=True))


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(fields.is_count, value.values()))


_FIELDS: dict[str, fields.Rule] = {
    "table": lambda value: isinstance(value, str) and value in TABLES, "model": fields.is_name,
    "weights_sha256": is_sha256, "dataset": fields.is_name, "data_sha256": is_sha256, "seed": fields.is_whole,
    "precision": lambda value: isinstance(value, str) and value in PRECISIONS, "n": fields.is_positive,
    "correct": _is_counts, "settings": fields.is_table, "settings_sha256": is_sha256, "code": fields.is_name,
    "device": fields.is_name, "seconds": fields.is_number, "finished": fields.is_time,
}  # fmt: skip


def read_table(file: Path) -> dict[str, Any]:
    """Reads an entry and checks every number of it against the images' fates.

    Args:
        file: The entry's .json; the .npz lies beside it.

    Returns:
        The entry, as `ledger.complete` made it of a TableKey.

    Raises:
        VerificationFailed: It is not sound.
    """
    try:
        entry = read_json(file)
        (packed,) = read_npz(file.with_suffix(".npz"), ["right"])
        if fault := _fault(file, entry, packed):
            raise ValueError(fault)
    except (OSError, ValueError, ZooError) as error:
        words = error.message if isinstance(error, ZooError) else str(error) or type(error).__name__
        raise not_sound(file, "a table of robust-zoo evaluate, unchanged, and its .npz", words) from None
    return entry


def _fault(file: Path, entry: Any, packed: np.ndarray) -> str:
    """Where an entry's fields, its name and its images' fates do not agree; "" where they do."""
    if not isinstance(entry, dict):
        return "no entry"
    figures = [name for name in entry if name.endswith(("_accuracy", "_bias", "_interval_95"))]
    if fault := fields.wrong_field({name: entry[name] for name in entry if name not in figures}, _FIELDS):
        return fault
    about = {name: entry[name] for name in TableKey.__dataclass_fields__ if name != "conditions"}
    key = TableKey(conditions=tuple(sorted(entry["correct"])), **about)
    if _sha256(key.settings) != _sha256(entry["settings"]) or key.settings_sha256 != entry["settings_sha256"]:
        return "settings that are not those of its fields"
    if file.parts[-3:] != (stem := key.stem).with_name(f"{stem.name}.json").parts:
        return f"the name {'/'.join(file.parts[-3:])} of an entry {stem}"
    n, count = entry["n"], len(key.conditions)
    if packed.dtype != np.uint8 or packed.shape != (n, -(-count // 8)):
        return f"fates {packed.dtype} {packed.shape} of {n} images under {count} conditions"
    right = np.unpackbits(packed, axis=1, count=count).T.astype(bool)
    counted = key.entry(np.where(right, ROBUST, ROBUST - 1).reshape(-1), None)
    wrong = next((name for name, value in counted.items() if _sha256(entry.get(name)) != _sha256(value)), "")
    more = sorted(entry.keys() - counted.keys() - _FIELDS.keys())
    if wrong or more:
        return f"{wrong} is {entry.get(wrong)}, by the images {counted[wrong]}" if wrong else f"a field {more[0]!r}"
    return ""


def read_tables(ledger_dir: Path) -> list[dict[str, Any]]:
    """Reads all tables of a ledger; every one is checked.

    Args:
        ledger_dir: The ledger's folder.

    Returns:
        The entries, sorted by model and data.

    Raises:
        VerificationFailed: An entry is not sound.
    """
    files = sorted(ledger_dir.glob(f"*/{FOLDER}/*.json"))
    return sorted(map(read_table, files), key=lambda entry: (entry["model"], entry["dataset"], entry["table"]))
