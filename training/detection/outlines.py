"""Masks as files keep them, polygons or runs of pixels, and as arrays of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
_FAR = 1e9  # pixels from the image's corner, at most: what is drawn is reckoned without overflow


@dataclass(frozen=True)
class Polygons:
    """What lies in any of some polygons: pixels whose centre does, edges crossed an odd number of times.

    COCO's own drawing differs from it by single pixels along the edge.

    Args:
        corners: Each polygon as x, y, x, y, ... in pixels from the image's upper left corner.
    """

    corners: tuple[tuple[float, ...], ...]

    def mask(self, height: int, width: int) -> Mask:
        """(H, W) of bool."""
        return np.any([_filled(np.reshape(c, (-1, 2)), height, width) for c in self.corners], axis=0)


@dataclass(frozen=True)
class Runs:
    """Runs of pixels in turn outside and inside, down the columns from the left, the first of them outside.

    Args:
        counts: How long each is; together height x width.
    """

    counts: tuple[int, ...]

    def mask(self, height: int, width: int) -> Mask:
        """(H, W) of bool."""
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(width, height).T


def runs_of(text: str) -> tuple[int, ...]:
    """The lengths of runs in COCO's packed text.

    A number is written five bits to a character from the lowest, 32 marks that more follow, 16 of the last the sign;
    48 is added to each. From the fourth number on the difference to the number two before is written.

    Args:
        text: The `counts` of a compressed mask.

    Returns:
        The lengths.

    Raises:
        ValueError: It is no such text.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        if not 0 <= (code := ord(letter) - 48) < 64 or shift > 30:
            raise ValueError(f"{letter!r} in packed runs")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= (1 << shift) if code & 16 else 0
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift or any(count < 0 for count in counts):
        raise ValueError("packed runs that end amid a number" if shift else "a run of a negative length")
    return tuple(counts)


def _filled(polygon: NDArray[np.float64], height: int, width: int) -> Mask:
    """Row by row: a pixel's centre is inside when an odd number of edges crosses its row to its left."""
    crossings = np.zeros((height, width + 1), np.int64)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        low, high = (int(v) for v in np.ceil(np.clip([min(y0, y1), max(y0, y1)], 0, height) - 0.5))
        rows = np.arange(low, high)
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            crossings[rows, np.ceil(np.clip(x, 0, width) - 0.5).astype(int)] += 1
    return crossings.cumsum(1)[:, :-1] % 2 == 1


def outline(value: object, height: int, width: int) -> Polygons | Runs:
    """A `segmentation` of COCO.

    Args:
        value: A list of polygons, or a dict with `size` and `counts`, a list or packed.
        height: Of the image.
        width: Of the image.

    Returns:
        The outline.

    Raises:
        ValueError: It is none, or not of an image of this size.
    """
    if isinstance(value, list) and value and all(_is_polygon(polygon) for polygon in value):
        return Polygons(tuple(tuple(map(float, polygon)) for polygon in value))
    if not isinstance(value, dict) or not {"size", "counts"} <= set(value):
        raise ValueError(
            "a segmentation that is neither polygons of at least three corners in pixels nor size and counts"
        )
    if value["size"] != [height, width]:
        raise ValueError(f"a mask of {value['size']} in an image of {[height, width]}")
    counts = runs_of(value["counts"]) if isinstance(value["counts"], str) else value["counts"]
    if not isinstance(counts, list | tuple) or not all(type(c) is int and 0 <= c <= height * width for c in counts):
        raise ValueError("counts that are no lengths of runs")
    if sum(counts) != height * width:
        raise ValueError(f"runs of {sum(counts):,} pixels in an image of {height * width:,}")
    return Runs(tuple(counts))


def _is_polygon(value: Sequence[object]) -> bool:
    numbers = isinstance(value, list) and all(type(v) in (int, float) and abs(v) <= _FAR for v in value)
    return numbers and len(value) >= 6 and len(value) % 2 == 0


def drawn(outlines: Sequence[Polygons | Runs], height: int, width: int) -> Mask:
    """The masks of an image's objects.

    Args:
        outlines: One for each object.
        height: Of the image.
        width: Of the image.

    Returns:
        (n, H, W) of bool.
    """
    masks = [outline.mask(height, width) for outline in outlines]
    return np.stack(masks) if masks else np.zeros((0, height, width), bool)
