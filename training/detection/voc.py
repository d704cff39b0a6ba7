"""Images with objects as VOC's xml describes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from robust_zoo.readers import read_text
from robust_zoo.training.detection.coco import SIDE, number, unread
from robust_zoo.training.detection.objects import Objects
from robust_zoo.training.detection.scenes import Scene, Scenes, inside, rows
from robust_zoo.training.detection.xml_file import read_xml

_FORM = "VOC's xml: size, and objects with name and bndbox"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(root: Path, split: str, classes: Sequence[str] | None = None) -> Scenes:
    """What VOC's xml says of the boxes in a split.

    Corners are pixels counted from 1, the last one included: 1, 1, 10, 10 is the box 0, 0, 10, 10 here. Difficult
    objects are left out of account as VOC does: a detection on one is neither right nor wrong, by the usual IoU.

    Args:
        root: VOC2012 or a folder like it: ImageSets/Main/{split}.txt, Annotations/*.xml, JPEGImages/.
        split: "train", "val", ...: the names of images, one a line; where no xml is called as the whole line is, its
            first word counts.
        classes: What may stand in the images: that of the training images, for the numbers to be the same. Those
            that do, in the order of the alphabet, when None.

    Returns:
        The images in the list's order.

    Raises:
        UsageError: A file cannot be read or is not of this form, or an object is of no class of `classes`.
    """
    file = root / "ImageSets" / "Main" / f"{split}.txt"
    try:
        names = [_name(root, line.strip()) for line in read_text(file).splitlines() if line.strip()]
        if len(set(names)) < len(names):
            raise ValueError(f"{Counter(names).most_common(1)[0][0]!r} stands there twice")
        trees: list[Element] = []
        for name in names:
            file = inside(root / "Annotations", f"{name}.xml")
            trees.append(read_xml(file))
        if classes is None:
            classes = sorted({o.findtext("name", "").strip() for tree in trees for o in tree.findall("object")})
        number_of, scenes = {name: i for i, name in enumerate(classes, start=1)}, []
        for name, tree in zip(names, trees, strict=True):
            file = root / "Annotations" / f"{name}.xml"
            scenes.append(_scene(tree, number_of, root / "JPEGImages"))
    except (OSError, ValueError) as error:
        raise unread(file, _FORM, error, "image") from None
    return Scenes(tuple(classes), tuple(scenes))


def _name(root: Path, line: str) -> str:
    """Of a line the name of its image: all of it, or what stands before VOC's 1 and -1."""
    return line if inside(root / "Annotations", f"{line}.xml").is_file() else line.split()[0]


def _scene(tree: Element, number_of: dict[str, int], folder: Path) -> Scene:
    height, width = (_size(tree, f"size/{side}") for side in ("height", "width"))
    found = tree.findall("object")
    names = [_text(o, "name") for o in found]
    if strange := next((name for name in names if name not in number_of), None):
        raise ValueError(f"an object of class {strange!r}, which is not among {', '.join(number_of)}")
    edges = rows([[_number(o, f"bndbox/{edge}") for edge in _EDGES] for o in found])
    if (turned := (edges[:, 2:] < edges[:, :2] - 1).any(1)).any():
        raise ValueError(f"object {int(turned.argmax()):,}: its xmax or ymax is below its xmin or ymin")
    boxes = np.concatenate([edges[:, :2] - 1, edges[:, 2:] - edges[:, :2] + 1], axis=1)
    difficult = [o.findtext("difficult", "0").strip() == "1" for o in found]
    labels = np.array([number_of[name] for name in names], np.int64)
    objects = Objects(boxes, labels, difficult=np.array(difficult, bool))
    return Scene(inside(folder, _text(tree, "filename")), height, width, objects)


def _size(tree: Element, path: str) -> int:
    value = _number(tree, path)
    if not value.is_integer() or not 1 <= value <= SIDE:
        raise ValueError(f"{path}: {value:g} is no whole number from 1 to {SIDE:,}")
    return int(value)


def _number(element: Element, path: str) -> float:
    text = _text(element, path)
    try:
        return number(float(text))
    except ValueError:
        raise ValueError(f"{path}: {text[:40]!r} is no number of pixels") from None


def _text(element: Element, path: str) -> str:
    if not (text := element.findtext(path, "").strip()):
        raise ValueError(f"no {path} in {element.tag}")
    return text
