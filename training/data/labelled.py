"""Images of a checkpoint's own classes, however their folders are called and whichever are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.class_names import labels_called, spelled
from robust_zoo.training.data.encoded import EncodedImages
from robust_zoo.training.data.folders import open_folder, open_shards
from robust_zoo.training.data.hf_rows import HF, open_rows
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.views import View

_WORKERS = 4


def folder(data: str, checkpoint: Checkpoint, *, numbered: bool = False) -> ImageFiles:
    """Any images of a checkpoint's classes.

    Args:
        data: A folder of class folders, called as `labels_called` knows them, or of tar files; or of splits, of which
            the test images are taken; or one tar file; or "hfds/NAME".
        checkpoint: Whose classes they are, and whose preprocessing the images get.
        numbered: Folders and labels are the numbers of its classes, from 0. Not believed without: any dataset's are.

    Returns:
        The images, with the checkpoint's labels.

    Raises:
        UsageError: A folder is no class of the checkpoint's dataset, or several.
    """
    source = open_held_out(data, ("test", "val", "train"))
    return prepared(labelled(source, data, checkpoint, numbered=numbered), checkpoint, data)


def open_held_out(data: str, take: Sequence[str]) -> EncodedImages:
    """Images to measure on.

    Args:
        data: A folder as `open_folder` takes it, a tar file, or "hfds/NAME" with its validation split.
        take: Of splits, the first of these that is there.

    Returns:
        The images, with the labels of their folders.

    Raises:
        UsageError: There are none.
    """
    if data.startswith(HF):
        return open_rows(data.removeprefix(HF), "validation")
    return open_shards([Path(data)]) if Path(data).is_file() else open_folder(Path(data), take=take)


def labelled(source: EncodedImages, data: str, checkpoint: Checkpoint, *, numbered: bool) -> EncodedImages:
    """The same images with the checkpoint's own class numbers, so that a missing folder shifts nothing.

    Args:
        source: The images, with the labels of their folders.
        data: Where they are, for the error.
        checkpoint: Whose classes they are.
        numbered: Whether numbers are believed.

    Returns:
        The images, relabelled.

    Raises:
        UsageError: A folder is no class of the checkpoint's dataset, or several; or numbers are not believed.
    """
    dataset, count = checkpoint.collection.dataset, checkpoint.preprocessing.num_classes
    if not source.classes:
        highest = int(source.labels.max())
        if not numbered or highest >= count:
            raise _unknown(f"labels up to {highest}", data, checkpoint, "labels that are numbers", not numbered)
        return source
    meant = [
        ((int(name),) if int(name) < count else ()) if numbered and name.isdecimal() else labels_called(name, dataset)
        for name in source.classes
    ]
    unknown = [name for name, labels in zip(source.classes, meant, strict=True) if not labels]
    if unknown:
        actual = f"{len(unknown)} of {len(source.classes)} folders are called otherwise"
        raise _unknown(repr(unknown[0]), data, checkpoint, actual, not numbered and unknown[0].isdecimal())
    for name, labels in zip(source.classes, meant, strict=True):
        if len(labels) > 1:
            raise UsageError(
                f"{name!r} is more than one class of {dataset.title}",
                model=checkpoint.name,
                source=data,
                expected=" or ".join(spelled(label, dataset) for label in labels),
                actual=name,
                next="call the folder by the id of the one that it holds",
            )
    return replace(source, labels=torch.tensor([labels[0] for labels in meant])[source.labels])


def _unknown(what: str, data: str, checkpoint: Checkpoint, actual: str, numbers: bool) -> UsageError:
    dataset, count = checkpoint.collection.dataset, checkpoint.preprocessing.num_classes
    hint = f"--dataset numbered, if the folders or labels are the class numbers 0 to {count - 1} of {dataset.title}"
    words = "call each folder by the name of its class, and take those of other classes away"
    names = f"{spelled(0, dataset)}, ..., {spelled(count - 1, dataset)}"
    return UsageError(
        f"{what} is no class of {dataset.title}",
        model=checkpoint.name,
        source=data,
        expected=f"folders called as classes are: {names}",
        actual=actual,
        next=hint if numbers else words,
    )


def prepared(source: EncodedImages, checkpoint: Checkpoint, data: str, count: int | None = None) -> ImageFiles:
    """Images with a checkpoint's preprocessing.

    Args:
        source: The images.
        checkpoint: With the preprocessing.
        data: Where they are, for the error.
        count: How many there must be, None for any number.

    Returns:
        The images, as the checkpoint is tested on them.

    Raises:
        UsageError: There are not `count` of them.
    """
    if count is not None and len(source) != count:
        raise UsageError(
            f"{len(source):,} images are not this dataset",
            source=data,
            expected=f"{count:,} images",
            actual=f"{len(source):,}",
            next="--dataset folder takes any folder of images of the model's classes",
        )
    return ImageFiles(source, View.of(checkpoint.preprocessing), workers=_WORKERS)
