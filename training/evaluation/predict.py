"""`robust-zoo predict`: which class images are of, as many as there are, in memory for one batch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from robust_zoo.errors import missing_file
from robust_zoo.factory import create_model
from robust_zoo.pixels import pixel_model
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.class_names import class_names
from robust_zoo.training.data.encoded import not_a_dataset
from robust_zoo.training.data.fit import check_classifies
from robust_zoo.training.data.left_out import LeftOut
from robust_zoo.training.data.tree import images_below
from robust_zoo.training.data.unlabelled import load
from robust_zoo.training.distributed import device_of
from robust_zoo.weights.exported import checkpoint_of

_BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a model says of an image.

    Attributes:
        file: The image.
        classes: The likeliest classes, the likeliest first.
        percent: Their probabilities.
    """

    file: Path
    classes: tuple[str, ...]
    percent: tuple[float, ...]


def find_images(paths: Sequence[Path], left_out: LeftOut) -> list[Path]:
    """Images by their files and folders.

    Args:
        paths: Files, which are taken as they are; folders, of which all images at any depth are.
        left_out: Is told what is not taken of the folders.

    Returns:
        The files, those of a folder sorted.

    Raises:
        UsageError: A path is not there, or a folder without an image.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.is_file():
                raise missing_file(path, "an image, or a folder of images", "give one that is there")
            found.append(path)
            continue
        below = [path / name for name, _ in images_below(path, left_out)]
        if not below:
            there = f"none; left out: {left_out}" if str(left_out) else "none"
            raise not_a_dataset(path, "images in the folder, or in folders below it", there, next="give another folder")
        found += below
    return found


def predict(
    model: str | Path | Checkpoint, paths: Sequence[Path], *, top: int = 1, device: str = "auto", progress: bool = False
) -> Iterator[Prediction]:
    """Classifies images; the next batch is read when it is asked for.

    Args:
        model: A checkpoint's name, a file that robust-zoo wrote, or a checkpoint.
        paths: Images, and folders of them at any depth.
        top: How many classes, all where there are fewer.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: Whether to show a progress bar on stderr.

    Yields:
        A prediction for each image, in the order of `find_images`.

    Raises:
        UnknownCheckpoint: No checkpoint has that name.
        UsageError: A path is no image and no folder of images, or the model gives no classes.

    Example:
        >>> for one in predict("mine/model.safetensors", [Path("photos")]):
        ...     print(one.file, one.classes[0], one.percent[0])
    """
    checkpoint = checkpoint_of(model)
    check_classifies(checkpoint)
    left_out = LeftOut()
    files, where, names = find_images(paths, left_out), device_of(device), class_names(checkpoint.collection.dataset)
    if progress and str(left_out):
        tqdm.write(f"left out: {left_out}", file=sys.stderr)
    network = pixel_model(create_model(checkpoint, device=where)).eval()
    with tqdm(total=len(files), unit="img", desc="predict", leave=False, disable=not progress) as bar:
        for first in range(0, len(files), _BATCH):
            some = files[first : first + _BATCH]
            images = torch.stack([load(file, checkpoint.preprocessing) for file in some]).to(where)
            with torch.no_grad():
                chances, labels = network(images).softmax(1).topk(min(top, len(names)))
            for file, values, found in zip(some, chances.tolist(), labels.tolist(), strict=True):
                yield Prediction(file, tuple(names[i] for i in found), tuple(100 * value for value in values))
            bar.update(len(some))
