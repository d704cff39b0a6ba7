"""The transfer datasets by name: found, counted against the official splits, and opened; or any image folder."""

from __future__ import annotations

import difflib
import hashlib
import json
import pickle
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType

import torch

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.data.encoded import EncodedImages, in_order
from robust_zoo.training.data.folders import from_folder, open_folder, open_rows
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.transfer import layouts
from robust_zoo.training.transfer.task import Target

_TOML = Path(__file__).with_name("datasets.toml")


@dataclass(frozen=True)
class TargetDataset:
    """One of the twelve datasets; the fields are explained in datasets.toml."""

    name: str
    title: str
    classes: int
    train: int
    val: int
    test: int
    metric: str
    layout: str
    marker: str
    folders: tuple[str, ...]
    hf_label: str
    torchvision: str
    where: str
    licence: str
    paper: str
    note: str
    partial: bool = False

    @property
    def fetchable(self) -> bool:
        """Whether torchvision knows a host that still lives."""
        return bool(self.torchvision) and not self.partial


@cache
def load_datasets() -> Mapping[str, TargetDataset]:
    data = tomllib.loads(_TOML.read_text(encoding="utf-8"))
    return MappingProxyType({n: TargetDataset(n, **v | {"folders": tuple(v["folders"])}) for n, v in data.items()})


def get_dataset(name: str) -> TargetDataset:
    """By name, in any case. Raises UsageError naming the closest."""
    by_name = {known.lower(): dataset for known, dataset in load_datasets().items()}
    if name.lower() in by_name:
        return by_name[name.lower()]
    near = difflib.get_close_matches(name.lower(), by_name, n=1, cutoff=0.0)[0]
    raise UsageError(
        f"unknown dataset {name!r}",
        expected=f"a directory, or one of {', '.join(load_datasets())}",
        actual=repr(name),
        next=f"robust-zoo data list   (closest: {by_name[near].name})",
    )


def open_target(name: str, root: Path = Path(), *, workers: int = 0, dataset: TargetDataset | None = None) -> Target:
    """A dataset by name under `root`, or the image folder `name`: its splits, checked.

    A folder holds train/ and test/ (or val/) of class folders, or class folders alone, of which every fifth image by
    the hash of its path is for testing. dataset: instead of the named one.

    Raises UsageError for what is missing, VerificationFailed for what is broken: wrong counts, listed files that are
    not there, images in two splits.
    """
    if dataset is None and Path(name).is_dir():
        return _folder(Path(name), workers)
    dataset = dataset or get_dataset(name)
    kind, place = locate(dataset, root)
    try:
        splits, classes = _read(dataset, kind, place, workers)
    except (OSError, ValueError, KeyError, IndexError, TypeError, pickle.UnpicklingError) as error:
        named = f"{error.filename} is missing" if isinstance(error, FileNotFoundError) else str(error)
        raise _broken(dataset, place, f"the {kind} layout of {dataset.title}", named) from None
    note = check(dataset, splits, classes, place)
    return Target(dataset.name, classes, splits["train"], splits.get("val"), splits["test"], dataset.metric, note)


def locate(dataset: TargetDataset, root: Path) -> tuple[str, Path]:
    """("official" | "folders" | "hugging face" | "npz", where): the first layout found under `root`.

    Raises UsageError saying where to get the dataset.
    """
    places = [root / folder for folder in dataset.folders] + [root / dataset.name]
    for place in places:
        if (place / dataset.marker).exists() and dataset.layout != "folders":
            return "official", place
    for place in places:
        if (place / "dataset_dict.json").is_file():
            return "hugging face", place
        if (place / "train").is_dir():
            return "folders", place
        if (place / f"{dataset.name}.npz").is_file():
            return "npz", place / f"{dataset.name}.npz"
    raise UsageError(
        f"{dataset.title} is not under {root}",
        source=str(root),
        expected=f"{dataset.marker} in {' or '.join(dataset.folders)}, train/ and test/, or a copy saved by `datasets`",
        actual="none of them",
        next=f"robust-zoo data prepare {dataset.name} --root {root}   ({dataset.where})",
    )


def _read(dataset: TargetDataset, kind: str, place: Path, workers: int) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    if kind == "npz" or (kind == "official" and dataset.layout in layouts.IN_MEMORY):
        found = layouts.npz(place) if kind == "npz" else layouts.IN_MEMORY[dataset.layout](place)
        classes = max(int(data.labels.max()) for data in found.values()) + 1
        return dict(found), tuple(str(label) for label in range(classes))
    if kind == "hugging face":
        return _hugging_face(dataset, place, workers)
    listing = layouts.folders(place) if kind == "folders" else layouts.LISTED[dataset.layout](place)
    number = {label: i for i, label in enumerate(listing.classes)}
    opened: dict[str, Dataset] = {}
    for split, files in listing.splits.items():
        if strange := sorted({label for _, label in files} - set(number)):
            raise _broken(dataset, place, f"one of the {len(number)} classes", f"class {strange[0]!r} in {split}")
        names = [name for name, _ in files]
        missing = [name for name in names if not (place / name).is_file()]
        if missing and not dataset.partial:
            raise _broken(
                dataset, place, f"every file listed in {split}", f"{len(missing)} missing, first {missing[0]}"
            )
        kept = [(name, number[label]) for name, label in files if (place / name).is_file()]
        opened[split] = _files(place, kept, listing.classes, workers)
    return opened, listing.classes


def _files(root: Path, pairs: list[tuple[str, int]], classes: tuple[str, ...], workers: int) -> ImageFiles:
    names = [name for name, _ in pairs]
    sizes = [(root / name).stat().st_size for name in names]
    labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
    return ImageFiles(EncodedImages(names, sizes, labels, classes, partial(from_folder, root, names)), workers=workers)


def _hugging_face(dataset: TargetDataset, place: Path, workers: int) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Splits that `datasets` saved. Labels that are words count the sorted words; numbers begin at the lowest."""
    kinds = json.loads((place / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    called = {"train": ("train",), "test": ("test",), "val": ("validation", "val", "valid")}
    if dataset.val == 0 and "test" not in kinds:  # ethz/food101 calls its test split validation
        called = {"train": ("train",), "test": called["val"]}
    found = {split: next((k for k in kinds if k in names), None) for split, names in called.items()}
    rows = {
        split: open_rows(str(place), kind, (dataset.hf_label, "label", "labels"))
        for split, kind in found.items()
        if kind and (split != "val" or dataset.val)
    }
    words = in_order({str(label) for source in rows.values() for label in source.classes})
    number = {word: i for i, word in enumerate(words)}
    opened: dict[str, Dataset] = {}
    for split, source in rows.items():
        labels = torch.tensor([number[source.classes[i]] for i in source.labels.tolist()])
        listed = EncodedImages(source.names, source.sizes, labels, tuple(words), source.read)
        opened[split] = ImageFiles(listed, workers=workers)
    return opened, tuple(words)


def check(dataset: TargetDataset, splits: Mapping[str, Dataset], classes: tuple[str, ...], place: Path) -> str:
    """Counts against the official ones; returns what is to be said beside figures of this copy.

    Raises VerificationFailed.
    """
    sizes = {split: len(data) for split, data in splits.items()}
    if len(classes) != dataset.classes:
        raise _broken(dataset, place, f"{dataset.classes} classes", f"{len(classes)}")
    train = sizes["train"] + sizes.get("val", 0)
    short = []
    for split, found, official in (
        ("training", train, dataset.train + dataset.val),
        ("test", sizes["test"], dataset.test),
    ):
        if found == 0 or found > official or (found < official and not dataset.partial):
            raise _broken(dataset, place, f"{official:,} {split} images", f"{found:,}")
        if found < official:
            short.append(f"{found:,} of {official:,} official {split} images")
    listed = [set(data.source.names) for data in splits.values() if isinstance(data, ImageFiles)]
    if all("/" in name for names in listed for name in names):  # paths, not the numbers of a table's rows
        count = Counter(name for names in listed for name in names)
        if twice := sorted(name for name, times in count.items() if times > 1):
            raise _broken(dataset, place, "every image in one split", f"{len(twice)} in two, first {twice[0]}")
    return "; ".join(short)


def _broken(dataset: TargetDataset, place: Path, expected: str, actual: str) -> VerificationFailed:
    return VerificationFailed(
        f"this copy of {dataset.title} is not the official one",
        model=dataset.name,
        source=str(place),
        expected=expected,
        actual=actual,
        next=f"robust-zoo data check {dataset.name} --root {place}",
    )


def _folder(path: Path, workers: int) -> Target:
    """Any image folder, under its own name."""
    if (path / "train").is_dir():
        listing = layouts.folders(path)
        number = {label: i for i, label in enumerate(listing.classes)}
        parts = {
            split: _files(path, [(name, number[label]) for name, label in files], listing.classes, workers)
            for split, files in listing.splits.items()
        }
        return Target(path.name, listing.classes, parts["train"], None, parts["test"])
    source = open_folder(path)
    hashed = [hashlib.sha256(name.encode()).digest()[0] % 5 == 0 for name in source.names]
    test = torch.tensor(hashed)
    for label in source.labels.unique():  # a small class may have drawn none, or only test images
        members = (source.labels == label).nonzero().flatten()
        if len(members) < 2:
            raise UsageError(
                f"class {source.classes[int(label)]} has one image",
                source=str(path),
                expected="two or more a class",
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
