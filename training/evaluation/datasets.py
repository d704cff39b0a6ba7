"""Where evaluation images come from, each under the name its figures carry."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from robust_zoo.errors import UsageError, cannot_read, unknown
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.choices import IMAGE_SETS, ImageSet, go_together
from robust_zoo.training.data import imagenet
from robust_zoo.training.data.arrays import image_tensor, label_tensor
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.dataset import Dataset, Images, load_npz
from robust_zoo.training.data.fit import check_classifies, check_fits
from robust_zoo.training.data.hf_rows import HF
from robust_zoo.training.data.labelled import folder
from robust_zoo.training.data.npz import read_npy
from robust_zoo.training.evaluation import corruptions
from robust_zoo.training.evaluation.cue_conflict import cue_conflict
from robust_zoo.training.evaluation.series import Series


@dataclass(frozen=True)
class EvaluationSet(ImageSet):
    """A dataset that figures are measured on, and how it is opened.

    Attributes:
        open: Of --data and the checkpoint; its images.
    """

    open: Callable[[str, Checkpoint], Dataset | Series]


def _cifar101(data: str, checkpoint: Checkpoint) -> Images:
    """CIFAR-10.1 v6 (Recht et al. 2018): 2,000 images in two .npy files."""
    folder = Path(data)
    files = [folder / f"cifar10.1_v6_{part}.npy" for part in ("data", "labels")]
    try:
        images, labels = (read_npy(file) for file in files)
    except (OSError, ValueError) as error:
        names = " and ".join(f.name for f in files)
        raise cannot_read("CIFAR-10.1", data, names, str(error), "put sound copies in their places") from None
    if images.shape != (2000, 32, 32, 3) or images.dtype != np.uint8 or labels.shape != (2000,):
        raise UsageError(
            "not CIFAR-10.1 v6",
            source=data,
            expected="2,000 images (2000, 32, 32, 3) uint8 and 2,000 labels",
            actual=f"{images.dtype} {images.shape}, labels {labels.shape}",
            next="put sound copies in their places",
        )
    return Images(image_tensor(images, "data", data), label_tensor(labels, len(images), "labels", data))


def _sample(data: str, checkpoint: Checkpoint) -> Images:
    return cifar10_sample()


def _cifar10(data: str, checkpoint: Checkpoint) -> Images:
    return load_npz(Path(data), "test")


_OPEN: dict[str, Callable[[str, Checkpoint], Dataset | Series]] = {
    "sample": _sample,
    "cifar10": _cifar10,
    "cifar10.1": _cifar101,
    "imagenet": imagenet.validation,
    "robustbench": imagenet.robustbench,
    "imagenetv2": imagenet.imagenet_v2,
    "cifar10-c": corruptions.cifar10_c,
    "imagenet-c": corruptions.imagenet_c,
    "cue-conflict": cue_conflict,
    "folder": folder,
    "numbered": partial(folder, numbered=True),
}
go_together("training/evaluation/datasets.py", _OPEN, IMAGE_SETS)
DATASETS = {name: EvaluationSet(**vars(row), open=_OPEN[name]) for name, row in IMAGE_SETS.items()}


def require_dataset(name: str, data: str, checkpoint: Checkpoint) -> EvaluationSet:
    """Makes sure that a dataset is one, for a checkpoint; no file is looked at.

    Args:
        name: Of `DATASETS`.
        data: The file or folder that is to hold it.
        checkpoint: What is to be evaluated.

    Returns:
        The dataset.

    Raises:
        UsageError: The name is unknown, --data is missing or needless, or the checkpoint is of other classes.
    """
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS, next="--dataset {closest}")
    chosen = DATASETS[name]
    if chosen.classes not in ("", checkpoint.dataset):
        fitting = ", ".join(key for key, value in DATASETS.items() if value.classes in ("", checkpoint.dataset))
        raise UsageError(
            f"{checkpoint.name} does not know the classes of {name}",
            model=checkpoint.name,
            expected=f"--dataset {fitting or 'of ' + checkpoint.dataset}",
            actual=f"--dataset {name}",
            next=f"robust-zoo list --dataset {chosen.classes}",
        )
    if chosen.where and not data:
        raise UsageError(
            f"--dataset {name} needs --data",
            model=checkpoint.name,
            expected=chosen.where,
            actual="no --data",
            next=f"robust-zoo evaluate {checkpoint.handle} --dataset {name} --data DIR",
        )
    if data and not chosen.where:
        raise UsageError(
            f"--dataset {name} comes with the package",
            source=data,
            expected="no --data",
            actual=f"--data {data}",
            next="leave out --dataset to measure on --data",
        )
    return chosen


def dataset_of(data: str, checkpoint: Checkpoint) -> str:
    """Which dataset --data is, where none is named.

    Args:
        data: A file or folder; "" for what comes with the package.
        checkpoint: What is to be evaluated.

    Returns:
        A name of `DATASETS`.

    Raises:
        UsageError: It is nothing that can be measured on.
    """
    path = Path(data)
    fitting = [name for name, row in DATASETS.items() if row.classes == checkpoint.dataset]
    if not data and "sample" in fitting:
        return "sample"
    if "cifar10" in fitting and path.suffix == ".npz" and path.is_file():
        return "cifar10"
    if "cifar10.1" in fitting and (path / "cifar10.1_v6_data.npy").is_file():
        return "cifar10.1"
    is_tar = re.search(r"\.(tar(\.\w+)?|tgz)$", data) and path.is_file()
    if data and (data.startswith(HF) or path.is_dir() or is_tar):
        return "folder"
    kinds = "a folder of class folders, a .tar file, hfds/NAME" + (", an .npz" if "cifar10" in fitting else "")
    raise UsageError(
        f"no images of {checkpoint.collection.dataset.title} there" if data else "no images given",
        model=checkpoint.name,
        source=data,
        expected=f"--data: {kinds}",
        actual="a file of another kind" if path.exists() and data else "nothing there" if data else "no --data",
        next="robust-zoo evaluate --help",
    )


def open_dataset(name: str, data: str, checkpoint: Checkpoint) -> tuple[str, Dataset | Series]:
    """Opens a dataset of `DATASETS` for a checkpoint.

    Args:
        name: Of the dataset; "" for what `dataset_of` finds.
        data: The file or folder that holds it; "" for what comes with the package.
        checkpoint: What is to be evaluated; it decides which images of a dataset are its own.

    Returns:
        The title that figures on the dataset carry, which says how many images there are if not all; and the images.

    Raises:
        UsageError: The name is unknown, --data is missing or not the dataset, or the checkpoint is of other classes.
    """
    check_classifies(checkpoint)
    name = name or dataset_of(data, checkpoint)
    chosen = require_dataset(name, data, checkpoint)
    title = chosen.title if chosen.classes else f"{checkpoint.dataset} {chosen.title}"
    images = chosen.open(data, checkpoint)
    check_fits(images.first if isinstance(images, Series) else images, checkpoint, data or name)
    if chosen.images and not isinstance(images, Series) and len(images) != chosen.images:
        title += f", {len(images)} images"  # a part of it, or what only looks like it
    return title, images
