"""The `linear` protocol against upstream's 150 epochs, a grid of SGD heads against one head, and the path of
penalties against scikit-learn, in one run.

    python benchmarks/transfer.py cifar10.npz [--epochs 3]

5,000 training and 2,000 test images of CIFAR-10 (seen upscaled by nobody: the bundled model takes 32 px). Upstream's
side is the `salman2020` protocol, whose losses equal `robustness`' train_model (tests/peers/test_transfer_loop.py); its
150 epochs are extrapolated from `--epochs`, or run whole with --epochs 150, which also gives its accuracy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_zoo.registry.lookup import get
from robust_zoo.training.data.cifar10_sample import cifar10_classes
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.transfer.features import CPU, Backbone, features
from robust_zoo.training.transfer.heads import Head, Scale, sgd_grid
from robust_zoo.training.transfer.logistic import logistic_path, objective
from robust_zoo.training.transfer.protocols.linear import GRID, PENALTIES, Linear, linear
from robust_zoo.training.transfer.protocols.salman2020 import Salman2020, salman2020
from robust_zoo.training.transfer.splits import stratified_split
from robust_zoo.training.transfer.task import Target

MODEL = "resnet18_x0_25_cifar10_l2_eps0_5"
UPSTREAM_EPOCHS = 150


def target(file: Path) -> Target:
    data = np.load(file, allow_pickle=False)

    def some(split: str, per_class: int) -> Images:
        images = torch.from_numpy(data[f"x_{split}"]).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(data[f"y_{split}"]).long()
        return Images(images, labels).subset(stratified_split(labels, per_class, 0)[0])

    return Target("cifar10", cifar10_classes(), some("train", 500), None, some("test", 200))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--epochs", type=int, default=3, help="of upstream's protocol that are run")
    arguments = parser.parse_args()
    row, cifar10 = get(MODEL), target(arguments.data)

    with tempfile.TemporaryDirectory() as cache:
        ours, (outcome, _) = timed(lambda: linear(row, cifar10, Linear(), cache=Path(cache)))
        x = torch.from_numpy(np.array(features(Backbone(row), cifar10.train, Path(cache)))).double()
    y = cifar10.train.labels
    settings = Salman2020(epochs=arguments.epochs)
    theirs, (upstream, _) = timed(lambda: salman2020(row, cifar10, settings, device=CPU, progress=True))
    whole = theirs / arguments.epochs * UPSTREAM_EPOCHS

    x = Scale.of(x)(x)
    short = {"epochs": 10, "seed": 0}
    grids = (GRID[4:5], GRID)
    rounds = [[timed(lambda grid=grid: sgd_grid(x[None], y, 10, grid, **short))[0] for grid in grids] for _ in range(7)]
    print(
        json.dumps(
            {
                "linear_seconds": round(ours, 2),
                "upstream_seconds": round(whole, 1),
                "speedup": round(whole / ours, 1),
                "linear_accuracy": outcome.accuracy,
                f"upstream_accuracy_after_{arguments.epochs}_epochs": upstream.accuracy,
                "grid_of_9_over_one_head": round(statistics.median(nine / one for one, nine in rounds), 2),
                "loss_above_scikit_learn": solver_gap(x, y),
            },
            indent=1,
        )
    )


def solver_gap(x: torch.Tensor, y: torch.Tensor) -> float:
    """The most by which our objective is above scikit-learn's at its optimum, over the path of penalties."""
    from sklearn.linear_model import LogisticRegression

    gaps = []
    for penalty, mine in zip(PENALTIES, logistic_path(x, y, 10, PENALTIES), strict=True):
        peer = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-8, max_iter=5000).fit(x.numpy(), y.numpy())
        other = Head(torch.from_numpy(peer.coef_), torch.from_numpy(peer.intercept_))
        gaps.append(float(objective(mine, x, y, penalty) - objective(other, x, y, penalty)))
    return max(gaps)


if __name__ == "__main__":
    main()
