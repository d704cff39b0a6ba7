"""Encoded, labelled images that can be read by index: what every layout on disk becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from robust_zoo.errors import UsageError
from robust_zoo.training.data.contents import Digests
from robust_zoo.training.data.decode import endings

LAYOUTS = "robust-zoo data check --help   describes the layouts"  # what errors say next
_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r", "$recycle.bin", "lost+found",
            "system volume information", "__pycache__"}  # fmt: skip


@dataclass(frozen=True)
class EncodedImages:
    """Labelled encoded images, by index; picklable, for loader processes.

    Attributes:
        names: What errors call the images.
        sizes: In bytes.
        labels: (N,) int64.
        classes: The folders that labels stand for, () where the dataset numbers its classes itself.
        read: index -> the file's bytes.
        note: Of a folder: what was taken of it, what was left out.
        digests: What was hashed of the images so far, in this process.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    labels: Tensor
    classes: tuple[str, ...]
    read: Callable[[int], bytes]
    note: str = ""
    digests: Digests = field(default_factory=Digests, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.names)


def in_order(classes: Iterable[str]) -> list[str]:
    """Sorts class folders by name; by number where all are numbers (or ImageNetV2's "10" would come before its "2").

    Args:
        classes: Their names.

    Returns:
        The names; a class's label is its place.
    """
    names = list(classes)
    return sorted(names, key=lambda name: (int(name), name)) if all(n.isdecimal() for n in names) else sorted(names)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a system leaves about (Thumbs.db, __MACOSX)."""
    return name.startswith(".") or name.casefold() in _SYSTEMS


def counted(source: EncodedImages, where: Path | str) -> EncodedImages:
    """Names the classes of labels that are numbers, by these numbers.

    Args:
        source: Labelled images.
        where: They come from, for errors.

    Returns:
        The same images, with a name for each label.

    Raises:
        UsageError: Labels that are numbers do not count from 0, or leave some out.
    """
    if source.classes or not len(source):
        return source
    numbers = source.labels.unique().tolist()
    gap = next((i for i, number in enumerate(numbers) if i != number), None)
    if gap is None:
        return replace(source, classes=tuple(str(number) for number in numbers))
    of = source.names[int((source.labels == numbers[gap]).nonzero()[0])]
    raise not_a_dataset(
        where,
        "labels that count classes from 0, an image or more of each",
        f"labels {numbers[0]} to {numbers[-1]}, none of {gap}; the next higher is {numbers[gap]}, first of {of}",
        next="write names into the labels (they are numbered here)"
        + (", or take 1 from each number" if numbers[0] == 1 else ", or number the classes 0, 1, 2, ..."),
    )


def is_image(name: str) -> bool:
    """Whether a path ends as images do that can be decoded here, and no part of it is hidden."""
    path = Path(name)
    return path.suffix.lower() in endings() and not any(map(is_hidden, path.parts))


def not_a_dataset(where: Path | str, expected: str, actual: str, *, next: str = LAYOUTS) -> UsageError:
    """The error for a folder or tar file that is not laid out as a dataset.

    Args:
        where: The folder or file.
        expected: In words.
        actual: What is there instead.
        next: What to do.

    Returns:
        The error, to be raised.
    """
    return UsageError("not a dataset of images", source=str(where), expected=expected, actual=actual, next=next)
