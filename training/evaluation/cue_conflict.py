"""Shape or texture? Images whose two cues are of different classes, of 16 in all (Geirhos et al. 2019)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.choices import CUES
from robust_zoo.training.data.encoded import EncodedImages, not_a_dataset
from robust_zoo.training.data.folders import from_folder
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.data.labelled import prepared
from robust_zoo.training.data.left_out import LeftOut
from robust_zoo.training.data.tree import images_below
from robust_zoo.training.evaluation.series import Series
from robust_zoo.training.evaluation.tables import SHAPE, TEXTURE

_TIED = 1e-5  # of the larger mean: two that are so near are equal but for rounding


def _up_to(*spans: tuple[int, int]) -> tuple[int, ...]:
    return tuple(label for first, last in spans for label in range(first, last + 1))


# The labels of ImageNet that each class has: facts of rgeirhos/texture-vs-shape@6468a0e, helper/human_categories.py.
CATEGORIES: Mapping[str, tuple[int, ...]] = {
    "airplane": (404,),
    "bear": (294, 295, 296, 297),
    "bicycle": (444, 671),
    "bird": _up_to(
        (8, 8), (10, 16), (18, 20), (22, 24), (80, 83), (87, 96), (98, 100), (127, 133), (135, 145)
    ),
    "boat": (472, 554, 625, 814, 914),
    "bottle": (440, 720, 737, 898, 899, 901, 907),
    "car": (436, 511, 817),
    "cat": (281, 282, 283, 284, 285, 286),
    "chair": (423, 559, 765, 857),
    "clock": (409, 530, 892),
    "dog": _up_to(
        (152, 191), (193, 203), (205, 226), (228, 241), (243, 250), (252, 257), (259, 259), (261, 263), (265, 268)
    ),
    "elephant": (385, 386),
    "keyboard": (508, 878),
    "knife": (499,),
    "oven": (766,),
    "truck": (555, 569, 656, 675, 717, 734, 864, 867),
}  # fmt: skip
_NAME = re.compile(rf"({'|'.join(CATEGORIES)})\d+-({'|'.join(CATEGORIES)})\d+\.png")


class Categories(nn.Module):
    """A classifier's decision among a few categories, by the mean probability of each one's classes."""

    def __init__(self, model: nn.Module, categories: Mapping[str, tuple[int, ...]] = CATEGORIES) -> None:
        """Args:
        model: Of images; gives logits.
        categories: Labels of each.
        """
        super().__init__()
        self.model, self.labels = model, [*categories.values()]

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, categories + 1); the last is the greatest where two categories tie for the most."""
        chances = self.model(images).softmax(1)
        means = torch.stack([chances[:, list(labels)].mean(1) for labels in self.labels], 1)
        best, second = means.topk(2).values.T
        return torch.cat([means, torch.where(best - second <= _TIED * best, 2.0, -1.0)[:, None].to(means)], 1)


def cue_conflict(data: str, checkpoint: Checkpoint, count: int = 1_200) -> Series:
    """The images of rgeirhos/texture-vs-shape, stimuli/style-transfer-preprocessed-512.

    Args:
        data: A folder with `airplane1-bicycle2.png` (the shape, then the texture) and so on, at any depth.
        checkpoint: Whose preprocessing the images get.
        count: How many there must be whose cues differ; the others are left out.

    Returns:
        Conditions "shape" and "texture": the same images, labelled by the one and by the other.

    Raises:
        UsageError: A file is called otherwise, or there are not so many.
    """
    root, left_out, files = Path(data), LeftOut(), []
    for name, size in images_below(root, left_out):
        if not (said := _NAME.fullmatch(Path(name).name)):
            expected = "files called as airplane1-bicycle2.png: the shape, then the texture"
            raise not_a_dataset(root, expected, name, next="give the folder of the cue-conflict images alone")
        if said[1] != said[2]:
            files.append((name, size, said[1], said[2]))
    if len(files) != count:
        raise UsageError(
            f"{len(files):,} images are not the cue conflicts",
            source=data,
            expected=f"{count:,} images whose shape and texture differ",
            actual=f"{len(files):,}",
            next="git clone https://github.com/rgeirhos/texture-vs-shape   has them under stimuli/",
        )
    names, sizes, shapes, textures = zip(*files, strict=True)
    source = EncodedImages(names, sizes, _labels(shapes), (), partial(from_folder, root, names))
    parts = {
        condition: partial(_opened, prepared(replace(source, labels=_labels(cues)), checkpoint, data))
        for condition, cues in ((SHAPE, shapes), (TEXTURE, textures))
    }
    return Series(CUES, parts, count)


def _labels(names: tuple[str, ...]) -> Tensor:
    order = [*CATEGORIES]
    return torch.tensor([order.index(name) for name in names])


def _opened(images: ImageFiles) -> ImageFiles:
    return images
