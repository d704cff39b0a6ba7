"""The class-split study: does robustness at the source help when no image and no class of the target was seen?

    python studies/class_split/class_split.py cifar10.npz RUNS

Backbones are trained on five CIFAR-10 classes at five L2 radii, from three seeds each, then transferred to the other
five and to handwritten digits, by a linear probe and by fine-tuning, from few labels, drawn three times. What is done
is not done again, also after SIGTERM. Ends with all cells in cells.jsonl beside this file, the tables of README.md
there, and its figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.data.dataset import load_npz
from robust_zoo.training.figures.style import STEPS, Point, curve, legend, look, picture, radius, title
from robust_zoo.training.jobs.commands import Training, train_all
from robust_zoo.training.transfer import cells
from robust_zoo.training.transfer.crossed import Crossed
from robust_zoo.training.transfer.protocols.finetune import Finetune
from robust_zoo.training.transfer.protocols.linear import Linear
from robust_zoo.training.transfer.protocols.work import Workspace
from robust_zoo.training.transfer.sample_suite import digits
from robust_zoo.training.transfer.sweep import TransferPlan, transfer
from robust_zoo.training.transfer.task import Target
from robust_zoo.weights.exported import exported

HERE = Path(__file__).parent
BASE = "resnet18_x0_25_cifar10_l2_eps0_5"  # whose recipe is followed, but for radius and epochs
EPOCHS = 6
RADII = (0.0, 0.1, 0.25, 0.5, 1.0)
SOURCE = (0, 2, 4, 6, 8)  # airplane, bird, deer, frog, ship
TARGET = {1: "automobile", 3: "cat", 5: "dog", 7: "horse", 9: "truck"}
LABELS = {"cifar10-other-half": (20, 100, 500), "digits": (20, 80)}  # per class; digits have 89 at most
BACKBONES = range(3)  # seeds of trainings
DRAWS = range(3)  # seeds of labels, and of what a transfer draws
_EXPORTED = "resnet*.safetensors"  # in a run's directory, beside its checkpoints
TITLES = {
    "cifar10-other-half": "The other five classes",
    "digits": "Handwritten digits",
    "finetune": "fine-tuned",
    "linear": "linear probe",
}


def source_classes(data: Path, out: Path) -> Path:
    """Writes the images of the source's classes, under the labels they have.

    Args:
        data: An .npz with CIFAR-10.
        out: The .npz to write.

    Returns:
        `out`.
    """
    with np.load(data, allow_pickle=False) as whole:
        parts: dict[str, Any] = {}
        for split in ("train", "test"):
            kept = np.isin(whole[f"y_{split}"], SOURCE)
            parts |= {f"x_{split}": whole[f"x_{split}"][kept], f"y_{split}": whole[f"y_{split}"][kept]}
    half = out.with_name(f"half-{out.name}")  # of whoever is killed while it is written
    np.savez(half, **parts)
    return half.replace(out)


def other_half(data: Path) -> Target:
    """The five classes that the backbones never saw.

    Args:
        data: An .npz with CIFAR-10.

    Returns:
        The target, its labels counted from 0.
    """
    splits = {}
    for split in ("train", "test"):
        images = load_npz(data, split)
        kept = images.subset((images.labels % 2 == 1).nonzero().flatten())
        splits[split] = type(kept)(kept.images, kept.labels // 2)
    return Target("cifar10-other-half", tuple(TARGET.values()), splits["train"], None, splits["test"])


def backbones(data: Path, runs: Path, jobs: int) -> list[Checkpoint]:
    """The backbones, trained by `robust-zoo train` where they are not there yet.

    Args:
        data: An .npz with CIFAR-10.
        runs: The folder of run directories.
        jobs: Trainings at a time.

    Returns:
        Checkpoints, seed by seed and there radius by radius.
    """
    source = runs / "source.npz"
    if not source.exists():
        runs.mkdir(parents=True, exist_ok=True)
        source_classes(data, source)
    trainings = [
        Training(
            BASE,
            f'threat = {{norm = "l2", eps = {eps}}}\nepochs = {EPOCHS}\nseed = {seed}\n',
            source,
            runs / f"seed{seed}" / ThreatModel("l2", eps).tag,
        )
        for seed in BACKBONES
        for eps in RADII
    ]
    for training, code in train_all(trainings, jobs):
        print(f"{training.out}: {'trained' if code == 0 else f'exit {code}, see output.txt'}", flush=True)
        if code:
            sys.exit(code)
    return [exported(next(training.out.glob(_EXPORTED))) for training in trainings]


def plans(dataset: str) -> list[TransferPlan]:
    """A linear probe and a fine-tuning for each number of labels of a target of LABELS."""
    found = []
    for labels in LABELS[dataset]:
        tuned = Finetune(lrs=(0.005, 0.02), weight_decays=(5e-4,), epochs=20, batch_size=32, train_size=labels)
        found += [
            TransferPlan("linear", Linear(train_size=labels), seeds=DRAWS),
            TransferPlan("finetune", tuned, seeds=DRAWS),
        ]
    return found


Line = tuple[str, str, int]  # dataset, protocol, labels per class


def by_radius(entries: Iterable[dict[str, Any]]) -> dict[Line, dict[float, Crossed]]:
    """Sorts accuracies.

    Args:
        entries: Of cells.

    Returns:
        By line, then by the backbone's radius.
    """
    found: dict[Line, dict[float, dict[str, dict[int, float]]]] = {}
    for e in entries:
        key = (e["dataset"], e["protocol"], e["settings"]["train_size"])
        backbones = found.setdefault(key, {}).setdefault(e["checkpoint"]["eps"], {})
        backbones.setdefault(e["weights_sha256"], {})[e["seed"]] = e["accuracy"]
    return {
        key: {
            eps: Crossed(np.array([[draws[seed] for seed in sorted(draws)] for draws in backbones.values()]))
            for eps, backbones in sorted(found[key].items())
        }
        for key in sorted(found)
    }


def table(entries: Sequence[dict[str, Any]]) -> str:
    """Writes the first table of README.md.

    Args:
        entries: Of cells.

    Returns:
        Markdown: mean and standard error over backbones and draws, the best radius of a line in bold.
    """
    home: dict[float, dict[str, float]] = {}
    for e in entries:
        home.setdefault(e["checkpoint"]["eps"], {})[e["weights_sha256"]] = e["checkpoint"]["clean_accuracy"]
    own = [np.array([*home[eps].values()]) for eps in sorted(home)]
    told = [f"*{of.mean():.1f}{f' ± {of.std(ddof=1) / len(of) ** 0.5:.1f}' if len(of) > 1 else ''}*" for of in own]
    lines = [*_head(sorted(home)), f"| *the source's own five classes* | | 5,000 | {' | '.join(told)} |"]
    for line, found in by_radius(entries).items():
        best = max(found.values(), key=lambda crossed: crossed.mean)
        lines.append(_row(line, [f"**{a}**" if a is best else str(a) for a in found.values()]))
    return "\n".join(lines) + "\n"


def differences(entries: Sequence[dict[str, Any]]) -> str:
    """Writes the second table of README.md.

    Args:
        entries: Of cells.

    Returns:
        Markdown: what a radius gains over the standard backbones, in points; two standard errors apart in bold.
    """
    found = by_radius(entries)
    lines = _head([eps for eps in RADII if eps])
    for line, radii in found.items():
        gains = [radii[eps] - radii[0.0] for eps in RADII if eps]
        texts = [f"{gain.mean:+.1f} ± {gain.error:.1f}" for gain in gains]
        pairs = zip(gains, texts, strict=True)
        lines.append(_row(line, [f"**{text}**" if abs(gain.mean) > 2 * gain.error else text for gain, text in pairs]))
    return "\n".join(lines) + "\n"


def _head(radii: Sequence[float]) -> list[str]:
    columns = " | ".join(f"eps {eps:g}" for eps in radii)
    return [f"| target | protocol | labels a class | {columns} |", "|---|---|---|" + "---|" * len(radii)]


def _row(line: Line, texts: Sequence[str]) -> str:
    return f"| {' | '.join(map(str, line))} | {' | '.join(texts)} |"


def draw(entries: Sequence[dict[str, Any]], out: Path) -> None:
    """Draws accuracy against the radius: a panel for each target and protocol, a line for each number of labels.

    Args:
        entries: Of cells.
        out: The picture's file.
    """
    found = by_radius(entries)
    panels = sorted({(dataset, protocol) for dataset, protocol, _ in found})
    labels = {count: look(i) for i, count in enumerate(sorted({count for *_, count in found}))}
    radii = sorted({eps for values in found.values() for eps in values})
    with picture(out, 5.4 * min(2, len(panels)), 0.8 + 3.2 * -(-len(panels) // 2)) as canvas:
        grid = canvas.subplots(-(-len(panels) // 2), min(2, len(panels)), squeeze=False)
        for axes, (dataset, protocol) in zip(grid.flat, panels, strict=True):
            for count, how in labels.items():
                points = [
                    Point(radii.index(eps), of.mean, of.mean - of.error, of.mean + of.error)
                    for eps, of in found.get((dataset, protocol, count), {}).items()
                ]
                if points:
                    curve(axes, points, f"{count} a class", how)
            axes.set_xticks(range(len(radii)), [f"{eps:g}" for eps in radii])
            axes.set(title=f"{TITLES[dataset]}, {TITLES[protocol]}", ylabel="accuracy, %")
            axes.set_xlabel(radius("l2", "the source was trained for"))
            axes.locator_params(axis="y", steps=STEPS)
        more = (
            "Bars: standard error over three backbones and three draws of labels. Radii evenly spaced; scales differ."
        )
        title(canvas, "Transfer from five classes of CIFAR-10, by the source's radius", more)
        legend(canvas, {f"{count} labels a class": how for count, how in labels.items()})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("runs", type=Path, help="of the backbones, their cells, and the cache of features")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the trainings, then the transfers")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.runs / "cells", arguments.runs / "features", jobs=arguments.jobs)
    checkpoints = backbones(arguments.data, arguments.runs, arguments.jobs)
    for dataset, opener in (("cifar10-other-half", partial(other_half, arguments.data)), ("digits", digits)):
        for plan in plans(dataset):
            transfer(checkpoints, (opener,), plan, workspace)
    entries = cells.read_cells(workspace.out)
    cells.write_lines(HERE / "cells.jsonl", entries)
    draw(entries, HERE / "class_split.png")
    print(table(entries), differences(entries), sep="\n", end="")


if __name__ == "__main__":
    main()
