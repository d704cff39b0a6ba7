"""What one model gives for each kind of picture: rows of tiles, and the arrays that they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robust_zoo.training.choices import go_together
from robust_zoo.training.data.class_names import class_names
from robust_zoo.training.data.dataset import evenly
from robust_zoo.training.figures.tiles import Row
from robust_zoo.visualization.changes import interpolate, invert, maximise, more_like, synthesise
from robust_zoo.visualization.engine import BATCH_SIZE, noise
from robust_zoo.visualization.kinds import KINDS
from robust_zoo.visualization.models import Subject
from robust_zoo.visualization.saliency import as_pictures, gradients

_PAIRS = 3  # between which is interpolated


@dataclass(frozen=True)
class Wanted:
    """What pictures are made of, beside the model.

    Attributes:
        images: (N, 3, S, S) in [0, 1]; none where none are needed.
        captions: What they are called.
        labels: (N,) of the images, None where only the model says what they are.
        classes: That are drawn, and in turn what images are made more like; () for some of the model's, and for each
            image the next one's.
        n: Pictures side by side.
        seed: Of noise.
        batch_size: Pictures that are changed at once.
        progress: Whether a bar is shown.
    """

    images: Tensor
    captions: tuple[str, ...]
    labels: Tensor | None
    classes: Sequence[int]
    n: int = 10
    seed: int = 0
    batch_size: int = BATCH_SIZE
    progress: bool = False

    def how(self, label: str) -> dict[str, Any]:
        """What each function is told of the way there."""
        return {"batch_size": self.batch_size, "progress": label if self.progress else ""}


@dataclass(frozen=True)
class Strip:
    """What one model gives for one kind.

    Attributes:
        rows: Whose titles go on from the model's name.
        found: (N, ..., 3, S, S), what was found.
        others: What it was asked for, by name.
    """

    rows: tuple[Row, ...]
    found: Tensor
    others: dict[str, Tensor] = field(default_factory=dict)


def named(of: Subject, labels: Tensor) -> list[str]:
    """What classes are called: by their number, where the model does not say."""
    names = class_names(of.checkpoint.collection.dataset) if of.checkpoint else ()
    return [names[label] if names else str(label) for label in labels.tolist()]


def _synthesis(of: Subject, wanted: Wanted) -> Strip:
    labels = of.labels(wanted.classes or evenly(of.classes, wanted.n))
    found = synthesise(of.pixels, labels, seed=wanted.seed, **wanted.how("synthesis"))
    return Strip((Row("what it takes for each class", [*found], named(of, labels)),), found, {"labels": labels})


def _feature(of: Subject, wanted: Wanted) -> Strip:
    excited = (of.features(noise(wanted.n, of.shape, wanted.seed), wanted.batch_size) != 0).all(0)
    count, alive = len(excited), excited.nonzero().flatten().tolist()  # behind a ReLU nothing leads out of silence
    numbers = [alive[i] for i in evenly(len(alive), wanted.n)] if alive else evenly(count, wanted.n)
    found = maximise(of.pixels, numbers, seed=wanted.seed, **wanted.how("features"))
    row = Row(f"what excites single ones of its {count} features", [*found], [f"no. {i}" for i in numbers])
    return Strip((row,), found, {"features": torch.tensor(numbers)})


def _gradient(of: Subject, wanted: Wanted) -> Strip:
    found = gradients(of.pixels, wanted.images, wanted.labels, batch_size=wanted.batch_size)
    return Strip((Row("how its loss changes with each pixel", [*as_pictures(found)]),), found)


def _more_like(of: Subject, wanted: Wanted) -> Strip:
    if wanted.classes:
        labels = of.labels([wanted.classes[i % len(wanted.classes)] for i in range(len(wanted.images))])
    else:
        own = wanted.labels if wanted.labels is not None else of.logits(wanted.images, wanted.batch_size).argmax(1)
        labels = own.roll(-1)
    found = more_like(of.pixels, wanted.images, labels, **wanted.how("more like"))
    captions = [f"to {name}" for name in named(of, labels)]
    return Strip((Row("each made more like another class", [*found], captions),), found, {"labels": labels})


def _inversion(of: Subject, wanted: Wanted) -> Strip:
    found = invert(of.pixels, wanted.images, seed=wanted.seed, **wanted.how("inversion"))
    targets = of.features(wanted.images, wanted.batch_size)
    apart = (of.features(found, wanted.batch_size) - targets).norm(dim=1) / targets.norm(dim=1)
    captions = [f"{100 * share:.0f} % apart" for share in apart.tolist()]
    return Strip((Row("noise changed until it has the features of each", [*found], captions),), found)


def _interpolation(of: Subject, wanted: Wanted) -> Strip:
    pairs = min(len(wanted.images) // 2, _PAIRS)
    ends = wanted.images[: 2 * pairs].unflatten(0, (pairs, 2))
    count, how = max(wanted.n - 2, 1), wanted.how("interpolation")
    found = interpolate(of.pixels, ends[:, 0], ends[:, 1], count=count, **how)
    title = "from one image to another, by its features"
    ways = zip(ends, found, strict=True)
    rows = [Row(title if i == 0 else "", [first, *way, last]) for i, ((first, last), way) in enumerate(ways)]
    return Strip(tuple(rows), found)


DRAWN: dict[str, Callable[[Subject, Wanted], Strip]] = {
    "synthesis": _synthesis,
    "feature": _feature,
    "gradient": _gradient,
    "more-like": _more_like,
    "inversion": _inversion,
    "interpolation": _interpolation,
}
go_together("visualization/strips.py", DRAWN, KINDS)
