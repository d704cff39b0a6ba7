"""Pasted scenes: cut-outs of Tux Paint's stamps on blurred photographs, as a folder in COCO's layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from robust_zoo.training.detection.objects import boxes_of

SIDE = 96  # pixels of a scene
OBJECTS = (1, 4)  # in a scene, both included
SIZES = (28, 64)  # pixels of an object's longer side, both included
HIDDEN = 0.5  # of an object, at most, by those that lie on it
_TRIES = 20  # for a place
_SOLID = 128  # of 255: where a cut-out counts as there
# Names of classes, and the stamps' folders that hold them.
CLASSES = {
    "bird": "animals/birds",
    "flower": "plants/flowers",
    "fruit": "food/fruit",
    "insect": "animals/insects",
    "mammal": "animals/mammals",
    "vehicle": "vehicles",
}
_LEAST = 40  # pixels of a stamp's longer side


@dataclass(frozen=True, eq=False)
class CutOut:
    """One stamp.

    Attributes:
        label: A name of CLASSES.
        image: Cropped to what is solid, with alpha.
    """

    label: str
    image: Image.Image


def cut_outs(stamps: Path) -> list[CutOut]:
    """All stamps of CLASSES that have a transparent ground.

    Args:
        stamps: The package's folder of stamps.

    Returns:
        In the order of their files' names.
    """
    found = []
    for label, folder in CLASSES.items():
        for file in sorted((stamps / folder).rglob("*.png")):
            with Image.open(file) as opened:
                image = opened.convert("RGBA")
            solid = image.getchannel("A").point(lambda alpha: 255 * (alpha >= _SOLID))
            box = solid.getbbox()
            if box and solid.getextrema()[0] == 0 and max(box[2] - box[0], box[3] - box[1]) >= _LEAST:
                found.append(CutOut(label, image.crop(box)))
    return found


def halves(found: Sequence[CutOut]) -> tuple[list[CutOut], list[CutOut]]:
    """Two thirds of each class's cut-outs to make scenes to train on of, and the rest for scenes to test on."""
    train, test = [], []
    for label in CLASSES:
        of = [one for one in found if one.label == label]
        train += [one for i, one in enumerate(of) if i % 3]
        test += [one for i, one in enumerate(of) if i % 3 == 0]
    return train, test


def scene(found: Sequence[CutOut], ground: np.ndarray, rng: np.random.Generator) -> tuple[Image.Image, list[Any]]:
    """Makes a scene.

    Args:
        found: Cut-outs; a class is drawn first, then one of its.
        ground: (3, 32, 32) uint8, what is blurred behind them.
        rng: Draws everything.

    Returns:
        The picture, and (label, (SIDE, SIDE) of bool: what is seen of it) of each object.
    """
    by_class = [[one for one in found if one.label == label] for label in CLASSES]
    picture = Image.fromarray(ground.transpose(1, 2, 0)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    picture = picture.filter(ImageFilter.GaussianBlur(4)).convert("RGBA")
    placed: list[tuple[str, np.ndarray, int]] = []
    for _ in range(rng.integers(OBJECTS[0], OBJECTS[1] + 1)):
        of = by_class[rng.integers(len(by_class))]
        one = of[rng.integers(len(of))]
        scale = rng.integers(SIZES[0], SIZES[1] + 1) / max(one.image.size)
        small = one.image.resize([max(1, round(scale * side)) for side in one.image.size], Image.Resampling.LANCZOS)
        if rng.random() < 0.5:
            small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for _ in range(_TRIES):
            left, top = (int(rng.integers(SIDE - side + 1)) for side in small.size)
            layer = Image.new("RGBA", picture.size)
            layer.paste(small, (left, top))
            mask = np.asarray(layer.getchannel("A")) >= _SOLID
            seen = [(label, whole & ~mask, area) for label, whole, area in placed]
            if all(part.sum() >= (1 - HIDDEN) * area for _, part, area in seen):
                picture.alpha_composite(layer)
                placed = [*seen, (one.label, mask, int(mask.sum()))]
                break
    return picture.convert("RGB"), [(label, mask) for label, mask, _ in placed]


def runs(mask: np.ndarray) -> list[int]:
    """COCO's lengths of runs, down the columns, the first of them outside."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(np.int8)))
    return np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()


def write(folder: Path, split: str, found: Sequence[CutOut], grounds: np.ndarray, count: int, seed: int) -> None:
    """Writes scenes: SPLIT/00000.png ..., then annotations/instances_SPLIT.json.

    Args:
        folder: In COCO's layout.
        split: "train" or "val".
        found: Cut-outs.
        grounds: (n, 3, 32, 32) uint8.
        count: How many scenes.
        seed: Each scene is a function of it, of `split` and of its number.
    """
    (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    names, images, annotations = list(CLASSES), [], []
    for number in range(count):
        rng = np.random.default_rng((seed, len(split), number))
        picture, objects = scene(found, grounds[rng.integers(len(grounds))], rng)
        images.append({"id": number, "file_name": f"{number:05}.png", "height": SIDE, "width": SIDE})
        picture.save(folder / split / images[-1]["file_name"])
        for label, mask in objects:
            box = boxes_of(mask[None])[0].astype(int).tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": names.index(label) + 1, "bbox": box,
                 "area": int(mask.sum()), "iscrowd": 0,
                 "segmentation": {"size": [SIDE, SIDE], "counts": runs(mask)}}
            )  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
