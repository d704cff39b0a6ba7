"""The geometry of Square (Andriushchenko et al. 2020): each norm's first perturbation, and the proposals after it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TINY = 1e-12


class Rng:
    """Square's random numbers, in the reference's order; drawn on the CPU."""

    def __init__(self, seed: int, like: Tensor) -> None:
        """Seeds the numbers.

        Args:
            seed: Equal seeds give equal numbers.
            like: The tensor whose device and type the signs get.
        """
        self.generator, self.like = torch.Generator().manual_seed(seed), like

    def signs(self, *shape: int) -> Tensor:
        """-1 or 1 for each place of a tensor of this shape."""
        return (2 * torch.rand(shape, generator=self.generator) - 1).sign().to(self.like)

    def below(self, n: int) -> int:
        """A whole number in [0, n)."""
        return int((n * torch.rand(1, generator=self.generator)).long())

    def coin(self) -> bool:
        """True half of the time."""
        return bool(torch.rand(1, generator=self.generator) > 0.5)


def l2_size(x: Tensor) -> Tensor:
    """Euclidean norm of each image, (B, 1, 1, 1)."""
    return x.flatten(1).square().sum(1).sqrt().view(-1, *[1] * (x.ndim - 1))


def linf_start(images: Tensor, eps: float, rng: Rng) -> Tensor:
    """Vertical stripes of +-eps.

    Args:
        images: (B, C, H, W) in [0, 1].
        eps: The radius.
        rng: Draws the stripes' signs.

    Returns:
        adv_images (B, C, H, W) in ball and box.
    """
    batch, channels, _, width = images.shape
    return (images + eps * rng.signs(batch, channels, 1, width)).clamp(0, 1)


def linf_move(images: Tensor, best: Tensor, eps: float, share: float, rng: Rng) -> Tensor:
    """One square, of one colour, at one place for the whole batch, set to +-eps.

    Args:
        images: (B, C, H, W) in [0, 1].
        best: (B, C, H, W) in ball and box, the best adv_images so far.
        eps: The radius.
        share: Of an image's pixels that the square covers.
        rng: Draws the place and the colour.

    Returns:
        The proposed adv_images (B, C, H, W) in ball and box.
    """
    channels, height, width = images.shape[1:]
    side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
    top, left = rng.below(height - side), rng.below(width - side)
    here, new = (..., slice(top, top + side), slice(left, left + side)), best.clone()
    low, high = images[here] - eps, images[here] + eps
    new[here] = (best[here] + 2 * eps * rng.signs(channels, 1, 1)).clamp(low, high).clamp(0, 1)
    return new


def _pyramid(rows: int, columns: int, like: Tensor) -> Tensor:
    """Rectangles within each other, each weighted by its number's inverse square; of L2 norm 1."""
    delta = torch.zeros(rows, columns, dtype=like.dtype, device=like.device)
    top, left = rows // 2, columns // 2
    for i in range(max(rows // 2 + 1, columns // 2 + 1)):
        delta[max(top - i, 0) : top + i + 1, max(left - i, 0) : left + i + 1] += 1 / (i + 1) ** 2
    return delta / delta.square().sum().sqrt()


def _bump(side: int, like: Tensor, rng: Rng) -> Tensor:
    """A hill beside a valley, one above the other or side by side; of L2 norm 1."""
    delta = torch.cat([_pyramid(side // 2, side, like), -_pyramid(side - side // 2, side, like)])
    delta = delta / delta.square().sum().sqrt()
    return delta.T if rng.coin() else delta


def l2_start(images: Tensor, eps: float, rng: Rng) -> Tensor:
    """A grid of bumps, 5 x 5 or a few more.

    Args:
        images: (B, C, H, W) in [0, 1].
        eps: The radius.
        rng: Draws the bumps' signs and directions.

    Returns:
        adv_images (B, C, H, W) in ball and box.
    """
    batch, channels, height, width = images.shape
    side = height // 5
    delta, margin = torch.zeros_like(images), (height - side * 5) // 2
    for i in range(height // side):
        for j in range(width // side):
            top, left = margin + i * side, margin + j * side
            bump = _bump(side, images, rng) * rng.signs(batch, channels, 1, 1)
            window = delta[:, :, top : top + side, left : left + side]
            window += bump[:, :, : window.shape[2], : window.shape[3]]
    return (images + delta / (l2_size(delta) + _TINY) * eps).clamp(0, 1)


def l2_move(images: Tensor, best: Tensor, eps: float, share: float, rng: Rng) -> Tensor:
    """Takes the perturbation out of one window, and gives its budget, and what is unused, to a bump in another.

    Args:
        images: (B, C, H, W) in [0, 1].
        best: (B, C, H, W), the best adv_images so far.
        eps: The radius.
        share: Of an image's pixels that a window covers.
        rng: Draws the windows and the bump.

    Returns:
        The proposed adv_images (B, C, H, W) in ball and box.
    """
    batch, channels, height, width = images.shape
    side = max(round(math.sqrt(share * height * width)), 3)
    side = min(side + (side % 2 == 0), height, width)
    top, left = rng.below(height - side), rng.below(width - side)
    top2, left2 = rng.below(height - side), rng.below(width - side)
    delta = best - images
    here = (..., slice(top, top + side), slice(left, left + side))
    there = (..., slice(top2, top2 + side), slice(left2, left2 + side))
    mask = torch.zeros_like(delta)
    mask[here] = mask[there] = 1
    budget = (delta * mask).square().sum((-2, -1), keepdim=True)
    unused = (eps**2 - l2_size(delta).square()).clamp_min(0) / channels
    old = delta[here] / (_TINY + delta[here].square().sum((-2, -1), keepdim=True).sqrt())
    new = _bump(side, images, rng) * rng.signs(batch, channels, 1, 1) + old
    new = new / (_TINY + new.square().sum((-2, -1), keepdim=True).sqrt()) * (unused + budget).sqrt()
    delta[there] = 0
    delta[here] = new
    return (images + delta / (l2_size(delta) + _TINY) * eps).clamp(0, 1)
