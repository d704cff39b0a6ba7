"""Entries of a ledger: what a figure is of, and how one that was written is read again, every field checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_zoo.counts import Count
from robust_zoo.errors import VerificationFailed, ZooError, missing_file
from robust_zoo.files import is_sha256
from robust_zoo.readers import read_json
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.settings import settings, stages
from robust_zoo.training.choices import CHECKS, FP32, PRECISIONS
from robust_zoo.training.data.npz import read_npz
from robust_zoo.training.evaluation import fates, fields


def _is_flags(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(flag, str) and flag in CHECKS for flag in value)
    )


_FIELDS: dict[str, fields.Rule] = {
    "model": fields.is_name, "weights_sha256": is_sha256, "dataset": fields.is_name,
    "data_sha256": is_sha256, "attack": fields.is_name, "batch_size": fields.is_positive,
    "seed": fields.is_whole, "precision": lambda value: isinstance(value, str) and value in PRECISIONS,
    "norm": lambda value: value is None or fields.is_norm(value),
    "eps": lambda value: value is None or fields.is_number(value), "n": fields.is_positive,
    "clean_correct": fields.is_count, "clean_accuracy": fields.is_percent, "clean_interval_95": fields.is_interval,
    "robust_correct": fields.is_count, "robust_accuracy": fields.is_percent, "robust_interval_95": fields.is_interval,
    "broken_by": fields.is_table, "settings": fields.is_table, "settings_sha256": is_sha256,
    "flags": _is_flags, "code": fields.is_name, "device": fields.is_name, "seconds": fields.is_number,
    "finished": fields.is_time,
}  # fmt: skip


@dataclass(frozen=True)
class EntryKey:
    """What a figure is of.

    Attributes:
        model: The checkpoint's name.
        weights_sha256: Of the checkpoint's file.
        dataset: In words, e.g. "cifar10 test".
        data_sha256: Of the images' bytes and labels, in order.
        attack: A name that `attacks.settings.stages` knows.
        threat: Norm and radius; without a meaning for clean accuracy.
        batch_size: Images per batch of an attack.
        seed: Of the attacks.
        precision: A name of `choices.PRECISIONS`.
    """

    model: str
    weights_sha256: str
    dataset: str
    data_sha256: str
    attack: str
    threat: ThreatModel
    batch_size: int = 250
    seed: int = 0
    precision: str = FP32

    @property
    def settings(self) -> dict[str, Any]:
        """Everything of the attack that decides the figure."""
        threat = {"norm": self.threat.norm, "eps": self.threat.eps} if stages(self.attack) else {}
        random = {"seed": self.seed, "batch_size": self.batch_size, "chunk": fates.CHUNK}
        rounded = {} if self.precision == FP32 else {"precision": self.precision}  # of which there was no word once
        return threat | {"stages": settings(self.attack)} | random | rounded

    @property
    def settings_sha256(self) -> str:
        """sha256 of `settings`."""
        return _sha256(self.settings)

    @property
    def chunk(self) -> int:
        """Images that are evaluated together."""
        return fates.CHUNK

    def entry(self, broken_by: np.ndarray, flags: list[str] | None) -> dict[str, Any]:
        """What the entry says that is no matter of who measured when.

        Args:
            broken_by: (n,) every image's fate.
            flags: The checks that speak against the figure; None where nothing was checked.

        Returns:
            Its fields.
        """
        names = [stage.name for stage in stages(self.attack)]
        about = asdict(self) | {name: getattr(self.threat, name) if names else None for name in ("norm", "eps")}
        del about["threat"]
        return about | figures_of(broken_by) | {"broken_by": fates.by_stage(names, broken_by), "flags": flags}

    def arrays(self, labels: np.ndarray, broken_by: np.ndarray) -> dict[str, np.ndarray]:
        """What is kept of the images, each (n,): their labels and fates."""
        return {"labels": labels, "broken_by": broken_by}

    def read(self, file: Path) -> dict[str, Any]:
        """As `read_entry`."""
        return read_entry(file)

    @property
    def stem(self) -> Path:
        """Its files in a ledger, without their endings: a folder for the model, a name in words and twelve digits."""
        key = _sha256([self.weights_sha256, self.data_sha256, self.settings_sha256])
        under = f"{self.attack}_{self.threat.tag}" if stages(self.attack) else "clean"
        under += "" if self.precision == FP32 else f"_{self.precision}"
        return Path(self.model, f"{self.dataset.replace(' ', '-').replace(',', '')}__{under}__{key[:12]}")


def stem_of(entry: Mapping[str, Any]) -> Path:
    """Where an entry lies in a ledger, without its ending.

    Args:
        entry: As `complete` made it; its `settings_sha256` is taken at its word.

    Returns:
        As `EntryKey.stem` gives it for the settings that the entry was measured with.
    """
    threat = ThreatModel("l2", 0.0) if entry["norm"] is None else ThreatModel(entry["norm"], entry["eps"])
    key = EntryKey(threat=threat, **{name: entry[name] for name in EntryKey.__dataclass_fields__ if name != "threat"})
    digits = _sha256([key.weights_sha256, key.data_sha256, entry["settings_sha256"]])[:12]
    return key.stem.with_name(key.stem.name.rpartition("__")[0] + f"__{digits}")


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def figures_of(broken_by: np.ndarray) -> dict[str, Any]:
    """What every image's fate, (n,), adds up to."""
    figures: dict[str, Any] = {"n": len(broken_by)}
    for kind, correct in (("clean", broken_by != fates.WRONG), ("robust", broken_by == fates.ROBUST)):
        count = Count(int(correct.sum()), len(broken_by))
        figures[f"{kind}_correct"], figures[f"{kind}_accuracy"] = count.correct, count.accuracy
        figures[f"{kind}_interval_95"] = list(count.interval)
    return figures


def read_entry(file: Path) -> dict[str, Any]:
    """The entry alone of `read_fates`."""
    return read_fates(file)[0]


def read_fates(file: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Reads an entry and checks its per-image results against its counts.

    Args:
        file: The entry's .json; the .npz lies beside it.

    Returns:
        The entry, as `complete` made it; every image's label, (n,), and fate, (n,).

    Raises:
        VerificationFailed: The two do not agree, or the entry's numbers do not with each other.
    """
    try:
        entry = read_json(file)
        # as they were called until 0.1: fell and fell_to
        broken_by, labels = read_npz(file.with_suffix(".npz"), [("broken_by", "fell"), "labels"])
        if "fell_to" in entry:
            entry["broken_by"] = entry.pop("fell_to")
        if isinstance(entry, dict):
            entry.setdefault("precision", FP32)  # there was no other
        if fault := fields.wrong_field(entry, _FIELDS) or _contradiction(file, entry, broken_by, labels):
            raise ValueError(fault)
    except (OSError, ValueError) as error:
        expected = "an entry of robust-zoo evaluate, unchanged, and its .npz"
        raise not_sound(file, expected, str(error) or type(error).__name__) from None
    return entry, labels, broken_by


def _contradiction(file: Path, entry: dict[str, Any], broken_by: np.ndarray, labels: np.ndarray) -> str:
    """Where an entry's fields, its name and its images' fates do not agree; "" where they do."""
    try:
        parts = stages(entry["attack"])
        clean = entry["norm"] is None
        if clean != (entry["eps"] is None) or clean != (not parts):
            return f"{entry['attack']} under {entry['norm']} {entry['eps']}"
        threat = ThreatModel("l2", 0.0) if clean else ThreatModel(entry["norm"], entry["eps"])
        about = {name: entry[name] for name in EntryKey.__dataclass_fields__ if name != "threat"}
        key = EntryKey(threat=threat, **about)
        if _sha256(key.settings | {"chunk": entry["settings"].get("chunk")}) != _sha256(entry["settings"]):
            return f"settings that are not those of {entry['attack']}"
    except ZooError as error:
        return error.message
    if _sha256(entry["settings"]) != entry["settings_sha256"]:
        return "another settings_sha256 than that of its settings"
    stem = stem_of(entry)
    if file.stem != "__".join(stem.parts) and (file.parent.name, file.stem) != stem.parts:
        return f"the name {file.parent.name}/{file.stem} of an entry {stem}"
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.shape != broken_by.shape or not labels.size:
        return f"labels {labels.shape} and fates {broken_by.shape} of images"
    if broken_by.dtype.kind != "i" or broken_by.min() < fates.WRONG or broken_by.max() >= len(parts):
        return f"fates of images from {broken_by.min()} to {broken_by.max()}"
    counted = figures_of(broken_by) | {"broken_by": fates.by_stage((part.name for part in parts), broken_by)}
    wrong = next((name for name, value in counted.items() if _sha256(entry[name]) != _sha256(value)), "")
    return f"{name} is {entry[name]}, by the images {counted[name]}" if (name := wrong) else ""


def not_sound(file: Path, expected: str, actual: str) -> VerificationFailed:
    return VerificationFailed(
        f"{file.name} is not a sound ledger entry",
        source=str(file),
        expected=expected,
        actual=actual,
        next="move it elsewhere, for a ledger has entries alone; one is made again by the same robust-zoo evaluate",
    )


def read_ledger(ledger_dir: Path) -> list[dict[str, Any]]:
    """Reads all entries; every one is checked.

    Args:
        ledger_dir: The ledger's folder.

    Returns:
        The entries, sorted by model, data, norm, attack and eps.

    Raises:
        VerificationFailed: An entry is not sound.
    """
    return sorted(map(read_entry, files_of(ledger_dir)), key=order)


def files_of(ledger_dir: Path) -> list[Path]:
    """The entries' files, by path."""
    return sorted({*ledger_dir.glob("*.json"), *ledger_dir.glob("*/*.json")})


def order(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What entries are sorted by."""
    return entry["model"], entry["dataset"], entry["norm"] or "", entry["attack"], entry["eps"] or 0


def require_ledger(ledger_dir: Path) -> None:
    """That there is such a folder. Raises UsageError."""
    if not ledger_dir.is_dir():
        raise missing_file(ledger_dir, "a ledger of robust-zoo evaluate", "robust-zoo evaluate NAME --out LEDGER")
