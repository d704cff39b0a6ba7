"""The `linear` protocol: a logistic regression on fixed features; its penalty chosen on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_zoo.errors import UsageError
from robust_zoo.factory import create_model
from robust_zoo.pixels import pixel_model
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.accuracy import pgd_accuracy
from robust_zoo.training.choices import one_of
from robust_zoo.training.data.dataset import Dataset, Images, spread
from robust_zoo.training.transfer.features import CPU, Backbone, batches_for, features, shrunk
from robust_zoo.training.transfer.heads import Head, Scale, sgd_grid
from robust_zoo.training.transfer.logistic import logistic_path
from robust_zoo.training.transfer.protocols.settings import check
from robust_zoo.training.transfer.splits import hold_out, stratified_split
from robust_zoo.training.transfer.task import Outcome, Target, score
from robust_zoo.weights.ensure import Weights

PENALTIES = tuple(10.0 ** (1 - 0.75 * i) for i in range(9))  # of the mean cross-entropy, features scaled
GRID = tuple((rate, decay) for rate in (0.001, 0.01, 0.1) for decay in (0.0, 1e-4, 5e-4))
_SMALL = 2**20  # numbers below which threads wait for each other longer than they work
SOLVERS = ("lbfgs", "sgd")


@dataclass(frozen=True)
class Linear:
    """Settings of the `linear` protocol.

    Attributes:
        solver: "lbfgs" (a path of penalties, each to its minimum; cells keep the name, the steps are Newton's now) or
            "sgd" (a grid of rates and decays, upstream's schedule).
        views: Of each training image: 1 itself, 2 and its mirror image, more: random crops.
        bn: "source", or "adapt": BatchNorm statistics of the target's training images.
        holdout: The part of the training images to choose on where the dataset has no validation split.
        train_size: So many training images per class, a stratified split by the seed; all where it is not set.
        shrink: The shorter side, in pixels, that images are first brought to, 0 for none.

    Raises:
        UsageError: A value may not be that.
    """

    solver: str = "lbfgs"
    views: int = 1
    bn: str = "source"
    holdout: float = 0.2
    train_size: int | None = None
    shrink: int = 0

    def __post_init__(self) -> None:
        check(self, solver=one_of(SOLVERS), bn=one_of(("source", "adapt")))


def linear(
    checkpoint: Checkpoint,
    target: Target,
    settings: Linear,
    *,
    cache: Path,
    weights: Weights | None = None,
    seed: int = 0,
    device: torch.device = CPU,
    progress: bool = False,
) -> tuple[Outcome, Head]:
    """Trains and tests a head on the checkpoint's features of `target`.

    Candidates are compared on validation images, the chosen one is trained again on training and validation images
    together, and the test images are looked at once.

    Args:
        checkpoint: What is transferred.
        target: What it is transferred to.
        settings: Solver, views, statistics and splits.
        cache: The folder of features.
        weights: Verified already; the checkpoint's when None.
        seed: Of splits, random views and the order of images.
        device: Where features and heads are computed.
        progress: Show progress bars on stderr.

    Returns:
        The outcome, and the head on the network's own features.
    """
    target = shrunk(target, settings.shrink)
    train = target.train
    if settings.train_size is not None:
        kept, _ = stratified_split(train.labels, settings.train_size, seed)
        train = train.subset(kept)
    backbone = Backbone(checkpoint, device, train if settings.bn == "adapt" else None, weights=weights)

    def of(data: Dataset, views: int, label: str) -> Tensor:
        text = f"{checkpoint.name} features of {target.name} {label}" if progress else ""
        found = [features(backbone, data, cache, view=v, seed=seed, progress=text) for v in range(views)]
        return torch.from_numpy(np.stack(found)).to(device)

    x, y = of(train, settings.views, "train"), train.labels.to(device)
    if target.val is not None:
        fit, check = torch.arange(len(y)), None
        x_check, y_check = of(target.val, 1, "val")[0], target.val.labels.to(device)
        x_all = torch.cat((x, of(target.val, settings.views, "val")), 1)
        y_all = torch.cat((y, y_check))
    else:
        check, fit = hold_out(y.cpu(), settings.holdout, seed)
        x_check, y_check = x[0, check], y[check]
        x_all, y_all = x, y
    fitted, checked, whole = (x[:, fit], y[fit]), (x_check, y_check), (x_all, y_all)
    head, chosen, tried = chosen_head(fitted, checked, whole, len(target.classes), settings.solver, seed)
    x_test = of(target.test, 1, "test")[0]
    correct, n, mean_per_class = score(head(x_test).argmax(1).cpu(), target.test.labels)
    return Outcome(correct, n, mean_per_class, chosen, tried, {"n_train": len(y_all)}), head


Labelled = tuple[Tensor, Tensor]
"""Features and labels (N,)."""


def chosen_head(
    fit: Labelled, check: Labelled, whole: Labelled, classes: int, solver: str, seed: int
) -> tuple[Head, dict[str, float], list[dict[str, float]]]:
    """Trains a head for each candidate, and the best of them once more, on all images that are for training.

    Args:
        fit: What candidates are trained on, features (V, N, D).
        check: What they are compared on, (N, D).
        whole: Both together, (V, N, D).
        classes: K.
        solver: One of SOLVERS, whose candidates they are.
        seed: Of the order of images, for "sgd".

    Returns:
        The head, its candidate, and all of them with their accuracy in `check`.
    """
    candidates = _candidates(solver)
    heads = train_heads(*fit, classes, candidates, solver, seed)
    hits = [score(head(check[0]).argmax(1), check[1])[0] for head in heads]
    best = candidates[int(np.argmax(hits))]  # of tied ones the first: the stronger penalty
    (head,) = train_heads(*whole, classes, [best], solver, seed)
    tried = [c | {"validation_accuracy": 100 * h / len(check[1])} for c, h in zip(candidates, hits, strict=True)]
    return head, best, tried


def _candidates(solver: str) -> list[dict[str, float]]:
    if solver == "lbfgs":
        return [{"penalty": penalty} for penalty in PENALTIES]
    return [{"lr": rate, "weight_decay": decay} for rate, decay in GRID]


def train_heads(
    x: Tensor, y: Tensor, classes: int, candidates: Sequence[dict[str, float]], solver: str, seed: int
) -> list[Head]:
    """Trains a head for each candidate.

    In float64 on a CPU: sums over other numbers of threads differ in their last bits, and in float32 that can show.

    Args:
        x: (V, N, D) features, V views of N images.
        y: (N,) int64.
        classes: K.
        candidates: {"penalty"} each for "lbfgs", {"lr", "weight_decay"} each for "sgd".
        solver: One of SOLVERS.
        seed: Of the order of images, for "sgd".

    Returns:
        Heads on the features as they are, float32, in the order of `candidates`.
    """
    x = x.double() if x.device.type == "cpu" else x
    scale = Scale.of(x.flatten(0, 1))
    x = scale(x)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if x.numel() < _SMALL else threads)
    try:
        if solver == "lbfgs":
            heads = logistic_path(x.flatten(0, 1), y.repeat(len(x)), classes, [c["penalty"] for c in candidates])
        else:
            heads = sgd_grid(x, y, classes, [(c["lr"], c["weight_decay"]) for c in candidates], seed=seed)
    finally:
        torch.set_num_threads(threads)
    folded = [scale.folded_into(head) for head in heads]
    return [Head(head.weight.float(), head.bias.float()) for head in folded]


def with_head(checkpoint: Checkpoint, head: Head, *, weights: Weights | None = None) -> nn.Module:
    """The transferred model: the checkpoint's network with another head in place of its own.

    Args:
        checkpoint: Whose network it is.
        head: On the network's own features.
        weights: Verified already; the checkpoint's when None.

    Returns:
        A model in eval mode: normalised images -> logits.

    Raises:
        UsageError: The network's head is not a linear layer on pooled features.
    """
    model: Any = create_model(checkpoint, weights=weights, num_classes=len(head.bias))
    layer = model.get_classifier()
    if not isinstance(layer, nn.Linear) or layer.weight.shape != head.weight.shape:
        raise UsageError(
            f"{checkpoint.architecture} does not end in a linear layer of these features",
            model=checkpoint.name,
            expected=f"a linear layer {tuple(head.weight.shape)}",
            actual=str(layer),
        )
    with torch.no_grad():
        layer.weight.copy_(head.weight)
        layer.bias.copy_(head.bias)
    return model.eval()


def robust_accuracy(
    model: nn.Module, checkpoint: Checkpoint, data: Dataset, threat: ThreatModel, *, n: int, progress: bool = False
) -> dict[str, Any]:
    """PGD-20 accuracy of a transferred model, at the network's size.

    Args:
        model: Normalised images -> logits, as `with_head` gives it.
        checkpoint: The preprocessing is its.
        data: The images, of which some are taken.
        threat: Norm and radius.
        n: How many images, evenly spread through `data`.
        progress: Show a progress bar on stderr.

    Returns:
        What a cell's details say of it: norm, eps, attack, correct and n.
    """
    pairs = list(batches_for(spread(data, n), checkpoint.preprocessing, 250))
    images, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    some = Images((images * 255).round().byte(), labels)
    label = f"PGD-20 {threat}" if progress else ""
    found = pgd_accuracy(pixel_model(model), some, threat, steps=20, progress=label)
    return {"norm": threat.norm, "eps": threat.eps, "attack": "pgd-20", "correct": found.correct, "n": found.n}
