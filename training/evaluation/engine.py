"""Which images are robust to a suite of attacks: in chunks that can be resumed, shared out and merged."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robust_zoo.errors import damaged
from robust_zoo.files import GO_ON, replace_file
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import rules
from robust_zoo.training.attacks.pgd import Poll
from robust_zoo.training.attacks.suites import Stage
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.data.npz import read_npz
from robust_zoo.training.evaluation import fates
from robust_zoo.training.evaluation.fates import ROBUST, WRONG


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


def run_chunk(evaluation: Evaluation, data: Dataset, file: Path, progress: Callable[[int, int], None]) -> Chunk:
    """Evaluates a chunk of at most CHUNK images, going on from `file` when it exists; `file` is whole at any moment.

    Args:
        evaluation: Model, attacks and settings.
        data: The chunk's images.
        file: What is known of the chunk; written after every batch.
        progress: Called with (images decided upon, images robust so far).

    Returns:
        The chunk, with every image's fate.

    Raises:
        StorageError: The disk refuses `file`.
    """
    clock = time.monotonic()
    chunk = _same_images(read_chunk(file), file, evaluation, data) if file.exists() else _clean(evaluation, data)
    chunk.seconds, clock = chunk.seconds + time.monotonic() - clock, time.monotonic()
    images: Tensor | None = None
    while chunk.stage < len(evaluation.stages):
        if (batch := _batch(chunk, evaluation.batch_size)) is None:
            chunk.stage, chunk.batch = chunk.stage + 1, 0
        else:
            images = _load(data) if images is None else images
            labels = torch.from_numpy(chunk.labels[batch]).to(evaluation.device)
            chunk.broken_by[batch[_broken(evaluation, chunk.stage, images[batch].to(evaluation.device), labels)]] = (
                chunk.stage
            )
            chunk.batch += 1
        chunk.seconds, clock = chunk.seconds + time.monotonic() - clock, time.monotonic()
        write_chunk(file, chunk)
        progress(len(chunk.broken_by), int((chunk.broken_by == ROBUST).sum()))
    if not evaluation.stages:
        write_chunk(file, chunk)
    return chunk


def _same_images(chunk: Chunk, file: Path, evaluation: Evaluation, data: Dataset) -> Chunk:
    stages, fates = len(evaluation.stages), chunk.broken_by
    same = np.array_equal(chunk.labels, data.labels.numpy()) and 0 <= chunk.stage <= stages and chunk.batch >= 0
    if not same or fates.dtype != np.int8 or fates.min() < WRONG or fates.max() >= stages:
        found = f"{len(chunk.labels)} labels, stage {chunk.stage} of {stages}, fates {fates.min()} to {fates.max()}"
        again = "delete it and give the same robust-zoo evaluate again"
        raise damaged(f"{file.name} is", file, f"the fates of these {len(data)} images", found, next=again)
    return chunk


def _clean(evaluation: Evaluation, data: Dataset) -> Chunk:
    labels, right = [], []
    with torch.no_grad():
        for images, batch_labels in data.batches(evaluation.batch_size):
            right.append((evaluation.model(images.to(evaluation.device)).argmax(1).cpu() == batch_labels).numpy())
            labels.append(batch_labels.numpy())
            if evaluation.poll:
                evaluation.poll()
    return Chunk(np.concatenate(labels), np.where(np.concatenate(right), ROBUST, WRONG).astype(np.int8))


def _load(data: Dataset) -> Tensor:
    """At most fates.CHUNK images, as uint8 would not hold what resizing made of them."""
    return torch.cat([images for images, _ in data.batches(250)])


def _batch(chunk: Chunk, size: int) -> np.ndarray | None:
    rows = chunk.survivors()[chunk.batch * size : (chunk.batch + 1) * size]
    return rows if len(rows) else None


def _broken(evaluation: Evaluation, stage: int, images: Tensor, labels: Tensor) -> np.ndarray:
    """Which images of a batch a stage breaks; every adversarial image is checked again here."""
    adv_images = evaluation.stages[stage](
        evaluation.model, images, labels, evaluation.threat, seed=evaluation.seed, poll=evaluation.poll
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
