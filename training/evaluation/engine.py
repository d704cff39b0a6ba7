"""Which images are robust to a suite of attacks: in chunks that can be resumed, shared out and merged."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robust_zoo.errors import damaged
from robust_zoo.files import GO_ON, replace_file
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.attacks.pgd import Poll
from robust_zoo.training.attacks.suites import FORWARD, Stage
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.data.npz import read_npz
from robust_zoo.training.evaluation import fates
from robust_zoo.training.evaluation.fates import ROBUST, WRONG
from robust_zoo.training.evaluation.progress import CLEAN, Progress, Report


@dataclass
class Chunk:
    """What is known of one chunk; grows until `stage` is past the last.

    Attributes:
        labels: (n,) int64.
        broken_by: (n,) int8, the number of the stage that broke an image, ROBUST, or WRONG (without any attack).
        stage: The number of the stage that is at work.
        batch: Batches of `stage` that are done.
        seconds: What it has taken so far.
    """

    labels: np.ndarray
    broken_by: np.ndarray
    stage: int = 0
    batch: int = 0
    seconds: float = 0.0

    def survivors(self) -> np.ndarray:
        """The images that the current stage is about, those included that it broke already."""
        return np.flatnonzero((self.broken_by == ROBUST) | (self.broken_by == self.stage))


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, but for its images.

    Attributes:
        model: Takes pixels in [0, 1], in eval mode.
        threat: What every adversarial image is held to.
        stages: The attacks, in order; none means clean accuracy.
        batch_size: Images per batch; it decides the random numbers that an image meets, so it is part of a figure's
            settings.
        seed: Of the attacks.
        poll: Called between steps of an attack; it may raise to stop.
        device: Where the model is.
    """

    model: nn.Module
    threat: ThreatModel
    stages: Sequence[Stage]
    batch_size: int
    seed: int = 0
    poll: Poll = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def run_chunk(evaluation: Evaluation, data: Dataset, file: Path, report: Report) -> Chunk:
    """Evaluates a chunk of at most CHUNK images, going on from `file` when it exists; `file` is whole at any moment.

    Args:
        evaluation: Model, attacks and settings.
        data: The chunk's images.
        file: What is known of the chunk; written after every batch.
        report: Called after every step of an attack, and every batch of the clean pass.

    Returns:
        The chunk, with every image's fate.

    Raises:
        StorageError: The disk refuses `file`.
    """
    clock, done = time.monotonic(), 0.0
    if file.exists():
        chunk = _same_images(read_chunk(file), file, evaluation, data)
    else:
        chunk, done = _clean(evaluation, data, report), FORWARD * len(data)
    chunk.seconds, clock = chunk.seconds + time.monotonic() - clock, time.monotonic()
    images: Tensor | None = None
    while chunk.stage < len(evaluation.stages):
        if (batch := _batch(chunk, evaluation.batch_size)) is None:
            chunk.stage, chunk.batch = chunk.stage + 1, 0
        else:
            images = _load(data) if images is None else images
            meter = _Meter(evaluation, chunk, len(batch), done, report)
            labels = torch.from_numpy(chunk.labels[batch]).to(evaluation.device)
            found = _broken(evaluation, chunk.stage, images[batch].to(evaluation.device), labels, meter)
            chunk.broken_by[batch[found]] = chunk.stage
            chunk.batch, done = chunk.batch + 1, done + meter.worked
        chunk.seconds, clock = chunk.seconds + time.monotonic() - clock, time.monotonic()
        write_chunk(file, chunk)
    if not evaluation.stages:
        write_chunk(file, chunk)
    last = evaluation.stages[-1].name if evaluation.stages else CLEAN
    report(Progress(last, 1, 1, len(data), int((chunk.broken_by == ROBUST).sum()), done, 0.0))
    return chunk


class _Meter:
    """Polls between the steps of an attack on a batch, and reports each."""

    def __init__(self, evaluation: Evaluation, chunk: Chunk, images: int, done: float, report: Report) -> None:
        self.worked, self._inner, self._report = 0.0, evaluation.poll, report
        stage, size, mine = evaluation.stages[chunk.stage], evaluation.batch_size, len(chunk.survivors())
        robust = int((chunk.broken_by == ROBUST).sum())
        waiting = max(mine - chunk.batch * size, 0) * stage.work
        left = waiting + robust * sum(s.work for s in evaluation.stages[chunk.stage + 1 :])
        batches = -(-mine // size)
        self._at = Progress(stage.name, chunk.batch + 1, batches, len(chunk.labels), robust, done, left)
        self._step, self._most = images * stage.cost, images * stage.work

    def __call__(self, *_: object) -> None:
        if self._inner:
            self._inner()
        self.worked = min(self.worked + self._step, self._most)
        at = self._at
        self._report(replace(at, done=at.done + self.worked, left=at.left - self.worked))


def _same_images(chunk: Chunk, file: Path, evaluation: Evaluation, data: Dataset) -> Chunk:
    stages, fates = len(evaluation.stages), chunk.broken_by
    same = np.array_equal(chunk.labels, data.labels.numpy()) and 0 <= chunk.stage <= stages and chunk.batch >= 0
    if not same or fates.dtype != np.int8 or fates.min() < WRONG or fates.max() >= stages:
        found = f"{len(chunk.labels)} labels, stage {chunk.stage} of {stages}, fates {fates.min()} to {fates.max()}"
        again = "delete it and give the same robust-zoo evaluate again"
        raise damaged(f"{file.name} is", file, f"the fates of these {len(data)} images", found, next=again)
    return chunk


def _clean(evaluation: Evaluation, data: Dataset, report: Report) -> Chunk:
    labels, right = [], []
    size, n, hits, attacks = evaluation.batch_size, len(data), 0, sum(s.work for s in evaluation.stages)
    with torch.no_grad():
        for images, batch_labels in data.batches(evaluation.batch_size):
            right.append((evaluation.model(images.to(evaluation.device)).argmax(1).cpu() == batch_labels).numpy())
            labels.append(batch_labels.numpy())
            seen, hits = sum(map(len, labels)), hits + int(right[-1].sum())
            left = FORWARD * (n - seen) + attacks * n * hits / seen
            report(Progress(CLEAN, len(labels), -(-n // size), seen, hits, FORWARD * seen, left))
            if evaluation.poll:
                evaluation.poll()
    return Chunk(np.concatenate(labels), np.where(np.concatenate(right), ROBUST, WRONG).astype(np.int8))


def _load(data: Dataset) -> Tensor:
    """At most fates.CHUNK images, as uint8 would not hold what resizing made of them."""
    return torch.cat([images for images, _ in data.batches(250)])


def _batch(chunk: Chunk, size: int) -> np.ndarray | None:
    rows = chunk.survivors()[chunk.batch * size : (chunk.batch + 1) * size]
    return rows if len(rows) else None


def _broken(evaluation: Evaluation, stage: int, images: Tensor, labels: Tensor, poll: Poll) -> np.ndarray:
    """Which images of a batch a stage breaks; every adversarial image is checked again here."""
    adv_images = evaluation.stages[stage](
        evaluation.model, images, labels, evaluation.threat, seed=evaluation.seed, poll=poll
    )
    with torch.no_grad():
        wrong = evaluation.model(adv_images).argmax(1) != labels
    size = rules(evaluation.threat.norm).size(adv_images - images).flatten()
    allowed = size <= evaluation.threat.eps * (1 + 1e-5) + 1e-7
    inside = (adv_images >= 0).flatten(1).all(1) & (adv_images <= 1).flatten(1).all(1)
    return (wrong & allowed & inside).cpu().numpy()


def write_chunk(file: Path, chunk: Chunk) -> None:
    """Writes a chunk as an .npz, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **vars(chunk))
    replace_file(file, buffer.getvalue(), GO_ON)


def read_chunk(file: Path) -> Chunk:
    """Reads what `write_chunk` wrote. Raises VerificationFailed for anything else, OSError where there is nothing."""
    try:
        labels, broken_by, stage, batch, seconds = read_npz(file, ["labels", "broken_by", "stage", "batch", "seconds"])
        if labels.ndim != 1 or broken_by.shape != labels.shape:
            raise ValueError(f"labels of shape {labels.shape}, and what broke them of shape {broken_by.shape}")
        return Chunk(labels, broken_by, int(stage), int(batch), float(seconds))
    except (ValueError, TypeError) as error:
        expected, again = "a part of an evaluation, unchanged", "delete it and give the same robust-zoo evaluate again"
        raise damaged(f"{file.name} is", file, expected, str(error), next=again) from None


def chunks(n: int) -> Iterator[Tensor]:
    """The indices of each chunk of a dataset of n images."""
    for start in range(0, n, fates.CHUNK):
        yield torch.arange(start, min(start + fates.CHUNK, n))
