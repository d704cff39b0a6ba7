"""Where the encoded images of a large dataset lie: class folders, tar shards, a Hugging Face dataset; read at random.

Reading by index, in any order, is what makes a run independent of its workers; nothing is ever unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from robust_zoo.errors import UsageError
from robust_zoo.readers import read_bytes
from robust_zoo.text import listed, several
from robust_zoo.training.data.decode import MOST_BYTES
from robust_zoo.training.data.encoded import LAYOUTS, EncodedImages, not_a_dataset
from robust_zoo.training.data.hf_rows import HF, open_rows
from robust_zoo.training.data.tar import SHARDS_OF, open_tars, shards_in
from robust_zoo.training.data.tree import Files, Layout, layout_of, read_classes

_SPLITS = ("train", "val", "test")


def from_folder(root: Path, names: Sequence[str], index: int) -> bytes:
    """The bytes of an image.

    Args:
        root: The folder that the names begin in.
        names: Of all images, by index.
        index: Which.

    Returns:
        The file's content, still encoded.
    """
    return read_bytes(root / names[index], MOST_BYTES)  # a million names go to a loader process in 0.5 s, Paths in 14


def open_source(data: str | Path, split: Literal["train", "val"]) -> EncodedImages:
    """The "train" or "val" images under `data`.

    Tar members are labelled WebDataset's way by KEY.cls, the "label" in KEY.json or KEY.txt, else by their folder.
    Numbers count classes from 0; sorted names of class folders or in labels are the classes 0, 1, ... (folders by
    number, where they are numbers).

    Args:
        data: A directory with folders of class folders, or of tar files, for training and for validation (or else for
            testing), or with `train*.tar` and `val*.tar` (or `*-train*.tar`, as timm's) beside each other; or
            "hfds/NAME", where NAME is on the hub or a directory that `datasets` wrote or can load.
        split: Which of the two.

    Returns:
        The split's images, none of them read yet.

    Raises:
        UsageError: Something is missing, empty or unreadable; the error names it.
    """
    if str(data).startswith(HF):
        return open_rows(str(data).removeprefix(HF), "train" if split == "train" else "validation")
    layout = layout_of(Path(data))
    take = ("train",) if split == "train" else ("val", "test")
    if any(part in layout.splits for part in take):
        return _open(layout, take)
    if shards := _shards(layout.root, take):
        return open_shards(shards)
    raise UsageError(
        f"no {split} images",
        source=str(data),
        expected=f"a folder of class folders, or .tar files, named {' or '.join(take)}",
        actual=(listed(path.name for path in layout.root.iterdir()) if layout.root.is_dir() else "") or "nothing there",
        next=LAYOUTS,
    )


def open_folder(root: Path, *, take: Sequence[str] = _SPLITS) -> EncodedImages:
    """The images of one directory.

    Args:
        root: Holds tar files, else class folders, else splits of either; or one folder that does.
        take: Of splits, the first of these that is there.

    Returns:
        Its images, none of them read yet; their note says what was taken and what left out.

    Raises:
        UsageError: The directory holds none of these, or something in it is empty or unreadable.
    """
    layout = layout_of(root)
    if layout.splits or not (tars := shards_in(layout.root)):
        return _open(layout, take)
    return open_shards(_shards(layout.root, take) or tars)


def open_shards(tars: list[Path]) -> EncodedImages:
    """The images of tar files.

    Args:
        tars: The files.

    Returns:
        Their images, none of them read yet, with a note.

    Raises:
        UsageError: A file is damaged, or an image has no label.
    """
    source = open_tars(tars)
    return replace(source, note=f"{several(len(source), 'image')} in tar files: {listed(tar.name for tar in tars)}")


def _shards(folder: Path, take: Sequence[str]) -> list[Path]:
    """The tar files of the first split that has some."""
    return next(filter(None, (shards_in(folder, SHARDS_OF[split]) for split in take)), [])


def _open(layout: Layout, take: Sequence[str]) -> EncodedImages:
    split = next((split for split in take if split in layout.splits), "")
    if layout.splits and not split:
        raise not_a_dataset(layout.root, f"a folder of {' or '.join(take)} images", f"{listed(layout.splits)} alone")
    folder = layout.splits.get(split, layout.root)
    if split and (tars := shards_in(folder)):
        return open_shards(tars)
    source = encoded(folder, read_classes(folder, layout.left_out))
    unused = [part.name for other, part in layout.splits.items() if other != split]
    taken = f"{several(len(source.classes), 'class', 'es')}, {several(len(source), 'image')}"
    words = [f"{taken}{layout.place(folder)}"]
    words += [f"not looked at: {listed(unused)}"] if unused else []
    return replace(source, note="; ".join(words + left_out(layout)))


def left_out(layout: Layout) -> list[str]:
    """What a note says of the files that were not taken: one sentence, or none."""
    return [f"left out: {layout.left_out}"] if str(layout.left_out) else []


def encoded(root: Path, classes: Mapping[str, Files]) -> EncodedImages:
    """The images of class folders, by index.

    Args:
        root: The folder that names begin in.
        classes: The files of each class, in the order of the labels.

    Returns:
        The images, class by class, none of them read yet.
    """
    names = [name for files in classes.values() for name, _ in files]
    sizes = [size for files in classes.values() for _, size in files]
    counts = torch.tensor([len(files) for files in classes.values()])
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    return EncodedImages(names, sizes, labels, tuple(classes), partial(from_folder, root, names))


def check_classes_differ(source: EncodedImages, where: Path | str) -> None:
    """Makes sure that there is something to tell apart.

    Args:
        source: The images.
        where: The folder, for the error.

    Raises:
        UsageError: They are of one class.
    """
    if len(source.classes) == 1:
        raise not_a_dataset(where, "two classes or more, a folder for each", f"one: {listed(source.classes)}")


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
