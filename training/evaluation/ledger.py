"""The ledger: one JSON a figure, keyed by the sha256 of weights, of the list of images and of the attack's settings."""

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

from robust_zoo.counts import wilson_interval
from robust_zoo.errors import VerificationFailed
from robust_zoo.files import replace_file
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.suites import settings, suite
from robust_zoo.training.evaluation import engine
from robust_zoo.training.version import code_version

# What differs between two runs of the same cell.
TIMES = ("seconds", "finished")


@dataclass(frozen=True)
class Cell:
    """What a figure is of. model: its name; dataset: in words, e.g. "cifar10 test"."""

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
        return _sha256(self.settings)

    @property
    def stem(self) -> str:
        """The name of the cell's files."""
        key = _sha256([self.weights_sha256, self.data_sha256, self.settings_sha256])
        under = f"{self.attack}_{self.threat.tag}" if suite(self.attack) else "clean"
        return f"{self.model}__{self.dataset.replace(' ', '-').replace(',', '')}__{under}__{key[:12]}"


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fill(
    ledger: Path,
    cell: Cell,
    job: engine.Job,
    data: Any,
    *,
    shard: tuple[int, int] = (0, 1),
    flags: Callable[[], list[str] | None] = lambda: None,
    progress: Callable[[int, int], None] = lambda done, robust: None,
) -> dict[str, Any] | None:
    """Evaluates what is missing of a cell and writes it; an existing cell is read, nothing is computed.

    shard: (i, k) does every k-th chunk from the i-th; whoever finds all of them done joins them, so that any number of
    processes and hosts that share the directory give the same file. Killed anywhere, the same call goes on.
    flags: names the checks that speak against the figure, when it is joined; None: nothing was checked.
    progress: called with (images done, images that withstood so far) of this shard.

    Returns the entry, or None while other shards are at work.
    """
    done = ledger / f"{cell.stem}.json"
    if done.exists():
        return read(done)
    parts = ledger / "parts" / cell.stem
    parts.mkdir(parents=True, exist_ok=True)
    pieces = list(engine.chunks(len(data)))
    counted, robust = 0, 0
    for number in range(shard[0], len(pieces), shard[1]):

        def report(seen: int, withstood: int, counted: int = counted, robust: int = robust) -> None:
            progress(counted + seen, robust + withstood)

        chunk = engine.run_chunk(job, data.subset(pieces[number]), parts / f"{number:05d}.npz", report)
        counted, robust = counted + len(chunk.fell), robust + int((chunk.fell == engine.WITHSTOOD).sum())
    files = [parts / f"{number:05d}.npz" for number in range(len(pieces))]
    try:
        found = [engine.read(file) for file in files]
    except FileNotFoundError:
        return read(done) if done.exists() else None
    if any(chunk.stage < len(job.stages) for chunk in found):
        return None
    entry = _join(cell, job, found, flags())
    buffer = io.BytesIO()
    labels, fell = (np.concatenate([getattr(c, name) for c in found]) for name in ("labels", "fell"))
    np.savez_compressed(buffer, labels=labels, fell=fell)
    replace_file(ledger / f"{cell.stem}.npz", buffer.getvalue())
    replace_file(done, json.dumps(entry, indent=1, sort_keys=True).encode() + b"\n")
    shutil.rmtree(parts, ignore_errors=True)
    return entry


def _join(cell: Cell, job: engine.Job, chunks: Sequence[engine.Chunk], flags: list[str] | None) -> dict[str, Any]:
    fell = np.concatenate([chunk.fell for chunk in chunks])
    n, clean, robust = len(fell), int((fell != engine.WRONG).sum()), int((fell == engine.WITHSTOOD).sum())
    about = {name: value for name, value in asdict(cell).items() if name != "threat"}
    threat = {"norm": cell.threat.norm, "eps": cell.threat.eps} if job.stages else {"norm": None, "eps": None}
    return about | threat | {
        "n": n,
        "clean_correct": clean,
        "robust_correct": robust,
        "clean_accuracy": 100 * clean / n,
        "robust_accuracy": 100 * robust / n,
        "clean_interval_95": wilson_interval(clean, n),
        "robust_interval_95": wilson_interval(robust, n),
        "fell_to": {stage.name: int((fell == i).sum()) for i, stage in enumerate(job.stages)},
        "settings": cell.settings,
        "settings_sha256": cell.settings_sha256,
        "flags": flags,
        "code": code_version(),
        "device": str(job.device) if job.device.type == "cpu" else torch.cuda.get_device_name(job.device),
        "seconds": round(sum(chunk.seconds for chunk in chunks), 1),
        "finished": time.strftime("%FT%TZ", time.gmtime()),
    }  # fmt: skip


def read(file: Path) -> dict[str, Any]:
    """An entry, with its per-image results checked against its counts.

    Raises VerificationFailed when the two do not agree, or the entry's numbers do not with each other.
    """
    try:
        entry = json.loads(file.read_text(encoding="utf-8"))
        with np.load(file.with_suffix(".npz")) as samples:
            fell = samples["fell"]
        counted: dict[str, float] = {
            "n": len(fell),
            "clean_correct": int((fell != engine.WRONG).sum()),
            "robust_correct": int((fell == engine.WITHSTOOD).sum()),
        }
        counted |= {f"{kind}_accuracy": 100 * counted[f"{kind}_correct"] / len(fell) for kind in ("clean", "robust")}
        said = {name: entry[name] for name in counted}
        sound = _sha256(entry["settings"]) == entry["settings_sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise _drifted(file, "a JSON entry and its .npz", f"{type(error).__name__}: {error}") from None
    if said != counted or not sound:
        raise _drifted(file, f"{counted}, as the per-image results have it", f"{said}")
    return entry


def _drifted(file: Path, expected: str, actual: str) -> VerificationFailed:
    return VerificationFailed(
        f"{file.name} is not a sound ledger entry", source=str(file), expected=expected, actual=actual,
        next="delete it and evaluate again: robust-zoo evaluate --help",
    )  # fmt: skip


def entries(ledger: Path) -> list[dict[str, Any]]:
    """All entries, sorted by model, data, norm, attack and eps; every one is checked."""
    found = [read(file) for file in sorted(ledger.glob("*.json"))]
    return sorted(found, key=lambda e: (e["model"], e["dataset"], e["norm"] or "", e["attack"], e["eps"] or 0))
