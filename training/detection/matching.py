"""Which detection found which object, as COCO decides it: overlaps of boxes and masks, and the greedy match."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robust_zoo.training.detection.objects import Detections, Objects

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

IOUS = np.linspace(0.5, 0.95, 10)
"""The thresholds over which an average precision is averaged."""
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
"""The least and the most area of an object, in square pixels, both included."""
MOST = 100  # detections of an image and a class that are looked at


@dataclass(frozen=True, eq=False)
class Matched:
    """What became of the detections of one class in one image; A ranges of area, T thresholds.

    Args:
        scores: (d,): of the detections, the highest first.
        hit: (A, T, d): whether each found an object, an ignored one too.
        ignored: (A, T, d): whether it counts neither as right nor as wrong.
        objects: (A,): how many there were to find.
    """

    scores: Floats
    hit: Flags
    ignored: Flags
    objects: NDArray[np.int64]


def findable(objects: Objects) -> Flags:
    """(n,) of bool: which objects are there to be found: no crowds, none that are difficult, none beyond all areas."""
    areas, crowd, difficult = (getattr(objects, name) for name in ("areas", "crowd", "difficult"))
    found: Flags = ~(crowd | difficult | _outside(areas)[0])
    return found


def box_ious(found: Floats, truth: Floats, crowd: Flags) -> Floats:
    """Intersection over union of boxes; over the detection's own area where the object is a crowd.

    Args:
        found: (d, 4): left, top, width, height.
        truth: (g, 4), the same.
        crowd: (g,): which of the objects are crowds.

    Returns:
        (d, g), 0 where they do not meet.
    """
    f, t = found[:, None], truth[None]
    sides = np.minimum(f[..., 2:] + f[..., :2], t[..., 2:] + t[..., :2]) - np.maximum(f[..., :2], t[..., :2])
    inter = np.where((sides > 0).all(-1), sides.prod(-1), 0.0)
    return _over(inter, found[:, 2] * found[:, 3], truth[:, 2] * truth[:, 3], crowd)


def mask_ious(found: Flags, truth: Flags, crowd: Flags) -> Floats:
    """Intersection over union of masks; over the detection's own area where the object is a crowd.

    Args:
        found: (d, H, W).
        truth: (g, H, W).
        crowd: (g,): which of the objects are crowds.

    Returns:
        (d, g), 0 where they do not meet.
    """
    f, t = (masks.reshape(len(masks), int(np.prod(masks.shape[1:]))) for masks in (found, truth))
    kind: type = np.float32 if f.shape[1] < 1 << 24 else np.float64  # in which counts of pixels are exact
    inter = (f.astype(kind) @ t.astype(kind).T).astype(np.float64)
    return _over(inter, f.sum(1).astype(np.float64), t.sum(1).astype(np.float64), crowd)


def _over(inter: Floats, found: Floats, truth: Floats, crowd: Flags) -> Floats:
    union = np.where(crowd[None], found[:, None], found[:, None] + truth[None] - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def match(truth: Objects, found: Detections, label: int, *, masks: bool = False) -> Matched:
    """Each detection, the surest first, takes the object that it overlaps most, of those that are still free.

    An object is free until it is taken; crowds and difficult ones stay so. Ignored are those two, and objects outside
    the range of area; a detection takes one only where it overlaps no other enough, and is ignored then, as are
    detections that found nothing and are themselves outside the range. Of equal overlaps the later object is taken.

    Args:
        truth: What stands in the image.
        found: What was found in it.
        label: The class; others are left out.
        masks: Compare masks instead of boxes.

    Returns:
        What became of its detections, for all ranges of area and thresholds at once.
    """
    g, d = np.flatnonzero(truth.labels == label), np.flatnonzero(found.labels == label)
    d = d[np.argsort(-found.scores[d], kind="stable")][:MOST]
    truth_areas, crowd, difficult = (getattr(truth, n)[g] for n in ("areas", "crowd", "difficult"))
    if masks:
        ious = mask_ious(_masks(found)[d], _masks(truth)[g], crowd) if len(d) and len(g) else np.zeros((len(d), len(g)))
        areas = _masks(found)[d].sum(axis=(1, 2)) if len(d) else np.zeros(0)
    else:
        ious = box_ious(found.boxes[d], truth.boxes[g], crowd)
        areas = found.boxes[d, 2] * found.boxes[d, 3]
    out = (crowd | difficult) | _outside(truth_areas)  # (A, g)
    hit, ignored = _greedy(ious, out, crowd | difficult)
    return Matched(found.scores[d], hit, ignored | (~hit & _outside(areas)[:, None]), np.count_nonzero(~out, axis=1))


def _outside(areas: Floats) -> Flags:
    """(A, n): which areas are outside each range."""
    ranges = np.array([*AREAS.values()])
    return (areas < ranges[:, :1]) | (areas > ranges[:, 1:])


def _masks(value: Objects | Detections) -> Flags:
    if value.masks is None:
        raise TypeError(f"{type(value).__name__} without masks")
    return value.masks


def _greedy(ious: Floats, out: Flags, many: Flags) -> tuple[Flags, Flags]:
    """(A, T, d) each: which detections hit an object, and which of them an ignored one."""
    shape = (len(out), len(IOUS), len(ious))
    hit, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    if not ious.size:
        return hit, ignored
    taken = np.zeros((*shape[:2], ious.shape[1]), bool)
    least = np.minimum(IOUS, 1 - 1e-10)[None, :, None]
    a, t = np.ogrid[: shape[0], : shape[1]]
    for i, row in enumerate(ious):
        free = (row >= least) & (~taken | many)
        wanted = free & ~out[:, None]
        free = np.where(wanted.any(-1, keepdims=True), wanted, free)  # an ignored one only for want of another
        best = ious.shape[1] - 1 - np.where(free, row, -1.0)[..., ::-1].argmax(-1)
        hit[..., i] = free.any(-1)
        ignored[..., i] = hit[..., i] & out[a, best]
        taken[a, t, best] |= hit[..., i]
    return hit, ignored
