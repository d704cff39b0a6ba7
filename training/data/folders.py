"""Where the encoded images of a large dataset lie: class folders, tar shards, a Hugging Face dataset; read at random.

Reading by index, in any order, is what makes a run independent of its workers; nothing is ever unpacked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from robust_zoo.errors import UsageError, cannot_read, not_installed
from robust_zoo.training.data.encoded import LAYOUTS, EncodedImages, in_order, is_image, not_a_dataset
from robust_zoo.training.data.tar import open_tars

_LABEL = ("label",)
_SPLITS = {"train": ("train",), "val": ("val", "validation")}


def from_folder(root: Path, names: Sequence[str], index: int) -> bytes:
    """The bytes of an image.

    Args:
        root: The folder that the names begin in.
        names: Of all images, by index.
        index: Which.

    Returns:
        The file's content, still encoded.
    """
    return (root / names[index]).read_bytes()  # a million names go to a loader process in 0.5 s, Paths in 14


def _from_rows(rows: Any, index: int) -> bytes:
    """rows: a Hugging Face dataset whose `image` column is not decoded."""
    image = rows[index]["image"]
    return image["bytes"] or Path(image["path"]).read_bytes()


def open_source(data: str | Path, split: Literal["train", "val"]) -> EncodedImages:
    """The "train" or "val" images under `data`.

    Tar members are labelled by their folder, or WebDataset's way by KEY.cls or the "label" in KEY.json. Sorted class
    folders (by number, where they are numbers) are the classes 0, 1, ...

    Args:
        data: A directory with `train` and `val` (or `validation`) folders of class folders, or of tar files, or with
            `train*.tar` and `val*.tar` (or `*-train-*.tar`, as timm's) beside each other; or "hfds/NAME", where NAME
            is on the hub or a directory that `datasets` wrote or can load.
        split: Which of the two.

    Returns:
        The split's images, none of them read yet.

    Raises:
        UsageError: Something is missing, empty or unreadable; the error names it.
    """
    if str(data).startswith("hfds/"):
        return open_rows(str(data).removeprefix("hfds/"), "train" if split == "train" else "validation")
    root = Path(data)
    for name in _SPLITS[split]:
        if (root / name).is_dir():
            return open_folder(root / name)
        if tars := sorted({*root.glob(f"{name}*.tar"), *root.glob(f"*-{name}-*.tar")}):
            return open_tars(tars)
    found = sorted(p.name for p in root.iterdir())[:5] if root.is_dir() else []
    raise UsageError(
        f"no {split} images",
        source=str(root),
        expected=f"a folder or .tar files named {' or '.join(_SPLITS[split])}",
        actual=", ".join(found) or "nothing there",
        next=LAYOUTS,
    )


def open_folder(root: Path) -> EncodedImages:
    """The images of one directory.

    Args:
        root: Holds tar files, else class folders.

    Returns:
        Its images, none of them read yet.

    Raises:
        UsageError: The directory holds neither, or something in it is empty or unreadable.
    """
    tars = sorted(root.glob("[!.]*.tar"))
    return open_tars(tars) if tars else _folders(root)


def _folders(root: Path) -> EncodedImages:
    """Class folders, images at any depth below them."""
    names: list[str] = []
    sizes: list[int] = []
    labels: list[int] = []
    try:
        classes = in_order(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        for label, name in enumerate(classes):
            for image, size in _images(root / name, name):
                names.append(image)
                sizes.append(size)
                labels.append(label)
            if not labels or labels[-1] != label:
                raise not_a_dataset(root / name, "images in every class folder", "none here")
    except OSError as error:  # a link to nowhere, a folder without permission
        raise not_a_dataset(root, "readable files", str(error)) from None
    if not classes:
        raise not_a_dataset(root, "class folders", "none")
    return EncodedImages(names, sizes, torch.tensor(labels), tuple(classes), partial(from_folder, root, names))


def _images(folder: Path, name: str) -> Iterator[tuple[str, int]]:
    """(name, bytes) of the images in a folder called `name`, at any depth, sorted; what is hidden is passed over."""
    with os.scandir(folder) as entries:  # twice as fast as rglob, which counts for a million files
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _images(folder / entry.name, f"{name}/{entry.name}")
            elif is_image(entry.name) and not entry.is_dir():
                yield f"{name}/{entry.name}", entry.stat().st_size


def open_rows(name: str, wanted: str, columns: tuple[str, ...] = _LABEL) -> EncodedImages:
    """A split of a dataset in Hugging Face's format.

    Args:
        name: Of a dataset on the hub, or the directory that `datasets` saved one in.
        wanted: The split.
        columns: Of the labels, the first that is there. With columns of the caller's choice the classes are the sorted
            values (by number where they are numbers), whatever they count from; else labels count from 0.

    Returns:
        The split's images, none of them read yet.

    Raises:
        UsageError: The `datasets` library is not installed, or the dataset cannot be read.
    """
    try:
        import datasets
        import pyarrow.compute as pc  # comes with it
    except ImportError:
        raise not_installed("hfds/ needs Hugging Face's datasets library", "datasets", "hf") from None
    try:
        if (Path(name) / "dataset_dict.json").is_file():
            rows = datasets.load_from_disk(name)[wanted]
        else:
            rows = datasets.load_dataset(name, split=wanted)
        column = next(c for c in (*columns, "") if c in rows.column_names or not c)
        values = rows[column][:]
        classes = tuple(in_order({str(value) for value in values})) if columns != _LABEL else ()
        number = {word: i for i, word in enumerate(classes)}
        labels = torch.tensor([number[str(value)] for value in values] if classes else values)
        if not len(labels) or labels.min() < 0:
            raise ValueError(f"{len(labels)} labels, the lowest {min(labels.tolist(), default=None)}")
        rows = rows.cast_column("image", datasets.Image(decode=False)).select_columns(["image"])
        images = rows.with_format("arrow")[:]["image"]  # on the disk; no image is read for its name and size
        paths = pc.struct_field(images, "path").to_pylist()
        sizes = pc.fill_null(pc.binary_length(pc.struct_field(images, "bytes")), 0).to_pylist()
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        expected = f"a dataset with a {wanted} split and the columns image and label"
        what = f"{wanted} of the dataset {name}"
        raise cannot_read(what, f"hfds/{name}", expected, str(error).strip()) from None
    names = [Path(path).name if path else str(number) for number, path in enumerate(paths)]
    return EncodedImages(names, sizes, labels, classes, partial(_from_rows, rows))


def check_classes(train: EncodedImages, val: EncodedImages) -> None:
    """Makes sure that a label means the same class in both splits.

    Args:
        train: The training images.
        val: The validation images.

    Raises:
        UsageError: The class folders of the splits differ.
    """
    if train.classes and val.classes and train.classes != val.classes:
        raise UsageError(
            "the splits have different classes",
            source=val.names[0],
            expected=f"the {len(train.classes)} of train",
            actual=f"{len(val.classes)}; in one only: {', '.join(sorted({*train.classes} ^ {*val.classes})[:5])}",
            next=LAYOUTS,
        )
