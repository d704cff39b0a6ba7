"""Where the encoded images of a large dataset lie: class folders, tar shards, a Hugging Face dataset; read at random.

Reading by index, in any order, is what makes a run independent of its workers; nothing is ever unpacked.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from robust_zoo.errors import UsageError

_IMAGES = {".jpg", ".jpeg", ".png", ".webp"}
_LABEL = ("label",)
_SPLITS = {"train": ("train",), "val": ("val", "validation")}


@dataclass(frozen=True)
class Source:
    """Labelled encoded images. names, sizes (bytes) and labels, (N,) int64, by index; read(index) -> the file's bytes.
    Picklable, for loader processes.

    classes: the folders that labels stand for, () where the dataset numbers its classes itself.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    labels: Tensor
    classes: tuple[str, ...]
    read: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sha256(self) -> str:
        """Fingerprint of the list (names, sizes, labels), not of the pixels: ImageNet's would take minutes to read."""
        digest = hashlib.sha256()
        for name, size, label in zip(self.names, self.sizes, self.labels.tolist(), strict=True):
            digest.update(f"{name}\t{size}\t{label}\n".encode())
        return digest.hexdigest()


def from_folder(root: Path, names: Sequence[str], index: int) -> bytes:
    return (root / names[index]).read_bytes()  # a million names go to a loader process in 0.5 s, Paths in 14


def _from_tars(files: Sequence[Path], spans: Sequence[tuple[int, int, int]], index: int) -> bytes:
    """spans: (file, offset, size). Opens the file each time, so that processes share no place in it."""
    number, offset, size = spans[index]
    with files[number].open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _from_rows(rows: Any, index: int) -> bytes:
    """rows: a Hugging Face dataset whose `image` column is not decoded."""
    image = rows[index]["image"]
    return image["bytes"] or Path(image["path"]).read_bytes()


def open_source(data: str | Path, split: Literal["train", "val"]) -> Source:
    """The "train" or "val" images under `data`.

    data: a directory with `train` and `val` (or `validation`) folders of class folders, or of tar files, or with
    `train*.tar` and `val*.tar` (or `*-train-*.tar`, as timm's) beside each other; or "hfds/NAME", where NAME is on the
    hub or a directory that `datasets` wrote or can load. Tar members are labelled by their folder, or WebDataset's
    way by KEY.cls or the "label" in KEY.json. Sorted class folders (by number, where they are numbers) are the
    classes 0, 1, ...

    Raises UsageError naming what is missing, empty or unreadable.
    """
    if str(data).startswith("hfds/"):
        return open_rows(str(data).removeprefix("hfds/"), "train" if split == "train" else "validation")
    root = Path(data)
    for name in _SPLITS[split]:
        if (root / name).is_dir():
            return open_folder(root / name)
        if tars := sorted({*root.glob(f"{name}*.tar"), *root.glob(f"*-{name}-*.tar")}):
            return _tars(tars)
    found = sorted(p.name for p in root.iterdir())[:5] if root.is_dir() else []
    raise UsageError(
        f"no {split} images", source=str(root), expected=f"a folder or .tar files named {' or '.join(_SPLITS[split])}",
        actual=", ".join(found) or "nothing there", next="robust-zoo train --help   describes the layouts",
    )  # fmt: skip


def open_folder(root: Path) -> Source:
    """The images of one directory: tar files, else class folders."""
    tars = sorted(root.glob("[!.]*.tar"))
    return _tars(tars) if tars else _folders(root)


def _folders(root: Path) -> Source:
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
                raise _empty(root / name, "images in every class folder", "none here")
    except OSError as error:  # a link to nowhere, a folder without permission
        raise _empty(root, "readable files", str(error)) from None
    if not classes:
        raise _empty(root, "class folders", "none")
    return Source(names, sizes, torch.tensor(labels), tuple(classes), partial(from_folder, root, names))


def _images(folder: Path, name: str) -> Iterator[tuple[str, int]]:
    """(name, bytes) of the images in a folder called `name`, at any depth, sorted; what is hidden is passed over."""
    with os.scandir(folder) as entries:  # twice as fast as rglob, which counts for a million files
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _images(folder / entry.name, f"{name}/{entry.name}")
            elif _is_image(entry.name) and not entry.is_dir():
                yield f"{name}/{entry.name}", entry.stat().st_size


def in_order(classes: Iterable[str]) -> list[str]:
    """Class folders by name; by number where all are numbers (or ImageNetV2's "10" would come before its "2")."""
    names = list(classes)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def _is_image(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in _IMAGES and not any(part.startswith(".") for part in path.parts)


def _tars(files: list[Path]) -> Source:
    entries: list[tuple[str, tuple[int, int, int], str | int]] = []
    for number, file in enumerate(files):
        try:
            entries += _members(number, file)
        except (tarfile.TarError, OSError, ValueError, TypeError, AttributeError) as error:  # the last three: labels
            raise _empty(file, "a sound .tar file", str(error)) from None
    if not entries:
        raise _empty(files[0].parent, "labelled images in the .tar files", "none")
    kinds = {type(label) for _, _, label in entries}
    if len(kinds) > 1:
        raise _empty(files[0].parent, "one way of labelling in all shards", "class folders and .cls files")
    names, spans, labels = zip(*sorted(entries, key=lambda entry: entry[0]), strict=True)
    if "" in labels:
        raise _empty(files[0].parent, "class folders in the .tar files, or .cls files", f"{names[0]}, without a class")
    classes = in_order(set(labels)) if kinds == {str} else []
    number_of = {name: i for i, name in enumerate(classes)}
    found = torch.tensor([number_of.get(label, label) for label in labels])
    return Source(names, [span[2] for span in spans], found, tuple(classes), partial(_from_tars, files, spans))


def _members(number: int, file: Path) -> Iterator[tuple[str, tuple[int, int, int], str | int]]:
    """(name, (shard, offset, size), class number or folder) of a shard's images; only headers and labels are read."""
    images: dict[str, tuple[str, tuple[int, int, int]]] = {}
    numbers: dict[str, int] = {}
    with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as tar:  # uncompressed: read where it lies
        for member in tar:
            key, dot, kind = member.name.rpartition(".")
            if not member.isfile() or not dot:
                continue
            if _is_image(member.name):
                images[key] = (member.name, (number, member.offset_data, member.size))
            elif kind in ("cls", "json") and (content := tar.extractfile(member)):
                label = _number(kind, content.read())
                if label is not None and (kind == "cls" or key not in numbers):
                    numbers[key] = label
        raw.seek(tar.offset)
        if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes a damaged header for the end
            raise ValueError(f"no end mark at byte {tar.offset}: cut short or damaged there")
    for key, (name, span) in images.items():
        if not numbers:
            yield name, span, Path(name).parent.name
        elif key in numbers:
            yield f"{file.name}/{name}", span, numbers[key]
        else:
            raise ValueError(f"{name} has no .cls or .json beside it")


def _number(kind: str, text: bytes) -> int | None:
    """The class in a .cls or .json member; None where the JSON has no "label" (a caption, say)."""
    found = json.loads(text).get("label") if kind == "json" else text
    if found is not None and int(found) < 0:
        raise ValueError(f"a label of {int(found)}")
    return None if found is None else int(found)


def open_rows(name: str, wanted: str, columns: tuple[str, ...] = _LABEL) -> Source:
    """The `wanted` split of a dataset on the hub or one that `datasets` saved in the directory `name`.

    columns: of the labels, the first that is there. With columns of the caller's choice the classes are the sorted
    values (by number where they are numbers), whatever they count from; else labels count from 0.

    Raises UsageError.
    """
    try:
        import datasets
        import pyarrow.compute as pc  # comes with it
    except ImportError:
        raise UsageError(
            "hfds/ needs Hugging Face's datasets library", expected="the hf extra", actual="datasets is not installed",
            next="pip install 'robust-zoo[hf]'",
        ) from None  # fmt: skip
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
        raise UsageError(
            f"cannot read {wanted} of the dataset {name}", source=f"hfds/{name}",
            expected=f"a dataset with a {wanted} split and the columns image and label", actual=str(error).strip(),
        ) from None  # fmt: skip
    names = [Path(path).name if path else str(number) for number, path in enumerate(paths)]
    return Source(names, sizes, labels, classes, partial(_from_rows, rows))


def check_classes(train: Source, val: Source) -> None:
    """Raises UsageError when the class folders of the splits differ: the same number would mean different classes."""
    if train.classes and val.classes and train.classes != val.classes:
        raise UsageError(
            "the splits have different classes", source=val.names[0], expected=f"the {len(train.classes)} of train",
            actual=f"{len(val.classes)}; in one only: {', '.join(sorted({*train.classes} ^ {*val.classes})[:5])}",
            next="robust-zoo train --help   describes the layouts",
        )  # fmt: skip


def _empty(where: Path, expected: str, actual: str) -> UsageError:
    return UsageError(
        "not a dataset of images", source=str(where), expected=expected, actual=actual,
        next="robust-zoo train --help   describes the layouts",
    )  # fmt: skip
