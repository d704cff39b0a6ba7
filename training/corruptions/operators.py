"""What corruptions are made of: blurs, zooms, streaks, clouds, displacements of square images."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

_TRUNCATE = 4.0  # deviations, beyond which a Gaussian is cut off


@cache
def gaussian(side: int, sigma: float) -> np.ndarray:
    """A Gaussian blur of one axis as a matrix; the axis is mirrored at its ends, with the last pixel twice.

    Args:
        side: Pixels of the axis.
        sigma: The deviation in pixels; 0 changes nothing.

    Returns:
        (side, side), whose rows add up to 1.
    """
    reach = math.ceil(_TRUNCATE * sigma)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma, 1e-12)) ** 2)
    matrix = np.zeros((side, side))
    for row in range(side):
        np.add.at(matrix[row], _mirrored(row + offsets, side), weights / weights.sum())
    return matrix


@cache
def zoom(side: int, factor: float) -> np.ndarray:
    """A zoom of one axis around its centre as a matrix, by linear interpolation.

    Args:
        side: Pixels of the axis.
        factor: 1 or more; 1 changes nothing.

    Returns:
        (side, side), whose rows add up to 1.
    """
    centre = (side - 1) / 2
    places = centre + (np.arange(side) - centre) / factor
    low = np.floor(places).astype(int)
    share = places - low
    matrix = np.zeros((side, side))
    rows = np.arange(side)
    np.add.at(matrix, (rows, low), 1 - share)
    np.add.at(matrix, (rows, np.minimum(low + 1, side - 1)), share)
    return matrix


def both(matrix: np.ndarray, image: np.ndarray) -> np.ndarray:
    """An operator of one axis on rows and columns of an image, (H, W) or (H, W, C)."""
    return np.swapaxes(np.tensordot(matrix, np.tensordot(matrix, image, (1, 0)), (1, 1)), 0, 1)


@cache
def _disk(radius: float, edge: float) -> torch.Tensor:
    """(1, 1, K, K), adding up to 1: a disk of pixels, its edge softened by a small Gaussian."""
    soft = 1 if radius <= 8 else 2
    reach = math.floor(radius)
    offsets = np.arange(-reach - soft, reach + soft + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(float)
    near = np.arange(-soft, soft + 1)
    weights = np.exp(-0.5 * (near / edge) ** 2)
    weights = np.outer(weights, weights)
    kernel = F.conv2d(torch.from_numpy(disk)[None, None], torch.from_numpy(weights)[None, None], padding=soft)
    return (kernel / kernel.sum()).float()


def defocus(image: np.ndarray, radius: float, edge: float) -> np.ndarray:
    """A blur by a disk; the image is mirrored at its edges.

    Args:
        image: (H, W, 3).
        radius: Of the disk, in pixels.
        edge: The deviation of the Gaussian that softens it, in pixels.

    Returns:
        (H, W, 3).
    """
    kernel = _disk(radius, edge)
    reach = kernel.shape[-1] // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    planes = torch.from_numpy(padded.transpose(2, 0, 1).astype(np.float32))[:, None]  # fp64 takes ten times as long
    return F.conv2d(planes, kernel)[:, 0].numpy().transpose(1, 2, 0).astype(float)


def streak(image: np.ndarray, length: float, sigma: float, degrees: float) -> np.ndarray:
    """A blur along a line to one side, each pixel less by half a Gaussian; edges go on as they end.

    Args:
        image: (H, W) or (H, W, C).
        length: Half of the line, in pixels.
        sigma: The Gaussian's deviation, in pixels.
        degrees: From the row's direction, clockwise.

    Returns:
        As `image`.
    """
    steps = np.arange(2 * int(length) + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights /= weights.sum()
    down = np.rint(steps * math.sin(math.radians(degrees))).astype(int)
    right = np.rint(steps * math.cos(math.radians(degrees))).astype(int)
    reach = len(steps)
    padded = np.pad(image, ((reach, reach), (reach, reach), *((0, 0),) * (image.ndim - 2)), mode="edge")
    height, width = image.shape[:2]
    out = np.zeros_like(image)
    for weight, y, x in zip(weights, down + reach, right + reach, strict=True):
        out += weight * padded[y : y + height, x : x + width]
    return out


def clouds(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Noise with structure of every size: octaves, each of twice the frequency and 1 / decay of the height.

    Args:
        side: Pixels.
        decay: Above 1; the larger the smoother.
        rng: Draws them.

    Returns:
        (side, side), from 0 to 1.
    """
    field, cells, height = np.zeros((side, side)), 1, 1.0
    while cells < 2 * side:
        coarse = rng.uniform(-height, height, (cells + 1, cells + 1))
        between = _stretch(side, cells)
        field += between @ coarse @ between.T
        cells, height = 2 * cells, height / decay
    field -= field.min()
    return field / field.max()


@cache
def _stretch(side: int, cells: int) -> np.ndarray:
    """(side, cells + 1): the values at pixels between those at the corners of cells."""
    places = np.arange(side) * cells / side
    low = places.astype(int)
    matrix = np.zeros((side, cells + 1))
    matrix[np.arange(side), low] = 1 - (places - low)
    matrix[np.arange(side), low + 1] = places - low
    return matrix


def sample(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """An image at places between its pixels, by linear interpolation; it is mirrored at its edges.

    Args:
        image: (H, W, 3).
        y: (H, W), rows.
        x: (H, W), columns.

    Returns:
        (H, W, 3).
    """
    side = len(image)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top)[..., None], (x - left)[..., None]
    rows, columns = ([_mirrored(start + i, side) for i in (0, 1)] for start in (top, left))
    upper = image[rows[0], columns[0]] * (1 - right) + image[rows[0], columns[1]] * right
    lower = image[rows[1], columns[0]] * (1 - right) + image[rows[1], columns[1]] * right
    return upper * (1 - down) + lower * down


def _mirrored(places: np.ndarray, side: int) -> np.ndarray:
    """Pixels that places stand for beyond the ends of an axis: ... 1 0 0 1 ... side-1 side-1 side-2 ..."""
    folded = places % (2 * side)
    return np.where(folded < side, folded, 2 * side - 1 - folded)
