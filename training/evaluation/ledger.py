"""The ledger: one JSON per figure, keyed by the sha256 of weights, the images and the attack's settings."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_zoo.files import GO_ON, replace_file
from robust_zoo.names import within
from robust_zoo.training.evaluation import engine, fates
from robust_zoo.training.evaluation.entries import EntryKey, figures_of, read_entry
from robust_zoo.training.evaluation.progress import Progress, Report
from robust_zoo.training.version import code_version

_PARTS = "parts"  # the folder of chunks on their way
# What differs between two runs of the same entry.
TIMES = ("seconds", "finished")


def complete(
    ledger_dir: Path,
    key: EntryKey,
    evaluation: engine.Evaluation,
    data: Any,
    *,
    shard: tuple[int, int] = (0, 1),
    flags: Callable[[], list[str] | None] = lambda: None,
    report: Report = lambda progress: None,
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
        report: Called between steps, with how far this shard is.

    Returns:
        The entry, or None while other shards are at work.

    Raises:
        VerificationFailed: An existing entry is not sound.
        StorageError: The disk refuses a file.
    """
    done = within(within(ledger_dir, key.model), f"{key.stem.name}.json")
    flat = ledger_dir / f"{'__'.join(key.stem.parts)}.json"  # where entries lay until 0.1
    parts = ledger_dir / _PARTS / flat.stem
    for file in (done, flat):
        if file.exists():
            entry = read_entry(file)
            shutil.rmtree(parts, ignore_errors=True)  # of whoever was killed when it was written
            return entry
    parts.mkdir(parents=True, exist_ok=True)
    pieces = list(engine.chunks(len(data)))
    mine, last, before = range(shard[0], len(pieces), shard[1]), None, None
    for number in mine:
        later = sum(len(pieces[i]) for i in mine if i > number)

        def told(progress: Progress, before: Progress | None = before, later: int = later) -> None:
            nonlocal last
            last = progress.among(before, later)
            report(last)

        engine.run_chunk(evaluation, data.subset(pieces[number]), parts / f"{number:05d}.npz", told)
        before = last
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
        | figures_of(broken_by)
        | {
            "broken_by": fates.by_stage((stage.name for stage in evaluation.stages), broken_by),
            "settings": key.settings,
            "settings_sha256": key.settings_sha256,
            "flags": flags,
            "code": code_version(),
            "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
            "seconds": round(sum(chunk.seconds for chunk in chunks), 1),
            "finished": time.strftime("%FT%TZ", time.gmtime()),
        }
    )
