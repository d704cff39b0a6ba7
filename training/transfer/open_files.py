"""Image files on the disk as splits: listed ones, tables that `datasets` saved, or any image folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from robust_zoo.errors import UsageError
from robust_zoo.text import listed
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.data.encoded import EncodedImages, counted, in_order, not_a_dataset
from robust_zoo.training.data.folders import check_classes_differ, encoded, from_folder, left_out, open_folder
from robust_zoo.training.data.hf_rows import HF, open_rows, splits_of
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.data.tar import SHARDS_OF, open_tars, shards_in
from robust_zoo.training.data.tree import Layout, layout_of, read_classes
from robust_zoo.training.transfer.task import Target

_CALLED = {"train": ("train",), "val": ("validation", "val", "valid"), "test": ("test",)}  # splits, in tables


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
        UsageError: The `datasets` package is not installed, there are no splits, or a table has no images or labels.
    """
    kinds, called = splits_of(str(folder)), dict(_CALLED)
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
        path: As find_layout takes it. Without a folder for testing that is val, and without that every fifth image, by
            the hash of its path.
        workers: Loader processes, 0 for none.

    Returns:
        The target; its note says what was taken for what, and what was left out.

    Raises:
        UsageError: There are no images, one class, or a class with too few images.
    """
    layout = layout_of(path)
    name = path.resolve().name if path.name in ("", "..") else path.name
    if (shards := _shards(layout)).keys() > {"train"}:
        sources = {split: open_tars(files) for split, files in shards.items()}
        return _of_splits(name, sources, path, "images in tar files", workers)
    if "train" in layout.splits and len(layout.splits) > 1:
        return _split_target(name, layout, workers)
    return _folded(name, open_folder(path, take=("train",)), path, workers)


def rows_target(name: str, workers: int) -> Target:
    """A dataset in Hugging Face's format, with the classes that its table names.

    Args:
        name: "hfds/" and a dataset on the hub, or a directory that `datasets` saved one in or can load.
        workers: Loader processes, 0 for none.

    Returns:
        The target: without a split for testing the validation split is, and without that every fifth image.

    Raises:
        UsageError: The `datasets` library is not installed, there is no such dataset, or none to train on.
    """
    table = name.removeprefix(HF)
    there = splits_of(table)
    kinds = {split: next((kind for kind in there if kind in names), "") for split, names in _CALLED.items()}
    if not kinds["train"]:
        raise not_a_dataset(name, "a split called train", listed(there))
    sources = {split: open_rows(table, kind, named=True) for split, kind in kinds.items() if kind}
    if len(sources) == 1:
        return _folded(Path(table).name, sources["train"], name, workers)
    return _of_splits(Path(table).name, sources, name, "images", workers)


def _folded(name: str, source: EncodedImages, where: Path | str, workers: int) -> Target:
    """Images without a split for testing: every fifth is, by the hash of its path."""
    source = counted(source, where)
    check_classes_differ(source, where)
    hashed = [hashlib.sha256(os.fsencode(name)).digest()[0] % 5 == 0 for name in source.names]
    test = torch.tensor(hashed)
    for label in source.labels.unique():  # a small class may have no test image, or no other
        members = (source.labels == label).nonzero().flatten()
        if len(members) < 2:
            raise UsageError(
                f"class {source.classes[int(label)]} has one image",
                source=str(where),
                expected="two or more per class",
                actual="1",
                next="add images, or leave the class out",
            )
        if test[members].all() or not test[members].any():
            test[members] = False
            test[members[0]] = True
    data = ImageFiles(source, workers=workers)
    train, held = (~test).nonzero().flatten(), test.nonzero().flatten()
    words = [f"every fifth image, by the hash of its path, is for testing: {len(train):,} train, {len(held):,} test"]
    note = "; ".join([*words, source.note] if source.note else words)
    return Target(name, source.classes, data.subset(train), None, data.subset(held), note=note)


def _shards(layout: Layout) -> dict[str, list[Path]]:
    """The tar files of each split, where all of them lie in folders of splits or are called by them."""
    if layout.splits:
        found = {split: shards_in(folder) for split, folder in layout.splits.items()}
    else:
        found = {split: shards_in(layout.root, names) for split, names in SHARDS_OF.items()}
        if sum(map(len, found.values())) != len(shards_in(layout.root)):
            return {}
    return {split: files for split, files in found.items() if files}


def _of_splits(name: str, sources: dict[str, EncodedImages], where: Path | str, what: str, workers: int) -> Target:
    """Of splits that were opened apart: labels of all are those of the training images, by name."""
    train = sources["train"] = counted(sources["train"], where)
    check_classes_differ(train, where)
    number = {word: i for i, word in enumerate(train.classes)}
    for split, source in sources.items():
        names = source.classes or tuple(str(i) for i in range(int(source.labels.max()) + 1))
        if unknown := {names[i] for i in source.labels.unique().tolist()} - number.keys():
            raise not_a_dataset(where, f"the {len(number)} classes of train in {split}", f"also {listed(unknown)}")
        new = torch.tensor([number.get(word, -1) for word in names])
        sources[split] = replace(source, labels=new[source.labels], classes=train.classes)
    parts = {split: ImageFiles(source, workers=workers) for split, source in sources.items()}
    counts = ", ".join(f"{len(parts[split]):,} {split}" for split in _CALLED if split in parts)
    note = f"{len(train.classes)} classes, {counts} {what}"
    if "test" not in parts:
        return Target(name, train.classes, parts["train"], None, parts["val"], note=f"{note}; val is for testing")
    note += "; val is for choosing" if "val" in parts else ""
    return Target(name, train.classes, parts["train"], parts.get("val"), parts["test"], note=note)


def _split_target(name: str, layout: Layout, workers: int) -> Target:
    """Of a folder with splits of its own: val is for choosing where there is a test, else for testing."""
    read = {split: read_classes(place, layout.left_out, empty=True) for split, place in layout.splits.items()}
    classes = in_order({label for found in read.values() for label in found})
    without = {split: [label for label in classes if not found.get(label)] for split, found in read.items()}
    if without["train"]:
        raise not_a_dataset(layout.splits["train"], "images of every class", f"none of {listed(without['train'])}")
    parts = {}
    for split, found in read.items():
        place = layout.splits[split].relative_to(layout.root)
        files = {label: [(f"{place}/{file}", size) for file, size in found.get(label, [])] for label in classes}
        parts[split] = ImageFiles(encoded(layout.root, files), workers=workers)
    check_classes_differ(parts["train"].source, layout.root)
    test = "test" if "test" in parts else "val"
    if not len(parts[test]):
        raise not_a_dataset(layout.splits[test], "images", "none")
    counts = ", ".join(f"{len(part):,} {split}" for split, part in parts.items())
    words = [f"{len(classes)} classes, {counts} images{layout.place(layout.root)}"]
    words += ["val is for testing"] if test == "val" else ["val is for choosing"] if "val" in parts else []
    words += [f"without {split} images: {listed(labels)}" for split, labels in without.items() if labels]
    val = parts.get("val") if test == "test" else None
    note = "; ".join(words + left_out(layout))
    return Target(name, tuple(classes), parts["train"], val, parts[test], note=note)
