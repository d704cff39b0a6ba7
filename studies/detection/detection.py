"""The detection study: does a robust backbone make a better detector, on objects that no model has seen?

    python -m studies.detection.detection cifar10.npz FOLDER --jobs 2

Faster R-CNN on three bundled models, the network frozen and fine-tuned, three seeds each, by the protocol `detection`.
Scenes are pasted: stamps of Tux Paint (Debian's tuxpaint-stamps-default, GPL, fetched by apt-get download) on blurred
CIFAR-10 photographs; test scenes are of other stamps and other photographs. What is done is not done again. Ends with
all cells in cells.jsonl beside this file and the tables of README.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from robust_zoo.registry.lookup import get
from robust_zoo.registry.reported import threat_title
from robust_zoo.training.detection.folders import open_scenes
from robust_zoo.training.jobs.workers import Tell, Workers
from robust_zoo.training.transfer import cells, report
from robust_zoo.training.transfer.crossed import Crossed
from robust_zoo.training.transfer.protocols.detection import Detection
from robust_zoo.training.transfer.protocols.work import Workspace
from robust_zoo.training.transfer.sweep import TransferPlan, transfer
from studies.debian import STAMPS, bring
from studies.detection.scenes import cut_outs, halves, write

HERE = Path(__file__).parent
PACKAGE = "tuxpaint-stamps-default"
MODELS = tuple(f"resnet18_x0_25_cifar10_l2_eps{eps}" for eps in ("0", "0_25", "1"))
PARTS = ("head", "all")
SEEDS = range(3)
SCENES = {"train": 600, "val": 250}
GROUNDS = 2_000  # photographs behind scenes, of each split
SETTINGS = {"optimizer": "sgd", "lr": 0.02, "epochs": 6, "batch_size": 4, "side": 96, "longest": 96, "maps": 3,
            "width": 64, "samples": 128}  # fmt: skip


def pasted(data: Path, folder: Path) -> Path:
    """The scenes, made where they are not there; a folder in COCO's layout."""
    place = folder / "pasted-scenes"
    if not (place / "annotations" / "instances_val.json").exists():  # what is written last
        bring((PACKAGE,), (STAMPS,), folder / "stamps")
        train, test = halves(cut_outs(folder / "stamps" / STAMPS))
        with np.load(data, allow_pickle=False) as images:
            for split, of, name in (("train", train, "x_train"), ("val", test, "x_test")):
                write(place, split, of, images[name][:GROUNDS].transpose(0, 3, 1, 2), SCENES[split], 0)
    return place


def plans() -> list[TransferPlan]:
    """A detector whose network is fixed, and one that is trained whole."""
    return [TransferPlan("detection", Detection(part=part, **SETTINGS), seeds=SEEDS) for part in PARTS]  # type: ignore[arg-type]


def table(entries: Sequence[dict[str, Any]]) -> str:
    """Writes the table of README.md.

    Args:
        entries: Of cells.

    Returns:
        Markdown: AP and AP50 in percent, mean ± standard error over seeds; what the radius adds over eps 0, by seed.
    """
    lines = ["| network | radius | AP | AP50 | AP over the standard model's, points |", "|---|---|---:|---:|---:|"]
    for part in PARTS:
        standard = ap(entries, MODELS[0], part)
        for name in MODELS:
            row, mine = get(name), ap(entries, name, part)
            gain = mine - standard
            words = ["frozen" if part == "head" else "fine-tuned", threat_title(row.norm, row.eps)]
            words += [str(mine), str(ap(entries, name, part, "ap50"))]
            lines.append(f"| {' | '.join(words)} | {f'{gain.mean:+.1f} ± {gain.error:.1f}' if row.eps else '-'} |")
    return "\n".join(lines) + "\n"


def ap(entries: Sequence[dict[str, Any]], model: str, part: str, figure: str = "ap") -> Crossed:
    """A figure of boxes, in percent, [1, seeds]: of one network."""
    of = [e for e in entries if e["model"] == model and e["settings"]["part"] == part]
    values = [100 * e["details"]["ap"]["boxes"][figure] for e in sorted(of, key=lambda e: e["seed"])]
    return Crossed(np.array([values]))


def _one(workspace: Workspace, scenes: str, work: tuple[str, TransferPlan], tell: Tell | None = None) -> None:
    """A backbone's cells, in one process of several."""
    name, plan = work
    transfer([name], (partial(open_scenes, scenes),), plan, replace(workspace, progress=False))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with CIFAR-10")
    parser.add_argument("folder", type=Path, help="of the stamps, the scenes and the cells")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the transfers")
    parser.add_argument("--device", default="cpu", help="cuda for a GPU")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.folder / "cells", arguments.folder / "features", device=arguments.device)
    one = partial(_one, workspace, str(pasted(arguments.data, arguments.folder)))
    work = list(product(MODELS, plans()))
    with Workers(arguments.jobs) as workers:
        for _ in tqdm(workers.run(one, work, len(work)), total=len(work), unit="backbone"):
            pass
    entries = cells.read_cells(workspace.out)
    cells.write_lines(HERE / "cells.jsonl", entries)
    print(table(entries))
    print(report.markdown(entries), end="")


if __name__ == "__main__":
    main()
