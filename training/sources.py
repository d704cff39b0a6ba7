"""Where the encoded images of a large dataset lie: class folders, tar shards, a Hugging Face dataset; read at random.

Reading by index, in any order, is what makes a run independent of its workers; nothing is ever unpacked.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robust_zoo.errors import UsageError

_IMAGES = {".jpg", ".jpeg", ".png", ".webp"}
_SPLITS = {"train": ("train",), "val": ("val", "validation")}


@dataclass(frozen=True)
class Source:
    """Labelled encoded images. names, sizes (bytes) and labels, (N,) int64, by index; read(index) -> the file's bytes.

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


@dataclass(frozen=True)
class _Spans:
    """Reads (file, offset, size); picklable, so that loader processes can have it."""

    files: tuple[Path, ...]
    spans: Sequence[tuple[int, int, int]]

    def __call__(self, index: int) -> bytes:
        number, offset, size = self.spans[index]
        with self.files[number].open("rb") as file:
            file.seek(offset)
            return file.read(size)


@dataclass(frozen=True)
class _Paths:
    paths: Sequence[Path]

    def __call__(self, index: int) -> bytes:
        return self.paths[index].read_bytes()


@dataclass(frozen=True)
class _Rows:
    """Of a Hugging Face dataset whose `image` column is not decoded."""

    rows: Any

    def __call__(self, index: int) -> bytes:
        image = self.rows[index]["image"]
        return image["bytes"] or Path(image["path"]).read_bytes()


def open_source(data: str | Path, split: str) -> Source:
    """The "train" or "val" images under `data`.

    data: a directory with `train` and `val` (or `validation`) folders of class folders, or of tar files, or with
    `train*.tar` and `val*.tar` beside each other; or "hfds/NAME", where NAME is on the hub or a directory that
    `datasets.save_to_disk` wrote. Tar members are labelled by their folder, or WebDataset's way by KEY.cls or the
    "label" in KEY.json. Sorted class folders (by number, where they are numbers) are the classes 0, 1, ...

    Raises UsageError naming what is missing, empty or unreadable.
    """
    if str(data).startswith("hfds/"):
        return _hugging_face(str(data).removeprefix("hfds/"), split)
    root = Path(data)
    for name in _SPLITS[split]:
        if (root / name).is_dir():
            return open_folder(root / name)
        if tars := sorted(root.glob(f"{name}*.tar")):
            return _tars(tars)
    found = sorted(p.name for p in root.iterdir())[:5] if root.is_dir() else []
    raise UsageError(
        f"no {split} images", source=str(root), expected=f"a folder or .tar files named {' or '.join(_SPLITS[split])}",
        actual=", ".join(found) or "nothing there", next="robust-zoo train --help   describes the layouts",
    )  # fmt: skip


def open_folder(root: Path) -> Source:
    """The images of one directory: tar files, else class folders."""
    tars = sorted(root.glob("*.tar"))
    return _tars(tars) if tars else _folders(root)


def _folders(root: Path) -> Source:
    """Class folders, images at any depth below them."""
    classes = in_order(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise _empty(root, "class folders", "none")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        inside = sorted(p for p in (root / name).rglob("*") if _is_image(p.name))
        if not inside:
            raise _empty(root / name, "images in every class folder", "none here")
        paths += inside
        labels += [label] * len(inside)
    names = [p.relative_to(root).as_posix() for p in paths]
    return Source(names, [p.stat().st_size for p in paths], torch.tensor(labels), tuple(classes), _Paths(paths))


def in_order(classes: Iterable[str]) -> list[str]:
    """Class folders by name; by number where all are numbers (or ImageNetV2's "10" would come before its "2")."""
    names = list(classes)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in _IMAGES and not Path(name).name.startswith(".")


def _tars(files: list[Path]) -> Source:
    entries: list[tuple[str, tuple[int, int, int], str | int]] = []
    for number, file in enumerate(files):
        try:
            entries += _members(number, file)
        except (tarfile.TarError, OSError, ValueError) as error:
            raise _empty(file, "a sound .tar file", str(error)) from None
    if not entries:
        raise _empty(files[0].parent, "labelled images in the .tar files", "none")
    kinds = {type(label) for _, _, label in entries}
    if len(kinds) > 1:
        raise _empty(files[0].parent, "one way of labelling in all shards", "class folders and .cls files")
    names, spans, labels = zip(*sorted(entries, key=lambda entry: entry[0]), strict=True)
    classes = in_order(set(labels)) if kinds == {str} else []
    number_of = {name: i for i, name in enumerate(classes)}
    found = torch.tensor([number_of.get(label, label) for label in labels])
    return Source(names, [span[2] for span in spans], found, tuple(classes), _Spans(tuple(files), spans))


def _members(number: int, file: Path) -> Iterator[tuple[str, tuple[int, int, int], str | int]]:
    """(name, (shard, offset, size), class number or folder) of a shard's images; only headers and labels are read."""
    images: dict[str, tuple[str, tuple[int, int, int]]] = {}
    numbers: dict[str, int] = {}
    with tarfile.open(file) as tar:
        for member in tar:
            key, dot, kind = member.name.rpartition(".")
            if not member.isfile() or not dot:
                continue
            if _is_image(member.name):
                images[key] = (member.name, (number, member.offset_data, member.size))
            elif kind in ("cls", "json") and (content := tar.extractfile(member)):
                text = content.read()
                numbers[key] = int(text) if kind == "cls" else int(json.loads(text)["label"])
    for key, (name, span) in images.items():
        if not numbers:
            yield name, span, Path(name).parent.name
        elif key in numbers:
            yield f"{file.name}/{name}", span, numbers[key]
        else:
            raise ValueError(f"{name} has no .cls or .json beside it")


def _hugging_face(name: str, split: str) -> Source:
    try:
        import datasets
    except ImportError:
        raise UsageError(
            "hfds/ needs Hugging Face's datasets library", expected="the hf extra", actual="datasets is not installed",
            next="pip install 'robust-zoo[hf]'",
        ) from None  # fmt: skip
    wanted = "train" if split == "train" else "validation"
    try:
        if Path(name).is_dir():
            rows = datasets.load_from_disk(name)[wanted]
        else:
            rows = datasets.load_dataset(name, split=wanted)
        labels = torch.tensor(rows["label"][:])
        rows = rows.cast_column("image", datasets.Image(decode=False)).select_columns(["image"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"cannot read {wanted} of the dataset {name}", source=f"hfds/{name}",
            expected=f"a dataset with a {wanted} split and the columns image and label", actual=str(error).strip(),
        ) from None  # fmt: skip
    count = len(rows)
    return Source([str(i) for i in range(count)], [0] * count, labels, (), _Rows(rows))


def _empty(where: Path, expected: str, actual: str) -> UsageError:
    return UsageError(
        "not a dataset of images", source=str(where), expected=expected, actual=actual,
        next="robust-zoo train --help   describes the layouts",
    )  # fmt: skip
