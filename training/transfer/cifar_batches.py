"""CIFAR-10 and CIFAR-100 as their authors publish them: pickled batches, which a contained process reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from robust_zoo.errors import Refused
from robust_zoo.training.data.dataset import Images
from robust_zoo.weights.contained import ask

_IMAGE = 3 * 32 * 32  # bytes
_MOST = 400_000_000  # bytes of a batch; the largest, CIFAR-100's for training, has 155 million
_SECONDS = 60


def _batch(file: Path, label: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32), uint8, and labels (N,), int64. Raises ValueError for what is no batch."""
    size = file.stat().st_size
    if size > _MOST:
        raise ValueError(f"{file.name} has {size:,} bytes, far more than a batch")
    request = {"source": str(file.absolute()), "label": label}
    try:
        answer, content = ask(
            "batch_worker", request, memory=6 * size + (200 << 20), seconds=_SECONDS, time_limit=5 * _SECONDS,
            source=file, model="CIFAR", next="fetch the dataset again",
        )  # fmt: skip
    except Refused as error:
        raise ValueError(f"{error.message}: {error.actual}") from None
    n = answer["images"]
    if type(n) is not int or not n or len(content) != n * (_IMAGE + 8):
        raise ValueError(f"{file.name}: {len(content):,} bytes for {n} images and labels")
    both = bytearray(content)
    images = torch.frombuffer(both, dtype=torch.uint8, count=n * _IMAGE).view(n, 3, 32, 32)
    return images, torch.frombuffer(both, dtype=torch.int64, offset=n * _IMAGE)


def cifar(train: Iterable[str], test: str, label: str) -> Callable[[Path], dict[str, Images]]:
    """A reader of a folder of batches.

    Args:
        train: The files of training images, in order.
        test: The file of test images.
        label: The key of labels in each file.

    Returns:
        A function of the folder that returns the images of "train" and "test"; it raises ValueError for a file that
        is damaged or holds anything but images and labels, and FileNotFoundError for one that is not there.
    """

    def read(root: Path) -> dict[str, Images]:
        splits = {}
        for split, names in (("train", train), ("test", (test,))):
            images, labels = zip(*(_batch(root / name, label) for name in names), strict=True)
            splits[split] = Images(torch.cat(images), torch.cat(labels))
        return splits

    return read
