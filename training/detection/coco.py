"""Images with objects as COCO's json describes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any, TypeVar

import numpy as np

from robust_zoo.errors import UsageError, cannot_read
from robust_zoo.readers import Malformed, read_json
from robust_zoo.training.detection.objects import Objects
from robust_zoo.training.detection.outlines import Polygons, Runs, outline
from robust_zoo.training.detection.scenes import Scene, Scenes, inside, rows

_LARGEST = 1 << 30  # bytes: COCO's training images are described in under half of it
SIDE = 1 << 16
"""The most pixels of a side that a file may claim."""
_FORM = "COCO's json: images, categories and annotations with bbox [left, top, width, height]"
T = TypeVar("T")


class _Place:
    """Which entry is being read, for the error."""

    words = "the file"

    def each(self, kind: str, content: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
        """The entries of a list of the file's."""
        for i, entry in enumerate(_part(content, name, _list)):
            self.words = f"{kind} {i:,}"
            if not isinstance(entry, dict):
                raise ValueError(f"{brief(entry)}, where an object with fields is wanted")
            yield entry
        self.words = "the file"


@dataclass
class _Image:
    """An image, and what was read of its objects so far: box, class, area, crowd, outline of each."""

    path: Path
    height: int
    width: int
    found: list[tuple[list[float], int, float, int, Polygons | Runs | None]] = field(default_factory=list)

    def scene(self) -> Scene:
        boxes, labels, areas, crowd, outlines = zip(*self.found, strict=True) if self.found else ((),) * 5
        objects = Objects(rows(boxes), np.array(labels, np.int64), np.array(areas, float), np.array(crowd, bool))
        return Scene(self.path, self.height, self.width, objects, None if None in outlines else outlines)


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
    names: dict[int, str] = {}
    found: dict[int, _Image] = {}
    try:
        content = read_json(file, limit=_LARGEST)
        for category in place.each("category", content, "categories"):
            names[_new_id(category, names)] = str(_part(category, "name"))
        for image in place.each("image", content, "images"):
            height, width = (_part(image, side, lambda value: whole(value, 1, SIDE)) for side in ("height", "width"))
            path = _part(image, "file_name", lambda value: inside(images, value))
            found[_new_id(image, found)] = _Image(path, height, width)
        labels = {number: label for label, number in enumerate(sorted(names), start=1)}
        for annotation in place.each("annotation", content, "annotations"):
            of = _part(annotation, "image_id", lambda value: _known(value, found, "image"))
            label = _part(annotation, "category_id", lambda value: _known(value, labels, "category"))
            of.found.append(_read(annotation, label, of.height, of.width))
    except (OSError, ValueError) as error:
        raise unread(file, _FORM, error, "entry", f"{place.words}: ") from None
    return Scenes(tuple(names[number] for number in sorted(names)), tuple(image.scene() for image in found.values()))


def _read(a: dict[str, Any], label: int, height: int, width: int) -> tuple:
    box = _part(a, "bbox", _box)
    area = _part(a, "area", _area) if "area" in a else box[2] * box[3]
    crowd = _part(a, "iscrowd", lambda value: whole(value, 0, 1)) if "iscrowd" in a else 0
    return box, label, area, crowd, outline(a["segmentation"], height, width) if a.get("segmentation") else None


def _part(entry: Mapping[str, Any], name: str, read: Callable[[Any], T] = lambda value: value) -> T:
    """A field of an entry; a ValueError says which field is wrong."""
    if name not in entry:
        raise ValueError(f"no {name}")
    try:
        return read(entry[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _new_id(entry: dict[str, Any], seen: Mapping[int, Any]) -> int:
    if (number := _part(entry, "id", whole)) in seen:
        raise ValueError(f"id: {number} stands twice")
    return number


def _known(value: Any, of: Mapping[int, T], kind: str) -> T:
    if type(value) not in (int, float) or value not in of:  # some tools write 7.0 for 7
        raise ValueError(f"{brief(value)}, which is no {kind}'s id")
    return of[value]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{brief(value)}, where a list is wanted")
    return value


def _box(value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"{brief(value)} is not left, top, width, height")
    box = [number(v) for v in value]
    if min(box[2:]) < 0:
        raise ValueError(f"{brief(value)} has a side below 0")
    return box


def _area(value: Any) -> float:
    if number(value) < 0:
        raise ValueError(f"{brief(value)} is below 0")
    return float(value)


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
    return cannot_read(said, file, form, f"{where}{error}", f"mend or take out this {what}")


def whole(value: Any, least: int = 0, most: int = 1 << 62) -> int:
    """A whole number between two, or a ValueError that says so."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{brief(value)} is no whole number from {least:,} to {most:,}")
    return value


def number(value: Any) -> float:
    """A number of pixels, or a ValueError that says so."""
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e9:
        raise ValueError(f"{brief(value)} is no number of pixels")
    return float(value)
