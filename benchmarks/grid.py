"""Trains the embedded CIFAR-10 grid, several models at a time on one device.

    python benchmarks/grid.py cifar10.npz runs/grid --jobs 4 [--only linf_eps8 ...]

Each model goes through `robust-zoo train` at its own radius; what is done is not done again. The rows to paste are
runs/grid/*/row.toml, the weights beside them go to robust_zoo/bundled. After SIGTERM all save, and the same command
goes on. Exits with the code of a training that did not end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from robust_zoo.threat import ThreatModel
from robust_zoo.training.jobs.commands import Training, train_all

BASE = "resnet18_x0_25_cifar10_l2_eps0_5"
RADII = {"l2": (0, 0.1, 0.25, 0.5, 1), "linf": ("2/255", "4/255", "8/255")}
GRID = {t.tag: t for norm, radii in RADII.items() for t in (ThreatModel.parse(norm, eps) for eps in radii)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=4, help="models at a time")
    parser.add_argument("--only", nargs="+", choices=GRID, default=list(GRID), metavar="TAG")
    arguments = parser.parse_args()
    recipes = {tag: f'threat = {{norm = "{GRID[tag].norm}", eps = "{GRID[tag].eps!r}/1"}}\n' for tag in arguments.only}
    trainings = [Training(BASE, recipe, arguments.data, arguments.out / tag) for tag, recipe in recipes.items()]
    worst = 0
    for training, code in train_all(trainings, arguments.jobs):
        worst = max(worst, abs(code))
        print(f"{training.out.name:<16} {'done' if code == 0 else f'exit {code}, see output.txt'}", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
