"""Which checkpoint for these images? Linear probes, cross-validated on features of a ladder of radii."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robust_zoo.counts import wilson_interval
from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.dataset import Dataset, seed_of, spread
from robust_zoo.training.data.folders import open_folder
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.transfer.cells import Model
from robust_zoo.training.transfer.features import Backbone, features
from robust_zoo.training.transfer.plots import draw
from robust_zoo.training.transfer.protocols.linear import PENALTIES, drawn, train_heads
from robust_zoo.training.transfer.report import Figure

FOLDS = 5
_TIMED = 32  # images that the speed of a network is measured on


@dataclass(frozen=True)
class Advice:
    """One checkpoint: `correct` of `n` images classified by probes that had not seen them.

    level: these images do not tell it from the best one (paired, 95 %).
    """

    row: Checkpoint
    correct: int
    n: int
    level: bool

    @property
    def accuracy(self) -> float:
        return 100 * self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval, in percent."""
        return wilson_interval(self.correct, self.n)


def recommend(
    images: Dataset, names: Sequence[str | Checkpoint], *, cache: Path, budget: float | None = None, folds: int = FOLDS,
    seed: int = 0, device: str = "cpu", progress: bool = False,
) -> list[Advice]:  # fmt: skip
    """Ranks checkpoints by the cross-validated accuracy of a linear probe on their features, best first.

    images: labelled; every class needs `folds` of them. budget: minutes that reading and extracting may take on this
    machine: images are left out evenly, class by class, until the estimate fits. A fold's penalty is chosen on the
    other folds.

    Raises UsageError for a class with too few images, or less than two classes.
    """
    rows = [get(name) for name in names]
    _check(images.labels, folds)
    if budget is not None:
        images = _fitting(images, rows, budget, folds, seed, cache, torch.device(device), progress)
    fold = fold_of(images.labels, folds, seed)
    hits = {}
    for row in rows:
        label = f"features of {row.name}" if progress else ""
        found = features(Backbone(row, torch.device(device)), images, cache, progress=label)
        hits[row.name] = cross_validated(torch.tensor(found, device=device), images.labels, fold)
    top = max(hits.values(), key=lambda h: int(h.sum()))
    advice = [Advice(row, int(hits[row.name].sum()), len(images), _level(top, hits[row.name])) for row in rows]
    return sorted(advice, key=lambda a: -a.correct)


def open_images(folder: Path, *, workers: int = 0) -> tuple[ImageFiles, tuple[str, ...]]:
    """The labelled images of class folders, and the classes' names. Raises UsageError naming what is wrong."""
    source = open_folder(folder)
    return ImageFiles(source, workers=workers), source.classes


def _check(labels: Tensor, folds: int) -> None:
    counts = torch.bincount(labels)
    if len(counts) < 2 or counts.min() < folds:
        raise UsageError(
            "too few images to compare models on", expected=f"two classes or more, each of {folds} images or more",
            actual=f"{len(counts)} classes, the smallest of {int(counts.min()) if len(counts) else 0} images",
            next="add images, or leave the smallest classes out",
        )  # fmt: skip


def fold_of(labels: Tensor, folds: int, seed: int) -> Tensor:
    """(N,) the fold of each image: every class is spread over all of them evenly."""
    found = torch.empty_like(labels)
    generator = torch.Generator().manual_seed(seed_of(seed, 0xF01D))
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        found[members[torch.randperm(len(members), generator=generator)]] = torch.arange(len(members)) % folds
    return found


def cross_validated(x: Tensor, labels: Tensor, fold: Tensor) -> Tensor:
    """(N,) bool: whether each image was classified by the probe trained without its fold. x: (N, D)."""
    y, classes = labels.to(x.device), int(labels.max()) + 1
    candidates = [{"penalty": penalty} for penalty in PENALTIES]
    right = torch.zeros(len(candidates), len(y), dtype=torch.bool)
    for f in fold.unique().tolist():
        out = fold == f
        heads = train_heads(x[None, ~out], y[~out], classes, candidates, "lbfgs", 0)
        for i, head in enumerate(heads):
            right[i, out] = (head(x[out]).argmax(1) == y[out]).cpu()
    found = torch.zeros(len(y), dtype=torch.bool)
    for f in fold.unique().tolist():
        out = fold == f
        found[out] = right[int(right[:, ~out].sum(1).argmax()), out]
    return found


def _level(a: Tensor, b: Tensor) -> bool:
    """Whether the images on which just one of two models is right could have fallen so by chance (McNemar 1947)."""
    one, other = int((a & ~b).sum()), int((b & ~a).sum())
    return abs(one - other) <= 1.96 * (one + other) ** 0.5


def _fitting(
    images: Dataset, rows: Iterable[Checkpoint], budget: float, folds: int, seed: int, cache: Path,
    device: torch.device, progress: bool,
) -> Dataset:  # fmt: skip
    """As many of the images as fit, timed on a few with every network."""
    few, seconds = spread(images, _TIMED), 0.0
    for row in rows:
        started = time.perf_counter()
        features(Backbone(row, device), few, cache, progress=f"timing {row.name}" if progress else "")
        seconds += (time.perf_counter() - started) / len(few)
    part = budget * 60 / max(seconds * len(images), 1e-9)
    if part >= 1:
        return images
    kept, _ = drawn(images.labels, part, seed)
    if torch.bincount(images.labels[kept]).min() < folds:
        kept, _ = drawn(images.labels, folds, seed)
    return images.subset(kept)


def table(advice: Sequence[Advice], classes: int) -> str:
    """The ranking, and the line to use."""
    lines = [f"{'':<3}{'checkpoint':<42}{'accuracy':>9}   95 % interval"]
    for place, a in enumerate(advice, start=1):
        low, high = a.interval
        note = "" if place == 1 or not a.level else "   not told apart from the first"
        lines.append(f"{place:<3}{a.row.name:<42}{a.accuracy:>7.1f} %   {low:.1f}-{high:.1f}{note}")
    lines += [
        f"linear probes on {advice[0].n:,} images of {classes} classes, {FOLDS}-fold cross-validation",
        "",
        f'robust_zoo.create_model("{advice[0].row.name}", num_classes={classes})',
    ]
    return "\n".join(lines)


def picture(advice: Sequence[Advice], name: str, out: Path) -> None:
    """Accuracy against eps, with intervals."""
    found = [
        Figure(Model.of(a.row), name, "linear", "top-1", a.accuracy, None, a.interval, 1, a.n, None, "")
        for a in advice
    ]  # fmt: skip
    draw(f"linear probes, {FOLDS}-fold cross-validation", found, out, only=1)
