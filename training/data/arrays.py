"""Images and labels as users' numpy arrays: taken when they are sound, else refused with what makes them so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robust_zoo.errors import UsageError, cannot_read

HIGHEST = 10**6  # no dataset has as many classes


def _mended(name: str, how: str) -> str:
    return f"{name} = {how}   before it is saved"


def image_tensor(images: np.ndarray, name: str, where: Path | str) -> Tensor:
    """Checks an array of images.

    Args:
        images: Should be (N, H, W, 3) uint8.
        name: What errors call the array, e.g. "x_train".
        where: The file it is of, for errors.

    Returns:
        (N, 3, H, W) uint8.

    Raises:
        UsageError: It is not such images: other axes, channels or numbers; NaN; none at all; one without content. The
            error names the first image that is wrong, and what makes it right.
    """

    def refuse(actual: str, next: str) -> UsageError:
        return cannot_read(f"images {name}", where, f"{name} (N, H, W, 3) uint8, from 0 to 255", actual, next)

    save, kind = partial(_mended, name), f"{images.dtype} {images.shape}"
    if images.dtype.kind not in "biuf":
        raise refuse(kind, save(f"np.stack(...) of images, all (H, W, 3), as numbers: {name}.astype('uint8')"))
    if images.ndim != 4 or images.shape[-1] != 3:
        raise refuse(kind, save(_axes(images.shape, name)))
    if not images.size:
        raise refuse(f"no image: {kind}", "put images into the file, or give another")
    flat = images.reshape(len(images), -1)
    if images.dtype != np.uint8:
        raise refuse(*_as_bytes(flat, kind, name, save))
    if (same := np.flatnonzero(flat.min(1) == flat.max(1))).size:
        first = int(same[0])
        raise refuse(
            f"image {first} is {flat[first, 0]} everywhere, as {len(same):,} of {len(images):,}",
            f"leave such images out, of the labels too, or look where they come from: {name}[{first}]",
        )
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _axes(shape: tuple[int, ...], name: str) -> str:
    """What makes (N, H, W, 3) of another shape."""
    if len(shape) == 4:
        for place, how in ((1, "transpose(0, 2, 3, 1)"), (2, "transpose(3, 0, 1, 2)"), (0, "transpose(3, 1, 2, 0)")):
            if shape[place] == 3:
                return f"{name}.{how}"
        if shape[-1] in (1, 4):
            return f"np.repeat({name}, 3, -1)" if shape[-1] == 1 else f"{name}[..., :3]"
        if shape[1] in (1, 4):
            colours = f"np.repeat({name}, 3, 1)" if shape[1] == 1 else f"{name}[:, :3]"
            return f"{colours}.transpose(0, 2, 3, 1)"
    if len(shape) == 3:
        return f"{name}[None]" if shape[-1] == 3 else f"np.repeat({name}[..., None], 3, -1)"
    if len(shape) == 2 and shape[1] % 3 == 0 and (side := round((shape[1] / 3) ** 0.5)) ** 2 * 3 == shape[1]:
        return f"{name}.reshape(-1, 3, {side}, {side}).transpose(0, 2, 3, 1)"
    return "an array of (N, H, W, 3)"


def _as_bytes(flat: np.ndarray, kind: str, name: str, save: Callable[[str], str]) -> tuple[str, str]:
    """What is wrong with images that are not uint8, and what makes them so."""

    def first(wrong: np.ndarray, word: str) -> str:
        row = int(np.flatnonzero(wrong.any(1))[0])
        return f"{kind}; image {row} has {word} {flat[row][wrong[row]][0]}"

    if flat.dtype == bool:
        return kind, save(f"{name}.astype('uint8') * 255")
    if flat.dtype.kind == "f" and not (finite := np.isfinite(flat)).all():
        return first(~finite, "the value"), f"look where it comes from: {name}[~np.isfinite({name})]"
    low, high = flat.min(), flat.max()
    if low < 0:
        return first(flat < 0, "the negative value"), save(f"{name} * std + mean, as it was before it was normalised")
    if high > 255:
        return first(flat > 255, "the value"), save(f"({name} / {high:g} * 255).round().astype('uint8')")
    if flat.dtype.kind == "f" and high <= 1:
        return f"{kind}, from {low:g} to {high:g}", save(f"({name} * 255).round().astype('uint8')")
    return f"{kind}, from {low:g} to {high:g}", save(f"{name}.round().astype('uint8')")


def label_tensor(labels: np.ndarray, count: int, name: str, where: Path | str) -> Tensor:
    """Checks an array of labels.

    Args:
        labels: Should be (N,) or (N, 1), whole numbers from 0.
        count: Of images.
        name: What errors call the array, e.g. "y_train".
        where: The file it is of, for errors.

    Returns:
        (N,) int64.

    Raises:
        UsageError: They are not; the error names the first label that is wrong, and what makes it right.
    """

    def refuse(actual: str, next: str) -> UsageError:
        return cannot_read(f"labels {name}", where, f"{name}: a whole number from 0 for each image", actual, next)

    save, kind, shape = partial(_mended, name), labels.dtype.kind, labels.shape
    if labels.ndim == 2 and shape[1] > 1:
        raise refuse(f"{labels.dtype} {shape}: a row for each image (one-hot?)", save(f"{name}.argmax(1)"))
    flat = labels.reshape(-1) if labels.ndim == 2 else labels
    if flat.ndim != 1 or len(flat) != count:
        raise refuse(f"labels {shape} for {count:,} images", "give as many labels as images, in the same order")
    if kind in "SU":
        first_name = flat[0].decode(errors="replace") if kind == "S" else str(flat[0])
        raise refuse(f"names, the first {first_name!r}", save(f"np.unique({name}, return_inverse=True)[1]"))
    if kind == "b":
        raise refuse(f"bool, the first {flat[0]}", save(f"{name}.astype('int64')"))
    if kind == "f":
        whole = np.isfinite(flat) & (np.floor(flat) == flat)
        first = int(np.flatnonzero(~whole)[0]) if not whole.all() else 0
        mend = save(f"{name}.astype('int64')") if whole.all() else f"look where it comes from: {name}[{first}]"
        raise refuse(f"{labels.dtype}; label {first} is {flat[first]}", mend)
    if kind not in "iu":
        raise refuse(f"{labels.dtype}; label 0 is {flat[0]!r}", save("np.array(...) of whole numbers"))
    wrong = np.flatnonzero((flat < 0) | (flat > HIGHEST))
    if wrong.size:
        first = int(wrong[0])
        raise refuse(f"label {first} is {flat[first]}, as {wrong.size:,} are", "number the classes 0, 1, 2, ...")
    return torch.from_numpy(flat.astype(np.int64))
