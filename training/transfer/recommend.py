"""Which checkpoint for these images? Linear probes, cross-validated on features of a ladder of radii."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robust_zoo.counts import Count
from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import several
from robust_zoo.training.data.dataset import Dataset, seed_of, spread
from robust_zoo.training.data.encoded import counted
from robust_zoo.training.data.fit import as_dataset
from robust_zoo.training.data.folders import check_classes_differ, open_folder
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.distributed import device_of
from robust_zoo.training.transfer.cells import Model
from robust_zoo.training.transfer.features import Backbone, features
from robust_zoo.training.transfer.plots import draw, ladders
from robust_zoo.training.transfer.protocols.linear import PENALTIES, train_heads
from robust_zoo.training.transfer.report import Figure
from robust_zoo.training.transfer.splits import stratified_split
from robust_zoo.weights.exported import checkpoint_of

FOLDS = 5
_TIMED = 32  # images that the speed of a network is measured on


@dataclass(frozen=True)
class Advice(Count):
    """One checkpoint: `correct` of `n` images classified by probes that had not seen them.

    Attributes:
        correct: Images classified right.
        n: Images, all of them.
        checkpoint: Whose features the probes saw.
        tied: With the best: these images do not tell the two apart (paired, 95 %).
        folds: Of the cross-validation.
    """

    checkpoint: Checkpoint
    tied: bool
    folds: int


def recommend(
    images: Dataset,
    names: Sequence[str | Checkpoint],
    *,
    cache: Path,
    budget: float | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> list[Advice]:
    """Ranks checkpoints by the cross-validated accuracy of a linear probe on their features.

    A fold's penalty is chosen on the other folds.

    Args:
        images: Labelled; every class needs `folds` of them.
        names: Names of checkpoints, files that `train` or `convert` wrote, or checkpoints themselves.
        cache: The folder of features; made where it is not there.
        budget: Minutes that features may take here; images are left out evenly to fit it. None means all images.
        folds: Of the cross-validation, at least 2.
        seed: Of the folds and of the images left out.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: Show progress bars on stderr.

    Returns:
        One `Advice` each, the best first.

    Raises:
        UsageError: A class has too few images, or there are less than two classes.
        UnknownCheckpoint: No checkpoint has that name.
        StorageError: The disk refuses the features.

    Example:
        >>> images, _ = open_images(Path("photos"))
        >>> best = recommend(images, ["resnet50_l2_eps0", "resnet50_l2_eps3"], cache=Path("features"))[0]
    """
    checkpoints, place, images = [checkpoint_of(name) for name in names], device_of(device), as_dataset(images)
    _check(images.labels, folds)
    if budget is not None:
        images = _fitting(images, checkpoints, budget, folds, seed, cache, place, progress)
    fold = fold_of(images.labels, folds, seed)
    hits = []  # two files of one's own may have one name
    for checkpoint in checkpoints:
        label = f"features of {checkpoint.name}" if progress else ""
        found = features(Backbone(checkpoint, place), images, cache, progress=label)
        hits.append(cross_validated(torch.tensor(found, device=place), images.labels, fold))
    top = max(hits, key=lambda h: int(h.sum()))
    advice = [
        Advice(int(right.sum()), len(images), checkpoint, _tied(top, right), folds)
        for checkpoint, right in zip(checkpoints, hits, strict=True)
    ]
    return sorted(advice, key=lambda a: -a.correct)


def open_images(folder: Path, *, workers: int = 0) -> tuple[ImageFiles, tuple[str, ...]]:
    """Opens the labelled images of class folders.

    Args:
        folder: Holds a folder for each class; or splits, of which the training images are taken.
        workers: Loader processes, 0 for none.

    Returns:
        The images, and the classes' names by label; `images.source.note` says what was taken and what left out.

    Raises:
        UsageError: The folder is not a dataset of images; it names what is wrong.
    """
    source = counted(open_folder(folder), folder)
    check_classes_differ(source, folder)
    return ImageFiles(source, workers=workers), source.classes


def _check(labels: Tensor, folds: int) -> None:
    counts = torch.bincount(labels)
    if len(counts) < 2 or counts.min() < folds:
        raise UsageError(
            "too few images to compare models on",
            expected=f"two classes or more, each of {folds} images or more",
            actual=f"{len(counts)} classes, the smallest of {several(int(min(counts, default=0)), 'image')}",
            next="add images, or leave the smallest classes out",
        )


def fold_of(labels: Tensor, folds: int, seed: int) -> Tensor:
    """Deals images out to folds, every class over all of them evenly.

    Args:
        labels: (N,) int64.
        folds: How many.
        seed: Decides which image goes where.

    Returns:
        (N,) int64, the fold of each image.
    """
    found = torch.empty_like(labels)
    generator = torch.Generator().manual_seed(seed_of(seed, 0xF01D))
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        found[members[torch.randperm(len(members), generator=generator)]] = torch.arange(len(members)) % folds
    return found


def cross_validated(x: Tensor, labels: Tensor, fold: Tensor) -> Tensor:
    """Tests each image by the probe that was trained without its fold.

    Args:
        x: (N, D) features.
        labels: (N,) int64.
        fold: (N,) int64, as `fold_of` gives it.

    Returns:
        (N,) bool, whether each image was classified right.
    """
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


def _tied(a: Tensor, b: Tensor) -> bool:
    """Whether the images on which just one of two models is right could have fallen so by chance (McNemar 1947)."""
    one, other = int((a & ~b).sum()), int((b & ~a).sum())
    return abs(one - other) <= 1.96 * (one + other) ** 0.5


def _fitting(
    images: Dataset,
    checkpoints: Iterable[Checkpoint],
    budget: float,
    folds: int,
    seed: int,
    cache: Path,
    device: torch.device,
    progress: bool,
) -> Dataset:
    """As many of the images as fit, timed on a few with every network."""
    few, seconds = spread(images, _TIMED), 0.0
    for checkpoint in checkpoints:
        started = time.perf_counter()
        features(Backbone(checkpoint, device), few, cache, progress=f"timing {checkpoint.name}" if progress else "")
        seconds += (time.perf_counter() - started) / len(few)
    part = budget * 60 / max(seconds * len(images), 1e-9)
    if part >= 1:
        return images
    kept, _ = stratified_split(images.labels, part, seed)
    if torch.bincount(images.labels[kept]).min() < folds:
        kept, _ = stratified_split(images.labels, folds, seed)
    return images.subset(kept)


def table(advice: Sequence[Advice], classes: int) -> str:
    """Writes the ranking, and the line to use.

    Args:
        advice: As `recommend` returns it.
        classes: How many the images have.

    Returns:
        Lines of text.
    """
    lines = [f"{'':<3}{'checkpoint':<42}{'accuracy':>9}   95 % interval"]
    for place, a in enumerate(advice, start=1):
        low, high = a.interval
        note = "" if place == 1 or not a.tied else "   not told apart from the first"
        lines.append(f"{place:<3}{a.checkpoint.name:<42}{a.accuracy:>7.1f} %   {low:.1f}-{high:.1f}{note}")
    lines += [
        f"linear probes on {advice[0].n:,} images of {classes} classes, {advice[0].folds}-fold cross-validation",
        "",
        f'robust_zoo.create_model("{advice[0].checkpoint.handle}", num_classes={classes})',
    ]
    return "\n".join(lines)


def picture(advice: Sequence[Advice], name: str, out: Path) -> None:
    """Draws accuracy against eps, with intervals.

    Args:
        advice: As `recommend` returns it.
        name: Of the images.
        out: The picture's file.

    Raises:
        UsageError: matplotlib is not installed.
    """
    found = [
        Figure(Model.of(a.checkpoint), name, "linear", "top-1", a.accuracy, None, a.interval, 1, a.n, None, "")
        for a in advice
    ]
    draw(f"Linear probes on your images, {advice[0].folds}-fold cross-validation", found, out, ladders(found))
