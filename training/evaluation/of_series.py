"""One model on images under several conditions -> a table of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.choices import CORRUPTIONS, CUES, FP32, TABLES, go_together
from robust_zoo.training.data.dataset import Measurable
from robust_zoo.training.data.image_files import no_loaders
from robust_zoo.training.evaluation import engine, ledger
from robust_zoo.training.evaluation.cue_conflict import Categories
from robust_zoo.training.evaluation.progress import bar, show
from robust_zoo.training.evaluation.series import Series
from robust_zoo.training.evaluation.shared import Origin, folded_model_of
from robust_zoo.training.evaluation.tables import TableKey
from robust_zoo.training.jobs.workers import Tell, Workers
from robust_zoo.weights.ensure import ensure

# What decides between the labels of a table's images.
DECIDES: dict[str, type[nn.Module]] = {CORRUPTIONS: nn.Sequential, CUES: Categories}
go_together("training/evaluation/of_series.py", DECIDES, TABLES)
_NO_THREAT = ThreatModel("l2", 0.0)


@dataclass(frozen=True)
class How:
    """What is the same for all images.

    Attributes:
        device: Where the model is.
        batch_size: Images at once; it changes nothing.
        seed: Of images that we made.
        precision: A name of `choices.PRECISIONS`.
        shard: (i, k): every k-th chunk of images from the i-th.
    """

    device: torch.device
    batch_size: int = 250
    seed: int = 0
    precision: str = FP32
    shard: tuple[int, int] = (0, 1)


def table_of(
    checkpoint: Checkpoint, series: Series, called: str, ledger_dir: Path, how: How, workers: Workers
) -> dict[str, Any] | None:
    """Completes the table of one model.

    Args:
        checkpoint: Which.
        series: The images, under all conditions.
        called: What they are called.
        ledger_dir: Of the ledger.
        how: Device, batches, seed, precision and shard.
        workers: Processes that share the chunks of images, where there are several.

    Returns:
        The entry; None while other shards are at work.

    Raises:
        ZooError: As `ledger.complete`.
    """
    weights = ensure(checkpoint)
    few, _ = next(series.batches(4))
    origin = Origin(checkpoint, weights.sha256, how.device, few.numpy())
    about = (series.table, checkpoint.name, weights.sha256, called, series.sha256, series.conditions)
    elsewhere = partial(_elsewhere, workers, origin, series.table, how) if workers.jobs > 1 else None
    with bar(f"{checkpoint.name} {series.table}") as shown:
        return ledger.complete(
            ledger_dir, TableKey(*about, how.seed, how.precision),
            _evaluation(origin.models(weights)[1], series.table, how), series,
            shard=how.shard, elsewhere=elsewhere, report=partial(show, shown),
        )  # fmt: skip


def _evaluation(model: nn.Module, table: str, how: How) -> engine.Evaluation:
    decides = DECIDES[table](model).eval()
    return engine.Evaluation(decides, _NO_THREAT, (), how.batch_size, precision=how.precision, device=how.device)


def _elsewhere(
    workers: Workers, origin: Origin, table: str, how: How, chunks: Iterable[tuple[Measurable, Path]]
) -> Iterator[engine.Chunk]:
    for _, chunk in workers.run(partial(_chunk, origin, table, how), chunks, workers.jobs):
        yield chunk


def _chunk(origin: Origin, table: str, how: How, piece: tuple[Measurable, Path], tell: Tell) -> engine.Chunk:
    data, file = piece
    with no_loaders():
        return engine.run_chunk(_evaluation(folded_model_of(origin), table, how), data, file, lambda progress: None)
