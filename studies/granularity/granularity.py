"""The granularity study: does the best radius change with the grain of the target (Salman et al. 2020, section 4.3)?

    python studies/granularity/granularity.py FOLDER

Linear probes on the bundled models' features of two targets: emoji in the nine groups of the CLDR (Google's Noto, by
`npm pack`, 74 MB), which no model has seen, and the bundled CIFAR-10 images, which are of the classes that all were
trained on. Images are shrunk to a shorter side first, then brought to the network's 32 pixels. What is done is not done
again. Ends with all cells in cells.jsonl beside this file, the tables of README.md there, and its figure.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from robust_zoo import list_models
from robust_zoo.training.data.dataset import Dataset, Images
from robust_zoo.training.transfer import cells, granularity
from robust_zoo.training.transfer.crossed import Crossed
from robust_zoo.training.transfer.protocols.linear import Linear, chosen_head
from robust_zoo.training.transfer.protocols.work import Workspace
from robust_zoo.training.transfer.sample_suite import cifar10_half
from robust_zoo.training.transfer.splits import hold_out, stratified_split
from robust_zoo.training.transfer.sweep import TransferPlan, transfer
from robust_zoo.training.transfer.task import Target, score

HERE = Path(__file__).parent
PACKAGE = "emoji-datasource-google@16.0.0"
PIXELS = "package/img/google/64/"
WITHOUT = "Component"  # skin tones and hair: five pictures
SIZES = (0, 16, 8, 4)  # 0: as they are, emoji of 64 pixels and CIFAR-10 of 32
LABELS = {"emoji": 40, "cifar10-sample": 20}  # per class
DRAWS = range(4)
_COLOURS = 6  # mean colours a side, of the control


def emoji(folder: Path) -> Target:
    """Emoji by their group, half of them to train on.

    Args:
        folder: Where the package is, or is brought to.

    Returns:
        Images (N, 3, 64, 64) on white; accuracy is averaged over classes, which differ in size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("emoji-*.tgz")):
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return read(next(folder.glob("emoji-*.tgz")))


def read(package: Path) -> Target:
    """The target of a package's file, as `emoji` brings it."""
    with tarfile.open(package) as tar:
        content = {member.name: tar.extractfile(member) for member in tar if member.isfile()}  # read while it is open
        listed = json.load(_opened(content["package/emoji.json"]))
        known = [one for one in listed if one["has_img_google"] and one["category"] != WITHOUT]
        known.sort(key=lambda one: one["unified"])
        wanted = {PIXELS + one["image"] for one in known}
        pixels = {name: _on_white(_opened(content[name])) for name in wanted}
    classes = tuple(sorted({one["category"] for one in known}))
    images = torch.from_numpy(np.stack([pixels[PIXELS + one["image"]] for one in known]))
    labels = torch.tensor([classes.index(one["category"]) for one in known])
    data = Images(images.permute(0, 3, 1, 2).contiguous(), labels)
    train, test = stratified_split(labels, 0.5, 0)
    return Target("emoji", classes, data.subset(train), None, data.subset(test), metric="mean per-class")


def _opened(file: Any) -> io.BytesIO:
    return io.BytesIO(file.read())


def _on_white(file: io.BytesIO) -> np.ndarray:
    with Image.open(file) as image:
        drawn = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB"))


def colours(target: Target, labels: int) -> Crossed:
    """The control: a linear probe on 36 mean colours of each image, by the same search for a penalty.

    Args:
        target: Images and labels.
        labels: Per class.

    Returns:
        Accuracies, averaged over classes, of one backbone that is none.
    """
    values = []
    for draw in DRAWS:
        kept, _ = stratified_split(target.train.labels, labels, draw)
        train = target.train.subset(kept)
        x, y = _means(train), train.labels
        check, fit = hold_out(y, Linear().holdout, draw)
        parts = (x[None, fit], y[fit]), (x[check], y[check]), (x[None], y)
        head, *_ = chosen_head(*parts, len(target.classes), "lbfgs", draw)
        values.append(score(head(_means(target.test)).argmax(1), target.test.labels)[2])
    return Crossed(np.array([values]))


def _means(data: Dataset) -> Tensor:
    """(N, 108) float32."""
    return torch.cat([F.adaptive_avg_pool2d(images, _COLOURS).flatten(1) for images, _ in data.batches(250)])


def plans(name: str) -> list[TransferPlan]:
    """A linear probe for each size of a target."""
    return [TransferPlan("linear", Linear(train_size=LABELS[name], shrink=size), seeds=DRAWS) for size in SIZES]


def tables(entries: Sequence[dict[str, Any]]) -> str:
    """Writes the tables of README.md.

    Args:
        entries: Of cells.

    Returns:
        Markdown.
    """
    return granularity.markdown(granularity.grains(entries))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the emoji, the cells, and the cache of features")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the transfers")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.folder / "cells", arguments.folder / "features", jobs=arguments.jobs)
    openers: dict[str, Callable[[], Target]] = {
        "emoji": partial(emoji, arguments.folder),
        "cifar10-sample": cifar10_half,
    }
    for name, opener in openers.items():
        target = opener()
        for plan in plans(name):
            transfer(list_models(bundled=True), (opener,), plan, workspace)
        print(f"{name}, 36 mean colours: {colours(target, LABELS[name])}")
    entries = cells.read_cells(workspace.out)
    cells.write_lines(HERE / "cells.jsonl", entries)
    granularity.draw(granularity.grains(entries), HERE / "granularity.png")
    print(tables(entries), end="")


if __name__ == "__main__":
    main()
