"""The contained process that reads a pickled batch of CIFAR: a dict of images and labels, through inert stand-ins."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from robust_zoo.errors import Refused
from robust_zoo.weights.child import open_once
from robust_zoo.weights.stand_ins import encoded, stand_in

_NUMBERS = 3 * 32 * 32  # of an image


class _Unpickler(pickle.Unpickler):
    """Looks nothing up: every name becomes a stand-in, or the batch is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return encoded
        if found := stand_in(f"{module}.{name}"):
            return found
        raise ValueError(f"{module}.{name} does not belong into a batch of CIFAR")


def work(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Reads one batch.

    Args:
        request: "source", the file, and "label", the key of its labels.

    Returns:
        {"images": how many}, and the bytes of all images (N, 3, 32, 32), uint8, then of all labels (N,), little-endian
        int64.

    Raises:
        Refused: It is no batch, or holds anything but arrays, lists, strings and numbers.
    """
    try:
        with open_once(Path(request["source"])) as file:
            batch = _Unpickler(file, encoding="latin1").load()
        images, labels = _array(batch["data"]), _array(batch[request["label"]])
    except (MemoryError, OSError, Refused):
        raise
    except Exception as error:  # unpicklers raise many kinds for broken files
        what = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise Refused("not a batch of CIFAR", expected="images and labels", actual=what) from None
    if images.dtype != np.uint8 or labels.dtype.kind not in "iu" or images.size != labels.size * _NUMBERS:
        described = f"{images.size:,} {images.dtype} and {labels.size:,} {labels.dtype}"
        raise Refused("not a batch of CIFAR", expected=f"{_NUMBERS} bytes and a label per image", actual=described)
    return {"images": labels.size}, images.tobytes() + labels.astype("<i8").tobytes()


def _array(value: Any) -> Any:
    """An array, or a list of whole numbers, as numpy's. Raises ValueError or OverflowError for anything else."""
    if hasattr(value, "numpy"):
        return value.numpy()
    if not isinstance(value, list):
        raise ValueError(f"a {type(value).__name__} in the place of numbers")
    numbers = [one.numpy().item() if hasattr(one, "numpy") else one for one in value]
    if not all(type(number) is int for number in numbers):
        raise ValueError("labels that are not whole numbers")
    return np.array(numbers, dtype=np.int64)
