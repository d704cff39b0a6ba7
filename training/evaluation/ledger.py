"""The ledger: one JSON per figure, keyed by the sha256 of weights, the images and the attack's settings."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_zoo.counts import Count
from robust_zoo.errors import VerificationFailed, ZooError
from robust_zoo.files import GO_ON, replace_file
from robust_zoo.names import within
from robust_zoo.readers import read_json
from robust_zoo.threat import ThreatModel
from robust_zoo.training import fields
from robust_zoo.training.attacks.suites import settings, suite
from robust_zoo.training.data.npz import read_npz
from robust_zoo.training.evaluation import engine
from robust_zoo.training.evaluation.checks import CHECKS
from robust_zoo.training.version import code_version

_PARTS = "parts"  # the folder of chunks on their way
# What differs between two runs of the same entry.
TIMES = ("seconds", "finished")
_CHECKS = {check.name for check in CHECKS}


def _is_flags(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(flag, str) and flag in _CHECKS for flag in value)
    )


_FIELDS: dict[str, fields.Rule] = {
    "model": fields.is_name, "weights_sha256": fields.is_sha256, "dataset": fields.is_name,
    "data_sha256": fields.is_sha256, "attack": fields.is_name, "batch_size": fields.is_positive,
    "seed": fields.is_whole, "norm": lambda value: value is None or fields.is_norm(value),
    "eps": lambda value: value is None or fields.is_number(value), "n": fields.is_positive,
    "clean_correct": fields.is_count, "clean_accuracy": fields.is_percent, "clean_interval_95": fields.is_interval,
    "robust_correct": fields.is_count, "robust_accuracy": fields.is_percent, "robust_interval_95": fields.is_interval,
    "broken_by": fields.is_table, "settings": fields.is_table, "settings_sha256": fields.is_sha256,
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
        attack: A name that `attacks.suites.suite` knows.
        threat: Norm and radius; without a meaning for clean accuracy.
        batch_size: Images per batch of an attack.
        seed: Of the attacks.
    """

    model: str
    weights_sha256: str
    dataset: str
    data_sha256: str
    attack: str
    threat: ThreatModel
    batch_size: int = 250
    seed: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """Everything of the attack that decides the figure."""
        threat = {"norm": self.threat.norm, "eps": self.threat.eps} if suite(self.attack) else {}
        random = {"seed": self.seed, "batch_size": self.batch_size, "chunk": engine.CHUNK}
        return threat | {"stages": settings(self.attack)} | random

    @property
    def settings_sha256(self) -> str:
        """sha256 of `settings`."""
        return _sha256(self.settings)

    @property
    def stem(self) -> Path:
        """Its files in a ledger, without their endings: a folder for the model, a name in words and twelve digits."""
        key = _sha256([self.weights_sha256, self.data_sha256, self.settings_sha256])
        under = f"{self.attack}_{self.threat.tag}" if suite(self.attack) else "clean"
        return Path(self.model, f"{self.dataset.replace(' ', '-').replace(',', '')}__{under}__{key[:12]}")


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def complete(
    ledger_dir: Path,
    key: EntryKey,
    evaluation: engine.Evaluation,
    data: Any,
    *,
    shard: tuple[int, int] = (0, 1),
    flags: Callable[[], list[str] | None] = lambda: None,
    progress: Callable[[int, int], None] = lambda done, robust: None,
) -> dict[str, Any] | None:
    """Evaluates what is missing of an entry and writes it; an existing entry is read, nothing is computed.

    Killed anywhere, the same call goes on.

    Args:
        ledger_dir: The ledger's folder.
        key: What the figure is of.
        evaluation: The model and what `key` says of the attack.
        data: The images that `key` says.
        shard: (i, k) does every k-th chunk from the i-th; whoever finds all of them done joins them, so that any number
            of processes and hosts that share the directory give the same file.
        flags: Names the checks that speak against the figure, when it is joined; None means nothing was checked.
        progress: Called with (images done, images robust so far) of this shard.

    Returns:
        The entry, or None while other shards are at work.

    Raises:
        VerificationFailed: An existing entry is not sound.
        StorageError: The disk refuses a file.
    """
    done = within(within(ledger_dir, key.model), f"{key.stem.name}.json")
    flat = ledger_dir / f"{'__'.join(key.stem.parts)}.json"  # where entries lay until 0.1
    for file in (done, flat):
        if file.exists():
            return read_entry(file)
    parts = ledger_dir / _PARTS / flat.stem
    parts.mkdir(parents=True, exist_ok=True)
    pieces = list(engine.chunks(len(data)))
    counted, robust = 0, 0
    for number in range(shard[0], len(pieces), shard[1]):

        def report(seen: int, left: int, counted: int = counted, robust: int = robust) -> None:
            progress(counted + seen, robust + left)

        chunk = engine.run_chunk(evaluation, data.subset(pieces[number]), parts / f"{number:05d}.npz", report)
        counted, robust = counted + len(chunk.broken_by), robust + int((chunk.broken_by == engine.ROBUST).sum())
    files = [parts / f"{number:05d}.npz" for number in range(len(pieces))]
    try:
        found = [engine.read_chunk(file) for file in files]
    except FileNotFoundError:
        return read_entry(done) if done.exists() else None
    if any(chunk.stage < len(evaluation.stages) for chunk in found):
        return None
    entry = _join(key, evaluation, found, flags())
    buffer = io.BytesIO()
    labels, broken_by = (np.concatenate([getattr(c, name) for c in found]) for name in ("labels", "broken_by"))
    np.savez_compressed(buffer, labels=labels, broken_by=broken_by)
    done.parent.mkdir(parents=True, exist_ok=True)
    replace_file(done.with_suffix(".npz"), buffer.getvalue(), GO_ON)
    replace_file(done, json.dumps(entry, indent=1, sort_keys=True).encode() + b"\n", GO_ON)
    shutil.rmtree(parts, ignore_errors=True)
    return entry


def _join(
    key: EntryKey, evaluation: engine.Evaluation, chunks: Sequence[engine.Chunk], flags: list[str] | None
) -> dict[str, Any]:
    broken_by = np.concatenate([chunk.broken_by for chunk in chunks])
    device = evaluation.device
    about = {name: value for name, value in asdict(key).items() if name != "threat"}
    about |= {"norm": key.threat.norm, "eps": key.threat.eps} if evaluation.stages else {"norm": None, "eps": None}
    return (
        about
        | _figures(broken_by)
        | {
            "broken_by": _by_stage(evaluation.stages, broken_by),
            "settings": key.settings,
            "settings_sha256": key.settings_sha256,
            "flags": flags,
            "code": code_version(),
            "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
            "seconds": round(sum(chunk.seconds for chunk in chunks), 1),
            "finished": time.strftime("%FT%TZ", time.gmtime()),
        }
    )


def _figures(broken_by: np.ndarray) -> dict[str, Any]:
    """What every image's fate, (n,), adds up to."""
    figures: dict[str, Any] = {"n": len(broken_by)}
    for kind, correct in (("clean", broken_by != engine.WRONG), ("robust", broken_by == engine.ROBUST)):
        count = Count(int(correct.sum()), len(broken_by))
        figures[f"{kind}_correct"], figures[f"{kind}_accuracy"] = count.correct, count.accuracy
        figures[f"{kind}_interval_95"] = list(count.interval)
    return figures


def read_entry(file: Path) -> dict[str, Any]:
    """Reads an entry and checks its per-image results against its counts.

    Args:
        file: The entry's .json; the .npz lies beside it.

    Returns:
        The entry, as `complete` made it.

    Raises:
        VerificationFailed: The two do not agree, or the entry's numbers do not with each other.
    """
    try:
        entry = read_json(file)
        # as they were called until 0.1: fell and fell_to
        broken_by, labels = read_npz(file.with_suffix(".npz"), [("broken_by", "fell"), "labels"])
        if "fell_to" in entry:
            entry["broken_by"] = entry.pop("fell_to")
        if fault := fields.wrong_field(entry, _FIELDS) or _contradiction(file, entry, broken_by, labels):
            raise ValueError(fault)
    except (OSError, ValueError) as error:
        expected = "an entry of robust-zoo evaluate, unchanged, and its .npz"
        raise _drifted(file, expected, str(error) or type(error).__name__) from None
    return entry


def _contradiction(file: Path, entry: dict[str, Any], broken_by: np.ndarray, labels: np.ndarray) -> str:
    """Where an entry's fields, its name and its images' fates do not agree; "" where they do."""
    try:
        stages = suite(entry["attack"])
        clean = entry["norm"] is None
        if clean != (entry["eps"] is None) or clean != (not stages):
            return f"{entry['attack']} under {entry['norm']} {entry['eps']}"
        threat = ThreatModel("l2", 0.0) if clean else ThreatModel(entry["norm"], entry["eps"])
        about = {name: entry[name] for name in EntryKey.__dataclass_fields__ if name != "threat"}
        key = EntryKey(threat=threat, **about)
        if _sha256(key.settings | {"chunk": entry["settings"].get("chunk")}) != _sha256(entry["settings"]):
            return f"settings that are not those of {entry['attack']}"
    except ZooError as error:
        return error.message
    key_sha256 = _sha256([key.weights_sha256, key.data_sha256, entry["settings_sha256"]])
    if _sha256(entry["settings"]) != entry["settings_sha256"]:
        return "another settings_sha256 than that of its settings"
    stem = key.stem.with_name(key.stem.name.rpartition("__")[0] + f"__{key_sha256[:12]}")
    if file.stem != "__".join(stem.parts) and (file.parent.name, file.stem) != stem.parts:
        return f"the name {file.parent.name}/{file.stem} of an entry {stem}"
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.shape != broken_by.shape or not labels.size:
        return f"labels {labels.shape} and fates {broken_by.shape} of images"
    if broken_by.dtype.kind != "i" or broken_by.min() < engine.WRONG or broken_by.max() >= len(stages):
        return f"fates of images from {broken_by.min()} to {broken_by.max()}"
    counted = _figures(broken_by) | {"broken_by": _by_stage(stages, broken_by)}
    wrong = next((name for name, value in counted.items() if _sha256(entry[name]) != _sha256(value)), "")
    return f"{name} is {entry[name]}, by the images {counted[name]}" if (name := wrong) else ""


def _by_stage(stages: Sequence[Any], broken_by: np.ndarray) -> dict[str, int]:
    return {stage.name: int((broken_by == i).sum()) for i, stage in enumerate(stages)}


def _drifted(file: Path, expected: str, actual: str) -> VerificationFailed:
    return VerificationFailed(
        f"{file.name} is not a sound ledger entry",
        source=str(file),
        expected=expected,
        actual=actual,
        next="delete it and evaluate again: robust-zoo evaluate --help",
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
    files = sorted({*ledger_dir.glob("*.json"), *ledger_dir.glob("*/*.json")})
    found = [read_entry(file) for file in files]
    return sorted(found, key=lambda e: (e["model"], e["dataset"], e["norm"] or "", e["attack"], e["eps"] or 0))
