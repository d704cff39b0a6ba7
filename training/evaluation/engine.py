"""Which images withstand a suite of attacks: in chunks that can be resumed, shared out and merged without a trace."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robust_zoo.files import replace_file
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.apgd import sizes
from robust_zoo.training.attacks.suites import Stage
from robust_zoo.training.data.dataset import Dataset

CHUNK = 1000  # images that are attacked together: survivors of a stage fill the next one's batches
WITHSTOOD, WRONG = -1, -2  # values of Chunk.fell; >= 0: the stage it fell to

Poll = Callable[..., None] | None


@dataclass
class Chunk:
    """What is known of one chunk; grows until `stage` is past the last.

    fell: (n,) int8, WITHSTOOD, WRONG (without any attack) or the number of the stage an image fell to.
    batch: batches of `stage` that are done. seconds: it has taken so far.
    """

    labels: np.ndarray
    fell: np.ndarray
    stage: int = 0
    batch: int = 0
    seconds: float = 0.0

    def survivors(self) -> np.ndarray:
        """The images that the current stage is about, those included that fell to it already."""
        return np.flatnonzero((self.fell == WITHSTOOD) | (self.fell == self.stage))


@dataclass(frozen=True)
class Job:
    """An evaluation, but for its images. batch_size decides the random numbers that an image meets, so it is part of a
    figure's settings."""

    model: nn.Module
    threat: ThreatModel
    stages: Sequence[Stage]
    batch_size: int
    seed: int = 0
    poll: Poll = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def run_chunk(job: Job, data: Dataset, file: Path, progress: Callable[[int, int], None]) -> Chunk:
    """Evaluates a chunk of at most CHUNK images, going on from `file` when it exists; `file` is whole at any moment.

    progress: called with (images decided upon, images that withstood so far).
    """
    clock = time.monotonic()
    chunk = read(file) if file.exists() else _clean(job, data)
    images: Tensor | None = None
    while chunk.stage < len(job.stages):
        if (batch := _batch(chunk, job.batch_size)) is None:
            chunk.stage, chunk.batch = chunk.stage + 1, 0
        else:
            images = _load(data) if images is None else images
            labels = torch.from_numpy(chunk.labels[batch]).to(job.device)
            chunk.fell[batch[_falls(job, chunk.stage, images[batch].to(job.device), labels)]] = chunk.stage
            chunk.batch += 1
        chunk.seconds, clock = chunk.seconds + time.monotonic() - clock, time.monotonic()
        write(file, chunk)
        progress(len(chunk.fell), int((chunk.fell == WITHSTOOD).sum()))
    if not job.stages:
        write(file, chunk)
    return chunk


def _clean(job: Job, data: Dataset) -> Chunk:
    labels, right = [], []
    with torch.no_grad():
        for images, batch_labels in data.batches(job.batch_size):
            right.append((job.model(images.to(job.device)).argmax(1).cpu() == batch_labels).numpy())
            labels.append(batch_labels.numpy())
            if job.poll:
                job.poll()
    return Chunk(np.concatenate(labels), np.where(np.concatenate(right), WITHSTOOD, WRONG).astype(np.int8))


def _load(data: Dataset) -> Tensor:
    """At most CHUNK images, as uint8 would not hold what resizing made of them."""
    return torch.cat([images for images, _ in data.batches(250)])


def _batch(chunk: Chunk, size: int) -> np.ndarray | None:
    rows = chunk.survivors()[chunk.batch * size : (chunk.batch + 1) * size]
    return rows if len(rows) else None


def _falls(job: Job, stage: int, images: Tensor, labels: Tensor) -> np.ndarray:
    """Which images of a batch a stage brings down; every adversarial image is checked again here."""
    adv_images = job.stages[stage](job.model, images, labels, job.threat, seed=job.seed, poll=job.poll)
    with torch.no_grad():
        wrong = job.model(adv_images).argmax(1) != labels
    allowed = sizes(adv_images - images, job.threat.norm).flatten() <= job.threat.eps * (1 + 1e-5) + 1e-7
    inside = (adv_images >= 0).flatten(1).all(1) & (adv_images <= 1).flatten(1).all(1)
    return (wrong & allowed & inside).cpu().numpy()


def write(file: Path, chunk: Chunk) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **vars(chunk))
    replace_file(file, buffer.getvalue())


def read(file: Path) -> Chunk:
    with np.load(file) as stored:
        return Chunk(
            stored["labels"], stored["fell"], int(stored["stage"]), int(stored["batch"]), float(stored["seconds"])
        )


def chunks(n: int) -> Iterator[Tensor]:
    """The indices of each chunk of a dataset of n images."""
    for start in range(0, n, CHUNK):
        yield torch.arange(start, min(start + CHUNK, n))
