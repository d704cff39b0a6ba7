"""The images of a fine-tuning: to train on, to choose by, to test on; whatever they are given as."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from robust_zoo.errors import UsageError, missing_file
from robust_zoo.registry.families import Preprocessing
from robust_zoo.text import listed
from robust_zoo.training.data.dataset import Dataset, Images
from robust_zoo.training.data.encoded import EncodedImages, counted, not_a_dataset
from robust_zoo.training.data.fit import as_dataset
from robust_zoo.training.data.folders import check_classes_differ
from robust_zoo.training.data.hf_rows import HF, open_rows
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.data.labelled import open_held_out
from robust_zoo.training.data.torch_items import encoded_items, is_items
from robust_zoo.training.transfer.datasets import open_target
from robust_zoo.training.transfer.features import as_files, batches_for
from robust_zoo.training.transfer.splits import hold_out
from robust_zoo.training.transfer.task import Target
from robust_zoo.views import View

_HELD = 0.2  # of the training images, to choose by where nothing else is given; of all images, to test on
_SMALL = 64  # pixels: images for such a network are kept in memory, padded and cropped as the field does
_MEMORY = 1 << 30  # bytes that they may take there


@dataclass(frozen=True)
class Split:
    """Three sets of images of the same classes.

    Attributes:
        name: What they are called in figures.
        classes: Their names, by label.
        train: What is trained on.
        val: What learning rates are chosen by; the test is looked at once.
        test: What is measured on.
        note: In words, what was taken for what.
    """

    name: str
    classes: tuple[str, ...]
    train: Dataset
    val: Dataset
    test: Dataset
    note: str

    @property
    def parts(self) -> dict[str, Dataset]:
        """The sets, by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def seen_by(self, p: Preprocessing) -> Split:
        """The same images as a network of that preprocessing sees them.

        Args:
            p: The checkpoint's.

        Returns:
            Small images in memory, to be padded and cropped; others as files, with random resized crops.
        """
        return replace(self, train=_seen(self.train, p), val=_seen(self.val, p), test=_seen(self.test, p))


def open_split(data: Any, val: Any = None, *, workers: int = 0, seed: int = 0) -> Split:
    """The images of a fine-tuning.

    Args:
        data: A folder, a tar file or a name as `robust-zoo transfer --dataset` takes it; a `Target`; a Dataset of
            torch's or of this package. Where it has no split for testing, a fifth of it is.
        val: Of the same kinds (a folder: its classes are those of `data`, by name); None: the validation split of
            `data`, or else a fifth of each class of the training images.
        workers: Processes that read images, 0 for none.
        seed: Decides which images a fifth is.

    Returns:
        The three sets, none of them read yet.

    Raises:
        UsageError: There are no images, one class, or images of other classes in `val`.
        VerificationFailed: A named dataset is not the official one.
    """
    target = _target(data, workers, seed)
    words = [target.note] if target.note else []
    if val is not None:
        chosen = _labelled(_images(val, workers), target.classes, val)
        words.append(f"{len(chosen):,} images of their own are for choosing")
        return Split(target.name, target.classes, target.train, chosen, target.test, "; ".join(words))
    if target.val is not None:
        return Split(target.name, target.classes, target.train, target.val, target.test, "; ".join(words))
    held, kept = hold_out(target.train.labels, _HELD, seed)
    words.append(f"{len(held):,} of the training images, a fifth of each class, are for choosing")
    train, chosen = target.train.subset(kept), target.train.subset(held)
    return Split(target.name, target.classes, train, chosen, target.test, "; ".join(words))


def _target(data: Any, workers: int, seed: int) -> Target:
    if isinstance(data, Target):
        return data
    if isinstance(data, str | Path):
        return open_target(str(data), workers=workers)
    images = _images(data, workers)
    classes = images.source.classes if isinstance(images, ImageFiles) else ()
    classes = classes or tuple(str(i) for i in range(int(images.labels.max()) + 1))
    if len(classes) < 2:
        raise not_a_dataset(type(data).__name__, "two classes or more", f"one: {listed(classes)}")
    test, train = hold_out(images.labels, _HELD, seed)
    note = f"a fifth of each class is for testing: {len(train):,} train, {len(test):,} test"
    return Target("images", classes, images.subset(train), None, images.subset(test), note=note)


def _images(data: Any, workers: int) -> Dataset:
    """Images without a split: a folder's validation or test images, or all of a Dataset."""
    if isinstance(data, str | Path):
        if str(data).startswith(HF):
            held = open_rows(str(data).removeprefix(HF), "validation", named=True)
        elif Path(data).exists():
            held = open_held_out(str(data), ("val", "test", "train"))
        else:
            raise missing_file(Path(data), "a folder of class folders, or a tar file", "give one that is there")
        source = counted(held, data)
        check_classes_differ(source, data)
        return ImageFiles(source, workers=workers)
    if all(hasattr(data, name) for name in ("labels", "subset", "batches")) or not is_items(data):
        return as_dataset(data)
    return ImageFiles(encoded_items(data), workers=workers)


def _labelled(images: Dataset, classes: tuple[str, ...], where: Any) -> Dataset:
    """With the labels that the classes have, by their names where both have names."""
    if isinstance(images, ImageFiles) and images.source.classes:
        source: EncodedImages = images.source
        number = {name: label for label, name in enumerate(classes)}
        if strange := [name for name in source.classes if name not in number]:
            raise _other_classes(where, classes, listed(strange))
        labels = torch.tensor([number[name] for name in source.classes])[source.labels]
        return replace(images, source=replace(source, labels=labels, classes=classes))
    if int(images.labels.max()) >= len(classes):
        raise _other_classes(where, classes, f"label {int(images.labels.max())}")
    return images


def _other_classes(where: Any, classes: tuple[str, ...], actual: str) -> UsageError:
    return UsageError(
        "the images to choose by are of other classes",
        source=str(where) if isinstance(where, str | Path) else type(where).__name__,
        expected=f"the {len(classes)} classes that are trained: {listed(classes)}",
        actual=actual,
        next="give images of these classes, or leave --val out",
    )


def _seen(data: Dataset, p: Preprocessing) -> Dataset:
    side = p.input_size[1]
    if isinstance(data, Images) and data.images.shape[-2:] == (side, side):
        return data
    if side > _SMALL or 3 * side * side * len(data) > _MEMORY:
        return as_files(data, View.of(p))
    parts = [((images * 255).round().byte(), labels) for images, labels in batches_for(data, p, 250)]
    images, labels = (torch.cat(each) for each in zip(*parts, strict=True))
    return Images(images, labels)
