"""Whether a dataset fits what it is given to; asked before anything is trained or measured."""

from __future__ import annotations

from typing import Any

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.data.dataset import Dataset, Images, Measurable
from robust_zoo.training.data.image_files import ImageFiles


def as_dataset(data: Any) -> Dataset:
    """Takes what the Python functions are given.

    Args:
        data: `Images`, or `ImageFiles`.

    Returns:
        The same.

    Raises:
        UsageError: It is another object, one of torch's or torchvision's say, or empty.
    """
    ours = all(hasattr(data, name) for name in ("labels", "subset", "batches"))  # whatever its class
    if not ours:
        raise UsageError(
            f"{type(data).__name__} is no dataset of robust_zoo",
            source=f"{type(data).__module__}.{type(data).__name__}",
            expected="Images(images (N, 3, H, W) uint8, labels (N,) int64), of robust_zoo.training.data.dataset",
            actual="an object whose transforms, range and labels are not known",
            next="Images(torch.stack([...]), torch.tensor([...])) of its images as uint8 and its labels; of an image "
            "folder: robust_zoo.training.transfer.recommend.open_images(folder)",
        )
    if not len(data):
        raise UsageError("a dataset without images", expected="an image or more", actual="0", next="give another")
    return data


def check_classifies(checkpoint: Checkpoint) -> None:
    """Makes sure that a checkpoint's network says which class an image is of.

    Args:
        checkpoint: Whose network.

    Raises:
        UsageError: It is an encoder.
    """
    if checkpoint.is_encoder:
        raise UsageError(
            f"{checkpoint.name} is an encoder: it gives embeddings, and no classes that could be right or wrong",
            model=checkpoint.name,
            expected="a classifier",
            actual=f"an encoder, {checkpoint.preprocessing.num_classes} numbers for an image",
            next=f"robust-zoo transfer {checkpoint.name} --suite sample   trains a head on it",
        )


def check_fits(data: Measurable, checkpoint: Checkpoint, where: str) -> None:
    """Makes sure that a checkpoint's network takes images and labels as they are.

    Args:
        data: The images.
        checkpoint: With the network's classes and its preprocessing.
        where: They come from, for errors.

    Raises:
        UsageError: There are none, they are of another size, or of classes that the network does not have.
    """
    as_dataset(data)
    p = checkpoint.preprocessing
    if isinstance(data, Images) and data.images.shape[1:] != p.input_size:
        height, width = data.images.shape[2:]
        raise UsageError(
            f"{checkpoint.name} takes images of {p.input_size[1]} x {p.input_size[2]} pixels",
            model=checkpoint.name,
            source=where,
            expected=f"images (N, {p.input_size[1]}, {p.input_size[2]}, 3)",
            actual=f"images (N, {height}, {width}, 3)",
            next="resize them, or give the dataset that the checkpoint is of; robust-zoo transfer takes any size",
        )
    if (wrong := (data.labels >= p.num_classes).nonzero()).numel():
        first = int(wrong[0])
        name = f" ({data.source.names[data.rows[first]]})" if isinstance(data, ImageFiles) else ""
        from_one = int(data.labels.min()) == 1 and int(data.labels.max()) == p.num_classes
        raise UsageError(
            f"{checkpoint.name} has {p.num_classes} classes",
            model=checkpoint.name,
            source=where,
            expected=f"labels 0 to {p.num_classes - 1}",
            actual=f"labels up to {int(data.labels.max())}: {int(data.labels[first])} of image {first}{name}",
            next="take 1 from each label" if from_one else "give the dataset that the checkpoint is of",
        )
