"""ImageNet validation sets with labels that are ImageNet's, however the folders are called and whichever are there."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from robust_zoo.errors import UsageError, damaged
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.encoded import EncodedImages
from robust_zoo.training.data.folders import open_folder, open_source
from robust_zoo.training.data.image_files import ImageFiles

# RobustBench/robustbench@78fcc9e, helper_files/imagenet_test_image_ids.txt (MIT), as it was
_LIST = Path(__file__).with_name("robustbench_imagenet.txt.gz")
_LIST_SHA256 = "d4121626d07722a0126c35b1563042e46a546f1a05ce705f2cdc635896d58574"
_WORKERS = 4


def validation(data: str, checkpoint: Checkpoint, count: int | None = 50_000) -> ImageFiles:
    """ImageNet's validation images.

    Args:
        data: Holds a val folder, or shards, or is "hfds/NAME"; or is itself the folder of classes.
        checkpoint: Whose preprocessing the images get.
        count: How many there must be, None for any number.

    Returns:
        The images, with ImageNet's labels.

    Raises:
        UsageError: There are not `count` of them, or a folder is no class of ImageNet.
    """
    try:
        source = open_source(data, "val")
    except UsageError:
        if not Path(data).is_dir():
            raise
        source = open_folder(Path(data))  # of classes, without a val around them
    return _files(_relabelled(source, data), checkpoint, data, count)


def robustbench(data: str, checkpoint: Checkpoint, count: int | None = 5_000) -> ImageFiles:
    """RobustBench's images, by name and in its order, out of the validation set.

    Args:
        data: Where the validation set is, as `validation` takes it.
        checkpoint: Whose preprocessing the images get.
        count: The first so many of RobustBench's list, None for all.

    Returns:
        The images, with ImageNet's labels.

    Raises:
        UsageError: Some of the images are not there; the error names one.
    """
    whole = validation(data, checkpoint, None)
    place = {Path(name).name: i for i, name in enumerate(whole.source.names)}
    wanted = robustbench_names()[:count]
    missing = [name for name in wanted if name not in place]
    if missing:
        raise UsageError(
            f"{len(missing):,} of RobustBench's images are not there",
            source=data,
            expected=f"{len(wanted):,} images of the ImageNet validation set by their names",
            actual=f"no {missing[0]}",
        )
    return whole.subset(torch.tensor([place[name] for name in wanted]))


def imagenet_v2(data: str, checkpoint: Checkpoint, count: int | None = 10_000) -> ImageFiles:
    """One of the three sets of ImageNetV2 (Recht et al. 2019).

    Args:
        data: The folder of 0 ... 999, or of wnids.
        checkpoint: Whose preprocessing the images get.
        count: How many there must be, None for any number.

    Returns:
        The images, with ImageNet's labels.

    Raises:
        UsageError: There are not `count` of them, or a folder is no class of ImageNet.
    """
    return _files(_relabelled(open_folder(Path(data)), data), checkpoint, data, count)


def folder(data: str, checkpoint: Checkpoint) -> ImageFiles:
    """Any images of ImageNet's classes.

    Args:
        data: The folder of class folders, called by wnid, by class number, or by an English name of the class.
        checkpoint: Whose preprocessing the images get.

    Returns:
        The images, with ImageNet's labels.

    Raises:
        UsageError: A folder is no class of ImageNet.
    """
    return _files(_relabelled(open_folder(Path(data)), data), checkpoint, data, None)


def robustbench_names() -> list[str]:
    """The file names of RobustBench's list, in its order.

    Returns:
        5,000 names.

    Raises:
        VerificationFailed: The bundled list is damaged.
    """
    content = gzip.decompress(_LIST.read_bytes())
    found = hashlib.sha256(content).hexdigest()
    if found != _LIST_SHA256:
        raise damaged("the bundled list of images is", _LIST.name, _LIST_SHA256, found)
    return [Path(line).name for line in content.decode().split()]


def _relabelled(source: EncodedImages, data: str) -> EncodedImages:
    """ImageNet's own class numbers, so that a missing folder shifts nothing. Numbered datasets are believed."""
    if not source.classes:
        return source
    numbers = class_numbers()
    unknown = [name for name in source.classes if _key(name) not in numbers]
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is no class of ImageNet",
            source=data,
            expected="folders called by wnid (n01440764), class number (0 to 999) or name (tench)",
            actual=f"{len(unknown)} of {len(source.classes)} folders are called otherwise",
        )
    new = torch.tensor([numbers[_key(name)] for name in source.classes])
    return replace(source, labels=new[source.labels])


@cache
def class_numbers() -> dict[str, int]:
    """What ImageNet's classes are called.

    Returns:
        wnid, number and English names -> number; names that two classes share (crane, maillot) mean neither.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    numbers: dict[str, int] = {}
    twice: set[str] = set()
    for number, wnid in enumerate(info.label_names()):
        numbers |= {wnid: number, str(number): number}
        for name in {_key(n) for n in info.index_to_description(number).split(",")}:
            twice |= {name} & numbers.keys()
            numbers[name] = number
    return {name: number for name, number in numbers.items() if name not in twice}


def _key(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def _files(source: EncodedImages, checkpoint: Checkpoint, data: str, count: int | None) -> ImageFiles:
    if count is not None and len(source) != count:
        raise UsageError(
            f"{len(source):,} images are not this dataset",
            source=data,
            expected=f"{count:,} images",
            actual=f"{len(source):,}",
            next="--dataset folder takes any image folder of ImageNet's classes",
        )
    p = checkpoint.preprocessing
    size = p.input_size[-1]
    return ImageFiles(source, size=size, resize=round(size / p.crop_pct), workers=_WORKERS)
