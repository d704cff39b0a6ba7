"""The transfer datasets by name: found, counted against the official splits, and opened; or any image folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

from robust_zoo.errors import UsageError, VerificationFailed, closest
from robust_zoo.readers import read_toml
from robust_zoo.text import printable
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.data.hf_rows import HF
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.transfer import layouts
from robust_zoo.training.transfer.open_files import folder_target, listed_files, rows_target, saved_tables
from robust_zoo.training.transfer.task import Target

_TOML = Path(__file__).with_name("datasets.toml")


@dataclass(frozen=True)
class TargetDataset:
    """A transfer dataset of datasets.toml.

    Attributes:
        name: As users and cells have it.
        title: In words, with the version.
        classes: How many.
        train: Training images of the official split.
        val: Validation images, 0 where there is no such split.
        test: Test images.
        metric: What the field reports, one of `task.METRICS`.
        layout: A reader of `layouts`, by name.
        marker: The file or folder by which that layout is known.
        folders: Where `marker` is looked for under the root.
        hf_label: The column of labels in Hugging Face copies.
        torchvision: The class that reads or fetches it, "" for none.
        where: Where to get it, in words.
        licence: Of the images.
        paper: Its source.
        note: What to know of its images, "" for nothing.
        partial: Official images are gone for good: a copy may lack some and says so.
    """

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
    """All of datasets.toml, by name."""
    data = read_toml(_TOML)
    return MappingProxyType({n: TargetDataset(n, **v | {"folders": tuple(v["folders"])}) for n, v in data.items()})


def get_dataset(name: str) -> TargetDataset:
    """Looks a dataset up.

    Args:
        name: In any case.

    Returns:
        The dataset.

    Raises:
        UsageError: No dataset has that name; the closest is in the error.
    """
    by_name = {known.lower(): dataset for known, dataset in load_datasets().items()}
    if name.lower() in by_name:
        return by_name[name.lower()]
    near = closest(name.lower(), by_name, n=1)[0]
    raise UsageError(
        f"unknown dataset {name!r}",
        expected=f"a directory, or one of {', '.join(load_datasets())}",
        actual=repr(name),
        next=f"robust-zoo data list   (closest: {by_name[near].name})",
    )


def open_target(name: str, root: Path = Path(), *, workers: int = 0, dataset: TargetDataset | None = None) -> Target:
    """Opens a dataset by name, its splits checked, or any image folder.

    Args:
        name: Of a dataset; or a folder that holds train/ and test/ (or val/) of class folders, or class folders alone,
            of which every fifth image by the hash of its path is for testing; or "hfds/NAME".
        root: The folder that named datasets lie under.
        workers: Loader processes, 0 for none.
        dataset: Instead of the named one.

    Returns:
        The splits, the classes and what is to be said beside figures. A folder that is called as a dataset is called
        "pets (unchecked)".

    Raises:
        UsageError: Something is missing, or the name is unknown.
        VerificationFailed: The copy is broken: wrong counts, listed files that are not there, images in two splits.
    """
    if dataset is None and name.startswith(HF):
        return _own(rows_target(name, workers))
    if dataset is None and (Path(name).is_dir() or (Path(name).suffix and Path(name).is_file())):
        return _own(folder_target(Path(name), workers))
    dataset = dataset or get_dataset(name)
    kind, place = locate(dataset, root)
    try:
        splits, classes = _read(dataset, kind, place, workers)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        named = f"{error.filename} is missing" if isinstance(error, FileNotFoundError) else str(error)
        raise _broken(dataset, place, f"the {kind} layout of {dataset.title}", named) from None
    note = check(dataset, splits, classes, place)
    return Target(dataset.name, classes, splits["train"], splits.get("val"), splits["test"], dataset.metric, note)


def _own(target: Target) -> Target:
    """Images of anyone's, under a name that can be printed and is none of the twelve: those have published figures."""
    name = printable(target.name)
    return replace(target, name=f"{name} (unchecked)" if name in load_datasets() else name)


def locate(dataset: TargetDataset, root: Path) -> tuple[str, Path]:
    """Finds the first layout of a dataset under a folder.

    Args:
        dataset: What is looked for.
        root: The folder that datasets lie under.

    Returns:
        "official", "folders", "hugging face" or "npz", and where.

    Raises:
        UsageError: There is none; the error says where to get the dataset.
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
        return saved_tables(place, dataset.hf_label, validation=dataset.val > 0, workers=workers)
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
        opened[split] = listed_files(place, kept, listing.classes, workers)
    return opened, listing.classes


def check(dataset: TargetDataset, splits: Mapping[str, Dataset], classes: tuple[str, ...], place: Path) -> str:
    """Compares a copy's counts with the official ones.

    Args:
        dataset: The official counts.
        splits: What was read, by split.
        classes: Their names.
        place: Where the copy lies.

    Returns:
        What is to be said beside figures of this copy, "" for nothing.

    Raises:
        VerificationFailed: The copy is not the official dataset: other counts, or an image in two splits.
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
