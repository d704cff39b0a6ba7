"""The fine-tuning study: which mode of `robust-zoo finetune` keeps how much of a robust checkpoint's robustness?

    python -m studies.finetune.finetune cifar10.npz RUNS

A backbone of the class-split study, trained on five CIFAR-10 classes at L2 0.5, is fine-tuned on the other five in
every mode, from few labels, over three draws of them; learning rates are chosen on validation images, as anyone's are.
What is done is not done again. Ends with the results in cells.jsonl beside this file, and the table of
README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import robust_zoo
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.data.dataset import spread
from robust_zoo.training.machine import Machine
from robust_zoo.training.transfer.splits import stratified_split
from robust_zoo.training.transfer.task import Target
from robust_zoo.training.transfer.tuning.modes import MODES
from studies.class_split import class_split

HERE = Path(__file__).parent
THREAT = ThreatModel("l2", 0.5)
LABELS, VALIDATION, TEST = 100, 20, 300  # images: to train on and to choose by, per class; to test on, in all
EPOCHS, BATCH = 50, 32
SEEDS = range(3)
HOME = "before"  # the column of the source with a linear head


def draw(target: Target, seed: int) -> Target:
    """Few labels of the target.

    Args:
        target: The five classes that the backbone never saw.
        seed: Decides which images.

    Returns:
        The images to train on, to choose by and to test on.
    """
    chosen, _ = stratified_split(target.train.labels, LABELS + VALIDATION, seed)
    some = target.train.subset(chosen)
    val, train = stratified_split(some.labels, VALIDATION, seed)
    return replace(target, train=some.subset(train), val=some.subset(val), test=spread(target.test, TEST))


def tuned(source: Checkpoint, target: Target, mode: str, seed: int, runs: Path) -> dict[str, Any]:
    """One fine-tuning's result.

    Args:
        source: The backbone.
        target: As `class_split.other_half` gives it.
        mode: A name of MODES.
        seed: Of the labels and of the training.
        runs: The folder of results.

    Returns:
        What finetune.json says, with the seed.
    """
    out = runs / f"{mode}_seed{seed}"
    robust_zoo.finetune(
        source, draw(target, seed), mode=mode, threat=THREAT, epochs=EPOCHS, batch_size=BATCH, seed=seed,
        autoattack=0, out=out, device="cpu", machine=Machine(progress=False),
    )  # fmt: skip
    return json.loads((out / "finetune.json").read_text("utf-8")) | {"seed": seed}


def rows(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Accuracies in percent, over seeds: by mode (and HOME), then by attack."""
    found: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for name, when in ((HOME, "before"), (result["recipe"]["mode"], "after")):
            if name == HOME and result["recipe"]["mode"] != "all":
                continue  # the same for every mode
            for m in result[when]:
                found.setdefault(name, {}).setdefault(m["attack"], []).append(100 * m["correct"] / m["n"])
    return found


def table(results: Sequence[dict[str, Any]]) -> str:
    """Writes the table of README.md.

    Args:
        results: Of `tuned`.

    Returns:
        Markdown: mean and standard error over seeds, the best of a column in bold.
    """
    found: dict[str, Any] = rows(results)
    lrs = {name: sorted({r["recipe"]["lr"] for r in results if r["recipe"]["mode"] == name}) for name in MODES}
    lines = ["| mode | learning rate | clean | PGD-20, L2 0.5 |", "|---|---:|---:|---:|"]
    best = {attack: max(statistics.fmean(v[attack]) for v in found.values()) for attack in ("none", "pgd-20")}
    for name, accuracies in found.items():
        cells = []
        for attack in ("none", "pgd-20"):
            values = accuracies[attack]
            text = f"{statistics.fmean(values):.1f} ± {statistics.stdev(values) / len(values) ** 0.5:.1f}"
            cells.append(f"**{text}**" if statistics.fmean(values) == best[attack] else text)
        title = "*a linear head on the source's features*" if name == HOME else f"`{name}`"
        lines.append(f"| {title} | {', '.join(f'{lr:g}' for lr in lrs.get(name, []))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("runs", type=Path, help="of the backbones and the fine-tunings")
    arguments = parser.parse_args()
    (source,) = class_split.backbones(arguments.data, arguments.runs, [THREAT.eps])
    target = class_split.other_half(arguments.data)
    results = [tuned(source, target, mode, seed, arguments.runs / "finetuned") for mode in MODES for seed in SEEDS]
    lines = [json.dumps(result, sort_keys=True) for result in results]
    (HERE / "cells.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(table(results), end="")


if __name__ == "__main__":
    main()
