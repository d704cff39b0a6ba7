"""A Dataset of torch's or torchvision's, as encoded images: what is known of its images is their pixels alone."""

from __future__ import annotations

import io
from collections.abc import Sized
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_zoo.errors import UsageError
from robust_zoo.training.data.encoded import EncodedImages

_MEND = "give it without transforms, or with one that ends in images: uint8, or floating in [0, 1], not normalised"


def is_items(data: object) -> bool:
    """Whether this is a Dataset with a length and items by number."""
    return hasattr(data, "__getitem__") and isinstance(data, Sized) and not isinstance(data, str | bytes | dict | list)


def encoded_items(data: Any) -> EncodedImages:
    """The images of a dataset whose items are (image, label) pairs; each is asked for when it is read.

    Args:
        data: Its images are Pillow's, or (3, H, W) or (1, H, W) tensors, uint8 or floating in [0, 1]. Labels count
            from 0. `targets` or `labels` save asking for every item; `classes` are its names.

    Returns:
        The images as lossless PNG, named by their numbers.

    Raises:
        UsageError: It has no images, an item is no such pair, or its labels are no such numbers.
    """
    if not len(data):
        raise _none_of_ours(data, "no items")
    given = next((found for name in ("targets", "labels") if (found := getattr(data, name, None)) is not None), None)
    _encode(data, 0)  # what is wrong with all of them is said before any is read for its label
    try:
        words = [label for _, label in (data[i] for i in range(len(data)))] if given is None else given
        labels = torch.as_tensor(np.asarray(words)).long().flatten()
    except (TypeError, ValueError) as error:
        raise _none_of_ours(data, f"labels: {error}") from None
    if len(labels) != len(data) or int(labels.min()) < 0:
        raise _none_of_ours(data, f"{len(labels)} labels from {int(labels.min())} for {len(data)} images")
    count = int(labels.max()) + 1
    named = tuple(map(str, getattr(data, "classes", ())))
    classes = named if len(named) >= count else tuple(map(str, range(count)))
    names = [str(i) for i in range(len(data))]
    return EncodedImages(names, [0] * len(names), labels, classes, partial(_encode, data))


def _encode(data: Any, index: int) -> bytes:
    try:
        image, _ = data[index]
    except (TypeError, ValueError) as error:
        raise _none_of_ours(data, f"item {index}: {error}") from None
    out = io.BytesIO()
    _picture(image, data, index).save(out, "PNG", compress_level=0)
    return out.getvalue()


def _picture(image: Any, data: Any, index: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    pixels = image if isinstance(image, Tensor) else torch.as_tensor(np.asarray(image))
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise _none_of_ours(data, f"item {index}: {pixels.dtype} of shape {tuple(pixels.shape)}")
    if pixels.is_floating_point():
        low, high = pixels.min().item(), pixels.max().item()
        if not (low >= 0 and high <= 1):
            raise _none_of_ours(data, f"item {index}: floating pixels from {low:.3g} to {high:.3g}")
        pixels = (pixels * 255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8:
        raise _none_of_ours(data, f"item {index}: pixels of type {pixels.dtype}")
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy())


def _none_of_ours(data: Any, actual: str) -> UsageError:
    return UsageError(
        f"the items of this {type(data).__name__} are not images and labels that can be used",
        source=f"{type(data).__module__}.{type(data).__name__}",
        expected="(image, label) pairs: a Pillow image or a (3, H, W) tensor, and a number from 0",
        actual=actual,
        next=_MEND,
    )
