"""The ledger: one JSON per figure, keyed by the sha256 of weights, the images and the attack's settings."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from robust_zoo.errors import StorageError
from robust_zoo.files import GO_ON, replace_file
from robust_zoo.names import within
from robust_zoo.training.attacks.suites import FORWARD
from robust_zoo.training.data.dataset import Measurable
from robust_zoo.training.evaluation import engine
from robust_zoo.training.evaluation.fates import ROBUST
from robust_zoo.training.evaluation.progress import CLEAN, Progress, Report
from robust_zoo.training.version import code_version

_PARTS = "parts"  # the folder of chunks on their way
# What differs between two runs of the same entry.
TIMES = ("seconds", "finished")


Pieces = Sequence[tuple[Tensor, Path]]
"""Indices of images, and the file of what is known of them."""
Elsewhere = Callable[[Iterable[tuple[Measurable, Path]]], Iterator[engine.Chunk]]
"""Evaluates chunks, without attacks, and gives each when it is done and written, in any order."""


class Key(Protocol):
    """What an entry is of, and what it says: `entries.EntryKey`, or `tables.TableKey`."""

    @property
    def stem(self) -> Path:
        """Its files in a ledger, without their endings."""
        ...

    @property
    def chunk(self) -> int:
        """Images that are evaluated together."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the figure, but for weights and images."""
        ...

    @property
    def settings_sha256(self) -> str:
        """sha256 of `settings`."""
        ...

    def entry(self, broken_by: np.ndarray, flags: list[str] | None) -> dict[str, Any]:
        """Of every image's fate, (n,): what the entry says that is no matter of who measured when."""
        ...

    def arrays(self, labels: np.ndarray, broken_by: np.ndarray) -> dict[str, np.ndarray]:
        """What is kept of labels and fates, each (n,)."""
        ...

    def read(self, file: Path) -> dict[str, Any]:
        """An entry, every field checked."""
        ...


def complete(
    ledger_dir: Path,
    key: Key,
    evaluation: engine.Evaluation,
    data: Measurable,
    *,
    shard: tuple[int, int] = (0, 1),
    flags: Callable[[], list[str] | None] = lambda: None,
    elsewhere: Elsewhere | None = None,
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
        elsewhere: Evaluates chunks in other processes, if they are not done one after the other by this one.
        report: Called between steps, with how far this shard is.

    Returns:
        The entry, or None while other shards are at work.

    Raises:
        VerificationFailed: An existing entry is not sound.
        StorageError: The disk refuses a file.
    """
    done = within(reduce(within, key.stem.parts[:-1], ledger_dir), f"{key.stem.name}.json")
    flat = ledger_dir / f"{'__'.join(key.stem.parts)}.json"  # where entries lay until 0.1
    parts = ledger_dir / _PARTS / flat.stem
    for file in (done, flat):
        if file.exists():
            entry = key.read(file)
            shutil.rmtree(parts, ignore_errors=True)  # of whoever was killed when it was written
            return entry
    parts.mkdir(parents=True, exist_ok=True)
    pieces = list(engine.chunks(len(data), key.chunk))
    files = [parts / f"{number:05d}.npz" for number in range(len(pieces))]
    mine = [(pieces[number], files[number]) for number in range(shard[0], len(pieces), shard[1])]
    try:
        if elsewhere:
            _share(elsewhere, data, [(rows, file) for rows, file in mine if not file.exists()], report)
        else:
            _one_by_one(evaluation, data, mine, report)
    except StorageError:
        if not done.exists():
            raise
        return key.read(done)  # joined meanwhile by another, who took the parts away
    try:
        found = [engine.read_chunk(file) for file in files]
    except FileNotFoundError:
        return key.read(done) if done.exists() else None
    if any(chunk.stage < len(evaluation.stages) for chunk in found):
        return None
    labels, broken_by = (np.concatenate([getattr(c, name) for c in found]) for name in ("labels", "broken_by"))
    entry = _join(key, evaluation, found, key.entry(broken_by, flags()))
    buffer = io.BytesIO()
    arrays: dict[str, Any] = key.arrays(labels, broken_by)
    np.savez_compressed(buffer, **arrays)
    done.parent.mkdir(parents=True, exist_ok=True)
    replace_file(done.with_suffix(".npz"), buffer.getvalue(), GO_ON)
    replace_file(done, json.dumps(entry, indent=1, sort_keys=True).encode() + b"\n", GO_ON)
    shutil.rmtree(parts, ignore_errors=True)
    return entry


def _one_by_one(evaluation: engine.Evaluation, data: Measurable, mine: Pieces, report: Report) -> None:
    last, before = None, None
    for number, (rows, file) in enumerate(mine):
        later = sum(len(rows) for rows, _ in mine[number + 1 :])

        def told(progress: Progress, before: Progress | None = before, of: int = len(rows), later: int = later) -> None:
            nonlocal last
            last = progress.among(before, of, later)
            report(last)

        engine.run_chunk(evaluation, data.subset(rows), file, told)
        before = last


def _share(elsewhere: Elsewhere, data: Measurable, mine: Pieces, report: Report) -> None:
    seen, right, n = 0, 0, sum(len(rows) for rows, _ in mine)
    for number, chunk in enumerate(elsewhere((data.subset(rows), file) for rows, file in mine), 1):
        seen, right = seen + len(chunk.labels), right + int((chunk.broken_by == ROBUST).sum())
        report(Progress(CLEAN, number, len(mine), seen, right, FORWARD * seen, FORWARD * (n - seen)))


def _join(
    key: Key, evaluation: engine.Evaluation, chunks: Sequence[engine.Chunk], figures: dict[str, Any]
) -> dict[str, Any]:
    device = evaluation.device
    return figures | {
        "settings": key.settings,
        "settings_sha256": key.settings_sha256,
        "code": code_version(),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "seconds": round(sum(chunk.seconds for chunk in chunks), 1),
        "finished": time.strftime("%FT%TZ", time.gmtime()),
    }
