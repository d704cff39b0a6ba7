"""Figures that others published for cells that this package can run again; each under the name of who reported it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.transfer.datasets import TargetDataset, get_dataset
from robust_zoo.training.transfer.protocols.salman2020 import Salman2020

_HERE = Path(__file__).parent
# file -> who reported it
SOURCES = {
    "salman2020.csv": "Salman et al. 2020 (winners over eps and lr, on the test images)",
    "pony_li.csv": "Pony-Li/Adversarial-Training-Improves-Transferability (independent reproduction)",
}


@dataclass(frozen=True)
class Published:
    """One reported accuracy, and the cell that repeats it: checkpoint, dataset, settings.

    Attributes:
        source: Who reported it.
        checkpoint: What was transferred.
        dataset: What it was transferred to.
        settings: Of the salman2020 protocol.
        lr: None where the source does not say which of 0.01 and 0.001 it was.
        accuracy: In percent, of the dataset's metric.
    """

    source: str
    checkpoint: Checkpoint
    dataset: TargetDataset
    settings: Salman2020
    lr: float | None
    accuracy: float


@cache
def published() -> tuple[Published, ...]:
    """All of them: the paper's 96 winners, and the independent reproduction's CIFAR tables."""
    return tuple(_read())


def _read() -> Iterator[Published]:
    for file, source in SOURCES.items():
        with (_HERE / file).open(encoding="utf-8", newline="") as opened:
            for values in csv.DictReader(opened):
                norm = values.get("norm", "l2")  # the paper's table is of its L2 models
                checkpoint = get(f"{values['arch']}_{norm}_eps{values['eps']}")
                lr = float(values["lr"]) if "lr" in values else None
                settings = Salman2020(mode=values["mode"])
                if lr is not None:
                    settings = replace(
                        settings,
                        lr=lr,
                        weight_decay=float(values["weight_decay"]),
                        epochs=int(values["epochs"]),
                        batch_size=int(values["batch_size"]),
                        step=int(values["step_lr"]),
                    )
                yield Published(
                    source, checkpoint, get_dataset(values["dataset"]), settings, lr, float(values["accuracy"])
                )


def beside(model: str, dataset: str, mode: str) -> list[Published]:
    """What others reported for one setup.

    Args:
        model: The checkpoint's name.
        dataset: The target's name.
        mode: One of salman2020's MODES.

    Returns:
        All of `published` that is about it.
    """
    return [p for p in published() if (p.checkpoint.name, p.dataset.name, p.settings.mode) == (model, dataset, mode)]
