"""CIFAR-10 and CIFAR-100 as their authors publish them: pickled batches, of which only arrays are loaded."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from robust_zoo.training.data.dataset import Images


class _ArraysOnly(pickle.Unpickler):
    """CIFAR's batches are pickles of dicts, lists, strings and numpy arrays: nothing else is loaded."""

    _ALLOWED = {("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype")} | {
        (f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise ValueError(f"{module}.{name} does not belong into a batch of CIFAR")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _batch(file: Path, label: str) -> tuple[np.ndarray, list[int]]:
    def load(opened: IO[bytes]) -> dict:
        return _ArraysOnly(opened, encoding="latin1").load()

    with file.open("rb") as opened:
        found = load(opened)
    return found["data"].reshape(-1, 3, 32, 32), list(found[label])


def cifar(train: Iterable[str], test: str, label: str) -> Callable[[Path], dict[str, Images]]:
    """A reader of a folder of batches.

    Args:
        train: The files of training images, in order.
        test: The file of test images.
        label: The key of labels in each file.

    Returns:
        A function of the folder that returns the images of "train" and "test"; it raises ValueError for a file that
        holds anything but arrays, and what numpy and pickle raise for a damaged one.
    """

    def read(root: Path) -> dict[str, Images]:
        splits = {}
        for split, names in (("train", train), ("test", (test,))):
            arrays, labels = zip(*(_batch(root / name, label) for name in names), strict=True)
            pixels = torch.from_numpy(np.ascontiguousarray(np.concatenate(arrays)))
            splits[split] = Images(pixels, torch.tensor([number for batch in labels for number in batch]))
        return splits

    return read
