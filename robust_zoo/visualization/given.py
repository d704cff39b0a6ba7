"""What a visualization is asked for: checked before any work, and the images that it is of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.class_names import class_names
from robust_zoo.training.data.dataset import evenly
from robust_zoo.training.data.fit import check_classifies
from robust_zoo.training.data.unlabelled import open_unlabelled
from robust_zoo.visualization.kinds import KINDS, kind


def check(rows: Sequence[Checkpoint], kinds: Sequence[str], picture: Path | None) -> None:
    """Makes sure that models can stand side by side, and that there are such kinds.

    Args:
        rows: The models.
        kinds: Names of KINDS.
        picture: The file of one picture; None where a directory takes them, or nothing.

    Raises:
        UsageError: An unknown kind, models of other images or classes, an encoder, or several kinds in one picture.
    """
    for name in kinds:
        kind(name)
    for row in rows:
        check_classifies(row)
        if (row.dataset, row.preprocessing.input_size) != (rows[0].dataset, rows[0].preprocessing.input_size):
            one, other = (f"{r.dataset} at {r.preprocessing.input_size[1]} pixels" for r in (rows[0], row))
            raise UsageError(
                f"{rows[0].name} and {row.name} cannot stand side by side",
                model=row.name,
                expected=f"models of {one}",
                actual=other,
                next=f"robust-zoo visualize {row.name}",
            )
    if picture and len(kinds) > 1:
        raise UsageError(
            f"{picture.name} is one picture",
            source=str(picture),
            expected="one --what for it, or a directory",
            actual=f"{len(kinds)} kinds: {', '.join(kinds)}",
            next=f"--what {kinds[0]}, or -o {picture.with_suffix('')}",
        )


def images_for(
    first: Checkpoint, kinds: Sequence[str], images: Sequence[Path | str], n: int
) -> tuple[Tensor, tuple[str, ...], Tensor | None]:
    """The images that kinds of picture are of.

    Args:
        first: Whose preprocessing they get.
        kinds: Names of KINDS.
        images: Files, or one folder; none for the bundled sample, where the model is of CIFAR-10.
        n: How many of them, evenly spread.

    Returns:
        (N, 3, S, S) in [0, 1], N = 0 where no kind is of images; what each is called; labels, where they are known.

    Raises:
        UsageError: None are given where some are needed, one where two are, or they cannot be read.
    """
    size = first.preprocessing.input_size
    needing = [name for name in kinds if KINDS[name].of_images]
    if not needing:
        return torch.zeros(0, *size), (), None
    if images:
        opened = open_unlabelled(images, first.preprocessing)
        if opened.folder and opened.folder.note:
            tqdm.write(opened.folder.note, file=sys.stderr)
        chosen = evenly(len(opened), n)
        pixels, labels = opened.batch(chosen), None
        captions = tuple(opened.names[index].name for index in chosen)
    elif first.dataset == "cifar10" and size == (3, 32, 32):
        sample = cifar10_sample()
        of = torch.tensor(evenly(len(sample), n))
        pixels, labels = sample.images[of].float() / 255, sample.labels[of]
        captions = tuple(class_names(first.collection.dataset)[label] for label in labels.tolist())
    else:
        raise UsageError(
            f"{needing[0]} is of images, and none were given",
            model=first.name,
            expected="--images FOLDER, or --images FILE for each",
            actual="no images",
            next=f"robust-zoo visualize {first.name} --what synthesis   needs none",
        )
    if "interpolation" in kinds and len(pixels) < 2:
        raise UsageError(
            "between two images there is a way, of one there is none",
            expected="two images or more",
            actual=f"{len(pixels)}",
            next="--images FOLDER, or --images FILE twice; or --what inversion",
        )
    return pixels, captions, labels
