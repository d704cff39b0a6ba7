"""Which images are robust to a suite of attacks: in chunks that can be resumed, shared out and merged."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robust_zoo.errors import damaged
from robust_zoo.files import GO_ON, replace_file
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.pgd import Poll
from robust_zoo.training.attacks.precision import products_in
from robust_zoo.training.attacks.suites import FORWARD, Stage
from robust_zoo.training.choices import FP32
from robust_zoo.training.data.dataset import Measurable
from robust_zoo.training.data.npz import read_npz
from robust_zoo.training.evaluation.batches import Attack, Batch, Heard, broken
from robust_zoo.training.evaluation.fates import ROBUST, WRONG
from robust_zoo.training.evaluation.progress import CLEAN, Meter, Progress, Report


@dataclass
class Chunk:
    """What is known of one chunk; grows until `stage` is past the last.

    Attributes:
        labels: (n,) int64.
        broken_by: (n,) int8, the number of the stage that broke an image, ROBUST, or WRONG (without any attack).
        stage: Being worked on.
        met: (n,) bool, the images that it was carried out on.
        seconds: So far.
    """

    labels: np.ndarray
    broken_by: np.ndarray
    stage: int
    met: np.ndarray
    seconds: float = 0.0

    def batches(self, size: int) -> list[np.ndarray]:
        """The current stage's batches of images by their numbers; the same ones, whichever of them are done."""
        survivors = np.flatnonzero((self.broken_by == ROBUST) | (self.broken_by == self.stage))
        return [survivors[start : start + size] for start in range(0, len(survivors), size)]


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
        precision: A name of `choices.PRECISIONS`.
        poll: Called between steps of an attack; it may raise to stop.
        device: Where the model is.
        attack: Where batches are attacked, if not one after the other by this process.
    """

    model: nn.Module
    threat: ThreatModel
    stages: Sequence[Stage]
    batch_size: int
    seed: int = 0
    precision: str = FP32
    poll: Poll = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    attack: Attack | None = None

    def attack_here(self, batches: Iterable[Batch], n: int, heard: Heard) -> Iterator[tuple[int, np.ndarray]]:
        """An `Attack` by this process."""
        for number, batch in enumerate(batches):
            yield number, broken(self.model, self.device, batch, partial(heard, number, 1))


def run_chunk(evaluation: Evaluation, data: Measurable, file: Path, report: Report) -> Chunk:
    """Evaluates a chunk of at most CHUNK images, going on from `file` when it exists; `file` is whole at any moment.

    Args:
        evaluation: Model, attacks and settings.
        data: The chunk's images.
        file: What is known of the chunk; written after every batch.
        report: Called after every step of an attack, and every batch of the clean pass.

    Returns:
        The chunk, with every image's fate.

    Raises:
        StorageError: The disk refuses `file`, or a process that shares the work was killed.
    """
    clock, done, known = time.monotonic(), 0.0, file.exists()
    if known:
        chunk = _same_images(read_chunk(file), file, evaluation, data)
    else:
        with products_in(evaluation.precision):
            chunk, done = _clean(evaluation, data, report), FORWARD * len(data)

    def write() -> None:
        nonlocal clock
        chunk.seconds, clock = chunk.seconds + time.monotonic() - clock, time.monotonic()
        write_chunk(file, chunk)

    images: Tensor | None = None
    while chunk.stage < len(evaluation.stages):
        if batches := chunk.batches(evaluation.batch_size):
            images = _load(data) if images is None else images
            done = _run_stage(evaluation, chunk, batches, images, done, report, write)
        chunk.stage, chunk.met = chunk.stage + 1, np.zeros_like(chunk.met)
        write()
    if not evaluation.stages and not known:
        write()
    last = evaluation.stages[-1].name if evaluation.stages else CLEAN
    report(Progress(last, 1, 1, len(data), int((chunk.broken_by == ROBUST).sum()), done, 0.0))
    return chunk


def _run_stage(
    evaluation: Evaluation, chunk: Chunk, batches: list[np.ndarray], images: Tensor, done: float, report: Report,
    write: Callable[[], None],
) -> float:  # fmt: skip
    """Attacks what a stage has not met yet. Returns the work that is done then."""
    number, todo = chunk.stage, [rows for rows in batches if not chunk.met[rows].all()]
    stage, robust = evaluation.stages[number], int((chunk.broken_by == ROBUST).sum())
    start = Progress(stage.name, len(batches) - len(todo) + 1, len(batches), len(images), robust, done, 0.0)
    meter = Meter(stage, start, [len(rows) for rows in todo], sum(s.work for s in evaluation.stages[number + 1 :]))

    def heard(batch: int, steps: int) -> None:
        if evaluation.poll:
            evaluation.poll()
        meter.steps(batch, steps)
        report(meter.progress)

    how = (stage, evaluation.threat, evaluation.seed, evaluation.precision)
    work = (Batch(*how, images[rows].numpy(), chunk.labels[rows]) for rows in todo)
    for batch, found in (evaluation.attack or evaluation.attack_here)(work, len(todo), heard):
        rows = todo[batch]
        chunk.broken_by[rows[found]], chunk.met[rows] = number, True
        meter.finished(batch, int(found.sum()))
        write()
    return meter.progress.done


def _same_images(chunk: Chunk, file: Path, evaluation: Evaluation, data: Measurable) -> Chunk:
    stages, fates = len(evaluation.stages), chunk.broken_by
    same = np.array_equal(chunk.labels, data.labels.numpy()) and 0 <= chunk.stage <= stages
    if not same or fates.dtype != np.int8 or fates.min() < WRONG or fates.max() >= stages:
        found = f"{len(chunk.labels)} labels, stage {chunk.stage} of {stages}, fates {fates.min()} to {fates.max()}"
        again = "delete it and give the same robust-zoo evaluate again"
        raise damaged(f"{file.name} is", file, f"the fates of these {len(data)} images", found, next=again)
    return chunk


def _clean(evaluation: Evaluation, data: Measurable, report: Report) -> Chunk:
    labels, right = [], []
    size, n, hits, attacks = evaluation.batch_size, len(data), 0, sum(s.work for s in evaluation.stages)
    with torch.no_grad():
        for images, batch_labels in data.batches(evaluation.batch_size):
            right.append((evaluation.model(images.to(evaluation.device)).argmax(1).cpu() == batch_labels).numpy())
            labels.append(batch_labels.numpy())
            seen, hits = sum(map(len, labels)), hits + int(right[-1].sum())
            left = FORWARD * (n - seen) + attacks * n * hits / seen
            report(Progress(CLEAN, -(-seen // size), -(-n // size), seen, hits, FORWARD * seen, left))
            if evaluation.poll:
                evaluation.poll()
    broken_by = np.where(np.concatenate(right), ROBUST, WRONG).astype(np.int8)
    return Chunk(np.concatenate(labels), broken_by, 0, np.zeros(len(broken_by), bool))


def _load(data: Measurable) -> Tensor:
    """At most fates.CHUNK images, as uint8 would not hold what resizing made of them."""
    return torch.cat([images for images, _ in data.batches(250)])


def write_chunk(file: Path, chunk: Chunk) -> None:
    """Writes a chunk as an .npz, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **vars(chunk))
    replace_file(file, buffer.getvalue(), GO_ON)


def read_chunk(file: Path) -> Chunk:
    """Reads what `write_chunk` wrote. Raises VerificationFailed for anything else, OSError where there is nothing."""
    try:
        # until 0.1 there was the number of the stage's batches that were done, which are done again
        labels, broken_by, stage, met, seconds = read_npz(
            file, ["labels", "broken_by", "stage", ("met", "batch"), "seconds"]
        )
        met = met if met.ndim else np.zeros(broken_by.shape, bool)
        if labels.ndim != 1 or broken_by.shape != labels.shape or met.shape != labels.shape or met.dtype != bool:
            raise ValueError(f"labels {labels.shape}, what broke them {broken_by.shape}, met {met.dtype} {met.shape}")
        return Chunk(labels, broken_by, int(stage), met, float(seconds))
    except (ValueError, TypeError) as error:
        expected, again = "a part of an evaluation, unchanged", "delete it and give the same robust-zoo evaluate again"
        raise damaged(f"{file.name} is", file, expected, str(error), next=again) from None


def chunks(n: int, size: int) -> Iterator[Tensor]:
    """The indices of each chunk of so many of a dataset of n images."""
    for start in range(0, n, size):
        yield torch.arange(start, min(start + size, n))
