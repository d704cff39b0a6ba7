"""What stands in an image, and what was found in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robust_zoo.errors import UsageError


@dataclass(frozen=True, eq=False)
class Objects:
    """What stands in one image: n objects, each of them a box and, where known, a mask.

    Args:
        boxes: (n, 4): left, top, width and height, in pixels from the image's upper left corner.
        labels: (n,): the number of each object's class.
        areas: (n,): pixels that the object covers; that of its box when None, of its mask when there are masks.
        crowd: (n,): whether it is a group of objects: ignored, and the IoU with it is over a detection's own area.
        difficult: (n,): whether it is ignored though one object: the IoU with it is the usual one.
        masks: (n, H, W) of bool, or None.

    Raises:
        UsageError: Shapes do not fit each other; a box is not finite, or has a negative side; a label is no whole
            number; an area is not finite, or below 0.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64] | None = None
    crowd: NDArray[np.bool_] | None = None
    difficult: NDArray[np.bool_] | None = None
    masks: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        boxes, labels, masks = _checked(self.boxes, self.labels, self.masks)
        covered = boxes[:, 2] * boxes[:, 3] if masks is None else masks.sum(axis=(1, 2))
        areas = np.asarray(covered if self.areas is None else self.areas, np.float64)
        if strange := areas[~(np.isfinite(areas) & (areas >= 0))].tolist():
            raise _wrong("finite areas, none below 0", f"{strange[0]}")
        flags = [
            np.zeros(len(labels), bool) if f is None else np.asarray(f, bool) for f in (self.crowd, self.difficult)
        ]
        _same_length(len(labels), areas=areas, crowd=flags[0], difficult=flags[1])
        _set(self, boxes=boxes, labels=labels, masks=masks, areas=areas, crowd=flags[0], difficult=flags[1])


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image.

    Args:
        boxes: (n, 4): left, top, width and height, in pixels.
        labels: (n,): the number of each detection's class.
        scores: (n,): how sure it is, the more the higher.
        masks: (n, H, W) of bool, or None.

    Raises:
        UsageError: Shapes do not fit each other; a number is not finite, or a box has a negative side.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    masks: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        boxes, labels, masks = _checked(self.boxes, self.labels, self.masks)
        scores = np.asarray(self.scores, np.float64)
        _same_length(len(labels), scores=scores)
        if not np.isfinite(scores).all():
            raise _wrong("finite scores", f"{np.count_nonzero(~np.isfinite(scores))} that are not")
        _set(self, boxes=boxes, labels=labels, masks=masks, scores=scores)


def boxes_of(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The smallest boxes around masks.

    Args:
        masks: (n, H, W) of bool.

    Returns:
        (n, 4): left, top, width, height in pixels; 0, 0, 0, 0 for an empty mask.
    """
    boxes = np.zeros((len(masks), 4))
    for side, axis in ((0, 1), (1, 2)):  # columns that hold a pixel, then rows
        held: NDArray[np.bool_] = np.any(masks, axis=axis)
        first, last = held.argmax(1), held.shape[1] - held[:, ::-1].argmax(1)
        boxes[:, side], boxes[:, side + 2] = first, np.where(held.any(1), last - first, 0)
    return boxes


def corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes as torchvision takes them: (n, 4) of left, top, right, bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def clipped(boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """What of boxes lies within an image.

    Args:
        boxes: (n, 4): left, top, width, height in pixels.
        height: Of the image.
        width: Of the image.

    Returns:
        The same; sides are 0 where nothing does.
    """
    ends = np.clip(corners(boxes), 0, [width, height] * 2)
    return np.concatenate([ends[:, :2], ends[:, 2:] - ends[:, :2]], axis=1)


def _checked(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], masks: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_] | None]:
    boxes, given = np.asarray(boxes, np.float64), np.asarray(labels)
    if given.size and given.dtype.kind not in "iu":
        raise _wrong("labels that are whole numbers", f"labels {given.dtype}")
    labels = given.astype(np.int64)
    if labels.ndim != 1 or boxes.shape != (len(labels), 4):
        raise _wrong("boxes (n, 4) and labels (n,)", f"boxes {boxes.shape}, labels {labels.shape}")
    if strange := boxes[~np.isfinite(boxes).all(1) | (boxes[:, 2:] < 0).any(1)].tolist():
        raise _wrong("boxes of finite left, top, width and height, no side below 0", f"{strange[0]}")
    if masks is not None and ((masks := np.asarray(masks, bool)).ndim != 3 or len(masks) != len(labels)):
        raise _wrong(f"masks ({len(labels)}, H, W)", f"masks {masks.shape}")
    return boxes, labels, masks


def _same_length(n: int, **arrays: NDArray) -> None:
    for name, array in arrays.items():
        if array.shape != (n,):
            raise _wrong(f"{name} ({n},), one for each label", f"{name} {array.shape}")


def _wrong(expected: str, actual: str) -> UsageError:
    return UsageError(
        "these are no objects of an image",
        expected=expected,
        actual=actual,
        next="boxes are left, top, width, height: (x0, y0, x1 - x0, y1 - y0) of corners",
    )


def _set(value: object, **fields: object) -> None:
    for name, field in fields.items():
        object.__setattr__(value, name, field)
