"""The objectives study: what do `arks` and `regional` give beside `adversarial`, at as many passes, under AutoAttack?

    python -m studies.objectives.objectives cifar10.npz RUNS --jobs 2

Each training of TRAININGS is run from scratch on CIFAR-10, in three seeds, then judged on the same 250 test images by
PGD-20 and AutoAttack under JUDGE. Seed 0 of all comes first. What is done is not done again; SIGTERM and Ctrl-C
let trainings save, and the same command goes on. After each model all cells that there are go to cells.jsonl beside
this file; at the end the table of README.md is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from robust_zoo.files import GO_ON, replace_file
from robust_zoo.registry.lookup import get
from robust_zoo.registry.reported import threat_title
from robust_zoo.threat import ThreatModel
from robust_zoo.training.evaluation.entries import read_entry
from robust_zoo.training.jobs.commands import Commands, Training
from robust_zoo.training.recipes import Recipe, from_dict, load_overrides, recipe_for
from robust_zoo.training.signals import EXIT_STOPPED

HERE = Path(__file__).parent
CELLS = HERE / "cells.jsonl"
BASE = "resnet18_x0_25_cifar10_l2_eps0_5"  # whose recipe is followed, but for what TRAININGS say, and epochs
# What differs, as a file of recipe values has it; in the order in which they are trained.
TRAININGS = {
    "adversarial, L2 0.5": "threat = {eps = 0.5}\n",
    "arks, sigma 0.3": 'objective = "arks"\narks_sigma = 0.3\n',
    "regional, L2 0.5": 'objective = "regional"\nthreat = {eps = 0.5}\n',
    "arks, sigma 0.6": 'objective = "arks"\narks_sigma = 0.6\n',
    "arks, sigma 0.1": 'objective = "arks"\narks_sigma = 0.1\n',
}
SEEDS = 3
JUDGE = ThreatModel("l2", 0.5)
CLEAN = "none"  # on all test images
ATTACKS = ("pgd-20", "autoattack")
IMAGES = 250  # that judge, evenly spread over the test images
WATCHED = 250  # test images that a training measures itself on
_EXPORTED = "resnet*.safetensors"  # in a run's directory, beside its checkpoints
_KEPT = (  # of an entry
    "attack", "norm", "eps", "n", "clean_correct", "robust_correct", "broken_by", "flags", "dataset", "weights_sha256",
    "settings_sha256", "code", "seconds", "finished",
)  # fmt: skip
Cell = Mapping[str, Any]


def recipe_of(training: str, seed: int, epochs: int) -> Recipe:
    """How one model is trained.

    Args:
        training: A name of TRAININGS.
        seed: Of everything random.
        epochs: Of `adversarial`; what makes more passes an image has fewer, to the nearest whole one.

    Returns:
        The whole recipe.
    """
    base = recipe_for(get(BASE))
    recipe = from_dict(tomllib.loads(TRAININGS[training]) | {"seed": seed}, base)
    return replace(recipe, epochs=max(1, round(epochs * base.passes / recipe.passes)))


@dataclass(frozen=True)
class Study:
    """Where a study is and how it is done.

    Attributes:
        data: An .npz with CIFAR-10.
        runs: The folder of run directories.
        epochs: As `recipe_of` has it.
        images: How many judge.
        cells: The file of cells.
        device: Where everything is computed.
        commands: What trains and judges.
    """

    data: Path
    runs: Path
    epochs: int
    images: int = IMAGES
    cells: Path = CELLS
    device: str = "cpu"
    commands: Commands = field(default_factory=Commands)

    def run(self, training: str, seed: int) -> Path:
        """The directory of a run."""
        return self.runs / f"{training.replace(', ', '_').replace(' ', '')}_seed{seed}"

    def weights(self, training: str, seed: int) -> Path | None:
        """The file of a run that ended, None before; it exits where that is of another recipe."""
        file = next(self.run(training, seed).glob(_EXPORTED), None)
        if file and load_overrides(file, recipe_for(get(BASE))) != recipe_of(training, seed, self.epochs):
            sys.exit(f"{file} was trained with other settings: give the same --epochs, or another folder of runs")
        return file

    def training_data(self) -> Path:
        """All training images and few test images: what a training measures at its end is not what is asked."""
        path = self.runs / "data.npz"
        if not path.exists():
            self.runs.mkdir(parents=True, exist_ok=True)
            with np.load(self.data, allow_pickle=False) as whole:
                few = np.linspace(0, len(whole["y_test"]) - 1, min(WATCHED, len(whole["y_test"]))).astype(int)
                arrays: dict[str, Any] = {name: whole[name] for name in ("x_train", "y_train")}
                arrays |= {name: whole[name][few] for name in ("x_test", "y_test")}
            np.savez(path.with_suffix(".part.npz"), **arrays)
            path.with_suffix(".part.npz").rename(path)
        return path

    def one(self, training: str, seed: int) -> int:
        """Trains a model and judges it, where that is not done; the exit code of what failed or was stopped, else 0."""
        run, epochs = self.run(training, seed), recipe_of(training, seed, self.epochs).epochs
        if not self.weights(training, seed):
            recipe, device = f"{TRAININGS[training]}seed = {seed}\nepochs = {epochs}\n", ("--device", self.device)
            if code := Training(BASE, recipe, self.training_data(), run, device).by(self.commands):
                return code
        where = ["-d", "cifar10", "--data", self.data, "--out", run / "ledger", "--device", self.device]
        under = ["--norm", JUDGE.norm, "--eps", JUDGE.radius, "--n", self.images]
        for attack, how in [(CLEAN, []), *((attack, under) for attack in ATTACKS)]:
            judge = ["evaluate", self.weights(training, seed), *where, "-a", attack, *how]
            if code := self.commands.robust_zoo(judge, run / "output.txt"):
                return code
        write(self.cells, self.found())
        return 0

    def found(self) -> list[Cell]:
        """A cell for each figure that there is."""
        cells: list[Cell] = []
        for seed, training in product(range(SEEDS), TRAININGS):
            recipe = recipe_of(training, seed, self.epochs)
            about = {"training": training, "seed": seed, "epochs": recipe.epochs}
            about["passes"] = recipe.epochs * recipe.passes
            for file in sorted((self.run(training, seed) / "ledger").glob("*/*.json")):
                entry = read_entry(file)
                if entry["n"] == self.images or entry["attack"] == CLEAN:
                    cells.append(about | {name: entry[name] for name in _KEPT})
        return cells


def write(file: Path, cells: Iterable[Cell]) -> None:
    """Replaces a file of cells, one a line."""
    replace_file(file, "".join(json.dumps(cell, sort_keys=True) + "\n" for cell in cells).encode(), GO_ON)


def read(file: Path = CELLS) -> list[Cell]:
    """The cells of a file that `write` wrote."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def percent(cells: Iterable[Cell], attack: str) -> list[float]:
    """Accuracies of one training, in percent.

    Args:
        cells: Of the training.
        attack: One of ATTACKS, or CLEAN.

    Returns:
        One for each seed that is done.
    """
    under = (None, None) if attack == CLEAN else (JUDGE.norm, JUDGE.eps)
    of = [c for c in cells if (c["attack"], c["norm"], c["eps"]) == (attack, *under)]
    return [100 * c["robust_correct"] / c["n"] for c in sorted(of, key=lambda c: c["seed"])]


def table(cells: Sequence[Cell]) -> str:
    """Writes the table of README.md.

    Args:
        cells: Of the study, of any number of seeds.

    Returns:
        Markdown: mean and standard error over seeds; by how many points PGD-20 flatters; figures with a failed check.
    """
    judge = threat_title(JUDGE.norm, JUDGE.eps)
    head = ["training", "passes", "seeds", "clean", f"AutoAttack, {judge}", "PGD-20 above it", "flagged"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for training in TRAININGS:
        mine = [c for c in cells if c["training"] == training]
        judged = percent(mine, "autoattack")
        if not judged:
            continue
        gap = [weak - strong for weak, strong in zip(percent(mine, "pgd-20"), judged, strict=False)]
        numbers = [_mean(values) for values in (percent(mine, CLEAN), judged, gap)]
        seeds, flagged = len({c["seed"] for c in mine}), sum(bool(c["flags"]) for c in mine)
        lines.append(f"| {' | '.join([training, str(mine[0]['passes']), str(seeds), *numbers, str(flagged)])} |")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{error}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("runs", type=Path, help="of the trainings, and what they are judged by")
    parser.add_argument("--epochs", type=int, default=6, help="of `adversarial` and `regional` (default 6)")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"that judge (default {IMAGES})")
    parser.add_argument("--seeds", type=int, default=SEEDS, choices=range(1, SEEDS + 1), help=f"default {SEEDS}")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time, a thread each (default 1)")
    parser.add_argument("--device", default="cpu", help="as robust-zoo train has it (default cpu)")
    parser.add_argument("--cells", type=Path, default=CELLS, help="the file of cells (default: beside this script)")
    a = parser.parse_args()
    study = Study(a.data, a.runs, a.epochs, a.images, a.cells, a.device)
    study.commands.stop_on_signals()
    study.training_data()
    work = [(training, seed) for seed in range(a.seeds) for training in TRAININGS]
    with ThreadPoolExecutor(a.jobs) as pool:
        codes = list(pool.map(lambda each: study.one(*each), work))
    for (training, seed), code in zip(work, codes, strict=True):
        if code and not study.commands.stopped:
            print(f"{study.run(training, seed)} ended with {code}: see output.txt in it", file=sys.stderr)
    cells = study.found()
    write(study.cells, cells)
    print(table(cells), end="")
    if study.commands.stopped:
        print("stopped; the same command goes on", file=sys.stderr)
    sys.exit(EXIT_STOPPED if study.commands.stopped else max(codes))


if __name__ == "__main__":
    main()
