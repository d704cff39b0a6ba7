"""Image files on the disk as splits: listed ones, tables that `datasets` saved, or any image folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from robust_zoo.errors import UsageError
from robust_zoo.readers import read_json
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.data.encoded import EncodedImages, in_order
from robust_zoo.training.data.folders import from_folder, open_folder, open_rows
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.transfer import layouts
from robust_zoo.training.transfer.task import Target


def listed_files(root: Path, pairs: Sequence[tuple[str, int]], classes: tuple[str, ...], workers: int) -> ImageFiles:
    """A split whose files are listed.

    Args:
        root: The folder that names begin at.
        pairs: (Name, label) of each file, in the split's order.
        classes: Their names, by label.
        workers: Loader processes, 0 for none.

    Returns:
        The images, none of them read yet.

    Raises:
        FileNotFoundError: A file is not there.
    """
    names = [name for name, _ in pairs]
    sizes = [(root / name).stat().st_size for name in names]
    labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
    return ImageFiles(EncodedImages(names, sizes, labels, classes, partial(from_folder, root, names)), workers=workers)


def saved_tables(
    folder: Path, label: str, *, validation: bool, workers: int
) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Splits that Hugging Face's `datasets` saved.

    Labels that are words count the sorted words; numbers begin at the lowest.

    Args:
        folder: Holds dataset_dict.json.
        label: The column of labels; "label" and "labels" are looked for next.
        validation: Whether the dataset has an official validation split.
        workers: Loader processes, 0 for none.

    Returns:
        The images of "train", "test" and, where there is one, "val"; and the classes' names.

    Raises:
        UsageError: The `datasets` package is not installed, or a table has no images or labels.
        KeyError: There are no splits.
    """
    kinds = read_json(folder / "dataset_dict.json")["splits"]
    called = {"train": ("train",), "test": ("test",), "val": ("validation", "val", "valid")}
    if not validation and "test" not in kinds:  # ethz/food101 calls its test split validation
        called = {"train": ("train",), "test": called["val"]}
    found = {split: next((k for k in kinds if k in names), None) for split, names in called.items()}
    rows = {
        split: open_rows(str(folder), kind, (label, "label", "labels"))
        for split, kind in found.items()
        if kind and (split != "val" or validation)
    }
    words = in_order({str(word) for source in rows.values() for word in source.classes})
    number = {word: i for i, word in enumerate(words)}
    opened: dict[str, Dataset] = {}
    for split, source in rows.items():
        labels = torch.tensor([number[source.classes[i]] for i in source.labels.tolist()])
        listed = EncodedImages(source.names, source.sizes, labels, tuple(words), source.read)
        opened[split] = ImageFiles(listed, workers=workers)
    return opened, tuple(words)


def folder_target(path: Path, workers: int) -> Target:
    """Any image folder, under its own name.

    Args:
        path: Holds train/ and test/ (or val/) of class folders, or class folders alone, of which every fifth image by
            the hash of its path is for testing.
        workers: Loader processes, 0 for none.

    Returns:
        The target; its note says where its split comes from when it is not the folder's own.

    Raises:
        UsageError: There are no images, or a class has one.
    """
    if (path / "train").is_dir():
        listing = layouts.folders(path)
        number = {label: i for i, label in enumerate(listing.classes)}
        parts = {
            split: listed_files(path, [(name, number[label]) for name, label in files], listing.classes, workers)
            for split, files in listing.splits.items()
        }
        return Target(path.name, listing.classes, parts["train"], None, parts["test"])
    source = open_folder(path)
    hashed = [hashlib.sha256(name.encode()).digest()[0] % 5 == 0 for name in source.names]
    test = torch.tensor(hashed)
    for label in source.labels.unique():  # a small class may have no test image, or no other
        members = (source.labels == label).nonzero().flatten()
        if len(members) < 2:
            raise UsageError(
                f"class {source.classes[int(label)]} has one image",
                source=str(path),
                expected="two or more per class",
                actual="1",
                next="add images, or leave the class out",
            )
        if test[members].all() or not test[members].any():
            test[members] = False
            test[members[0]] = True
    data = ImageFiles(source, workers=workers)
    train, held = (~test).nonzero().flatten(), test.nonzero().flatten()
    note = "every fifth image, by the hash of its path, is for testing"
    return Target(path.name, source.classes, data.subset(train), None, data.subset(held), note=note)
