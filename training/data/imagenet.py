"""ImageNet's validation sets, by their names and sizes."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import torch

from robust_zoo.errors import UsageError, damaged
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.image_files import ImageFiles
from robust_zoo.training.data.labelled import labelled, open_held_out, prepared

# RobustBench/robustbench@78fcc9e, helper_files/imagenet_test_image_ids.txt (MIT), as it was
_LIST = Path(__file__).with_name("robustbench_imagenet.txt.gz")
_LIST_SHA256 = "d4121626d07722a0126c35b1563042e46a546f1a05ce705f2cdc635896d58574"


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
    source = labelled(open_held_out(data, ("val", "test")), data, checkpoint, numbered=True)
    return prepared(source, checkpoint, data, count)


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
    source = labelled(open_held_out(data, ("val", "test")), data, checkpoint, numbered=True)
    return prepared(source, checkpoint, data, count)


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
