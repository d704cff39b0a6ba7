"""Images with objects as COCO's json describes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_zoo.errors import UsageError, cannot_read
from robust_zoo.readers import Malformed, read_json
from robust_zoo.training.detection.objects import Objects
from robust_zoo.training.detection.outlines import outline
from robust_zoo.training.detection.scenes import Scene, Scenes, inside, rows

_LARGEST = 1 << 30  # bytes: COCO's training images are described in under half of it
SIDE = 1 << 16
"""The most pixels of a side that a file may claim."""
_FORM = "COCO's json: images, categories and annotations with bbox [left, top, width, height]"


class _Place:
    """Which entry is being read, for the error."""

    words = "the file"

    def each(self, kind: str, values: Iterable[Any]) -> Iterator[Any]:
        for i, value in enumerate(values):
            self.words = f"{kind} {i:,}"
            yield value


def read_coco(file: Path, images: Path) -> Scenes:
    """What COCO's json says: `images`, `categories`, `annotations`; boxes, masks of either kind, crowds, areas.

    Args:
        file: instances_val2017.json, or another of its form.
        images: The folder of the images' files; it is not looked into.

    Returns:
        The images in the file's order. Classes are in the order of their ids, which may have gaps.

    Raises:
        UsageError: The file cannot be read or is not of this form; the error names the entry.
    """
    place = _Place()
    try:
        content = read_json(file, limit=_LARGEST)
        categories = sorted(content["categories"], key=lambda c: whole(c["id"]))
        labels = {c["id"]: i for i, c in enumerate(place.each("category", categories), start=1)}
        found: dict[int, list[dict[str, Any]]] = {whole(i["id"]): [] for i in place.each("image", content["images"])}
        for annotation in place.each("annotation", content["annotations"]):
            found[annotation["image_id"]].append(annotation)
        if len(labels) < len(categories) or len(found) < len(content["images"]):
            raise ValueError("an id that stands twice")
        scenes = [_scene(i, found[i["id"]], labels, images) for i in place.each("image", content["images"])]
        return Scenes(tuple(str(c["name"]) for c in categories), tuple(scenes))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise unread(file, _FORM, error, "entry", f"{place.words}: ") from None


def _scene(image: dict[str, Any], found: Sequence[dict[str, Any]], labels: dict[int, int], folder: Path) -> Scene:
    height, width = (whole(image[side], 1, SIDE) for side in ("height", "width"))
    boxes = rows([[number(v) for v in a["bbox"]] for a in found])
    areas = [number(a["area"]) if "area" in a else w * h for a, (_, _, w, h) in zip(found, boxes, strict=True)]
    crowd = [whole(a.get("iscrowd", 0), 0, 1) for a in found]
    of = np.array([labels[a["category_id"]] for a in found], np.int64)
    masks = all(a.get("segmentation") for a in found)
    outlines = tuple(outline(a["segmentation"], height, width) for a in found) if masks else None
    objects = Objects(boxes, of, np.array(areas), np.array(crowd, bool))
    return Scene(inside(folder, image["file_name"]), height, width, objects, outlines)


def unread(file: Path, form: str, error: Exception, what: str, where: str = "") -> UsageError:
    """The error for a file of objects.

    Args:
        file: Which.
        form: What it should be.
        error: Of reading it, or of what stands in it.
        what: What to mend then, in a word.
        where: Before what is wrong with that.

    Returns:
        The error, to be raised.
    """
    said = f"objects from {file.name}"
    if isinstance(error, OSError | Malformed):
        return cannot_read(said, file, form, error, "put a sound copy in its place")
    fault = f"no {error} there" if isinstance(error, KeyError) else getattr(error, "actual", "") or str(error)
    return cannot_read(said, file, form, f"{where}{fault}", f"mend or take out this {what}")


def whole(value: Any, least: int = 0, most: int = 1 << 62) -> int:
    """A whole number between two, or a ValueError that says so."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value!r} is no whole number from {least:,} to {most:,}")
    return value


def number(value: Any) -> float:
    """A number of pixels, or a ValueError that says so."""
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e9:
        raise ValueError(f"{value!r} is no number of pixels")
    return float(value)
