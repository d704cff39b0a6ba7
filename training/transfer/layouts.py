"""The official layouts of the transfer datasets: a directory -> which file is in which split, and of which class.

Every reader returns a `Listing`; labels come from the official lists or from class names, never from the order in
which a file system happens to name folders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_zoo.errors import UsageError, not_installed
from robust_zoo.readers import read_json, read_text
from robust_zoo.text import listed
from robust_zoo.training.data.dataset import Images, load_npz
from robust_zoo.training.data.encoded import in_order
from robust_zoo.training.data.tree import find_layout, read_classes
from robust_zoo.training.transfer.cifar_batches import cifar

_LISTS = 1 << 26  # bytes; the longest official list has about 5 MB
Files = list[tuple[str, str]]  # (path under the root, class name)


@dataclass(frozen=True)
class Listing:
    """Which file is in which split, and of which class.

    Attributes:
        root: The folder that paths begin at.
        splits: "train", "test" and where there is one "val".
        classes: In the order of their labels.
    """

    root: Path
    splits: dict[str, Files]
    classes: tuple[str, ...]


def _lines(file: Path) -> list[str]:
    return [line for line in read_text(file, _LISTS).splitlines() if line.strip()]


def aircraft(root: Path) -> Listing:
    """images_variant_<split>.txt: "0034309 707-320"; names hold "/", so folders could not be called by them."""

    def read(split: str) -> Files:
        pairs = (line.split(" ", 1) for line in _lines(root / f"images_variant_{split}.txt"))
        return [(f"images/{number}.jpg", variant.strip()) for number, variant in pairs]

    classes = tuple(line.strip() for line in _lines(root / "variants.txt"))
    return Listing(root, {split: read(split) for split in ("train", "val", "test")}, classes)


def dtd(root: Path) -> Listing:
    """labels/<split>1.txt: "banded/banded_0002.jpg"."""

    def read(split: str) -> Files:
        return [(f"images/{name.strip()}", name.split("/")[0]) for name in _lines(root / f"labels/{split}1.txt")]

    return _sorted_classes(root, {split: read(split) for split in ("train", "val", "test")})


def flowers(root: Path) -> Listing:
    """imagelabels.mat (1 ... 102 by image) and setid.mat (trnid, valid, tstid), image numbers from 1."""
    labels = _mat(root / "imagelabels.mat", "labels").flatten()
    parts = {"train": "trnid", "val": "valid", "test": "tstid"}
    splits = {
        split: [
            (f"jpg/image_{n:05d}.jpg", str(labels[n - 1])) for n in _mat(root / "setid.mat", key).flatten().tolist()
        ]
        for split, key in parts.items()
    }
    return _sorted_classes(root, splits)


def food(root: Path) -> Listing:
    """meta/<split>.json: {"apple_pie": ["apple_pie/1005649", ...]}."""

    def read(split: str) -> Files:
        found = read_json(root / f"meta/{split}.json", limit=_LISTS)
        return [(f"images/{name}.jpg", label) for label, names in found.items() for name in names]

    return _sorted_classes(root, {split: read(split) for split in ("train", "test")})


def pets(root: Path) -> Listing:
    """annotations/<list>.txt: "Abyssinian_100 1 1 1" (name, class id from 1, species, breed)."""
    names: dict[int, str] = {}

    def read(part: str) -> Files:
        found = []
        for line in _lines(root / f"annotations/{part}.txt"):
            if not line.startswith("#"):
                name, number = line.split()[:2]
                breed = names.setdefault(int(number), name.rpartition("_")[0])
                found.append((f"images/{name}.jpg", breed))
        return found

    splits = {"train": read("trainval"), "test": read("test")}
    return Listing(root, splits, tuple(names[number] for number in sorted(names)))


def cars(root: Path) -> Listing:
    """The .mat files of the devkit; the labelled test list lies beside it in some copies and inside in others."""
    devkit = root / "devkit"
    names = [str(name) for name in _mat(devkit / "cars_meta.mat", "class_names").flatten()]
    candidates = [
        folder / name
        for folder in (root, devkit)
        for name in ("cars_test_annos_withlabels.mat", "cars_test_annoswithlabels.mat")
    ]
    labelled = next((file for file in candidates if file.is_file()), candidates[0])

    def read(file: Path, folder: str) -> Files:
        nested = root / folder / folder  # as the usual Kaggle copy unpacks
        inside = f"{folder}/{folder}" if nested.is_dir() else folder
        return [
            (f"{inside}/{row['fname']!s}", names[int(row["class"]) - 1]) for row in _mat(file, "annotations").flatten()
        ]

    splits = {"train": read(devkit / "cars_train_annos.mat", "cars_train"), "test": read(labelled, "cars_test")}
    return Listing(root, splits, tuple(names))


def sun397(root: Path) -> Listing:
    """Training_01.txt and Testing_01.txt: "/a/abbey/sun_x.jpg"; a class is the path, for some are nested."""
    classes = (
        tuple(line.strip() for line in _lines(root / "ClassName.txt")) if (root / "ClassName.txt").is_file() else ()
    )

    def read(name: str) -> Files:
        paths = [line.strip().lstrip("/") for line in _lines(root / name)]
        return [(path, "/" + path.rpartition("/")[0]) for path in paths]

    splits = {"train": read("Training_01.txt"), "test": read("Testing_01.txt")}
    return Listing(root, splits, classes) if classes else _sorted_classes(root, splits)


def _first(folder: str, count: int, background: str = "") -> Callable[[Path], Listing]:
    """The first `count` files of each class by name are for training, the others to test on (upstream's rule)."""

    def read(root: Path) -> Listing:
        splits: dict[str, Files] = {"train": [], "test": []}
        for label in sorted(p.name for p in (root / folder).iterdir() if p.is_dir() and p.name != background):
            files = sorted(p.name for p in (root / folder / label).iterdir() if p.suffix.lower() == ".jpg")
            for place, name in enumerate(files):
                splits["train" if place < count else "test"].append((f"{folder}/{label}/{name}", label))
        return _sorted_classes(root, splits)

    return read


def folders(root: Path) -> Listing:
    """Folders of class folders for training and testing, as find_layout knows them; empty classes count, so that no
    label shifts.

    Args:
        root: Holds the two.

    Returns:
        The splits "train" and "test".

    Raises:
        UsageError: One of the two is not there.
    """
    layout = find_layout(root)
    places = {"train": layout.splits.get("train"), "test": layout.splits.get("test", layout.splits.get("val"))}
    read = {
        split: (place.relative_to(root), read_classes(place, layout.left_out, empty=True))
        for split, place in places.items()
        if place
    }
    if len(read) < 2:
        found = listed(path.name for path in root.iterdir())
        raise UsageError("no splits", source=str(root), expected="the folders train and test (or val)", actual=found)
    classes = in_order({label for _, found in read.values() for label in found})
    splits = {
        split: [(f"{place}/{name}", label) for label in classes for name, _ in found.get(label, [])]
        for split, (place, found) in read.items()
    }
    return Listing(root, splits, tuple(classes))


def _sorted_classes(root: Path, splits: dict[str, Files]) -> Listing:
    """Classes in the order of their names, or of their numbers."""
    return Listing(root, splits, tuple(in_order({label for files in splits.values() for _, label in files})))


def _mat(file: Path, key: str) -> Any:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise not_installed(f"{file.name} needs scipy", "scipy", "training") from None
    with file.open("rb") as opened:  # scipy does not name a file that is missing
        return loadmat(opened, squeeze_me=True)[key]


def npz(file: Path) -> dict[str, Images]:
    """x_train, y_train, x_test, y_test, as the rest of the package takes them."""
    return {split: load_npz(file, split) for split in ("train", "test")}


LISTED: dict[str, Callable[[Path], Listing]] = {
    "aircraft": aircraft, "caltech101": _first("101_ObjectCategories", 30, "BACKGROUND_Google"),
    "caltech256": _first("256_ObjectCategories", 60), "cars": cars, "dtd": dtd, "flowers": flowers,
    "folders": folders, "food": food, "pets": pets, "sun397": sun397,
}  # fmt: skip
IN_MEMORY: dict[str, Callable[[Path], dict[str, Images]]] = {
    "cifar10": cifar([f"data_batch_{i}" for i in range(1, 6)], "test_batch", "labels"),
    "cifar100": cifar(["train"], "test", "fine_labels"),
}
