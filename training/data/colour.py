"""The colours of robustness' ImageNet transforms: drawn where an image is read, applied to the batch on its device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# AlexNet's colour noise as robustness has it (data_augmentation.py, Lighting): components of ImageNet's RGB values
_NOISE = 0.05
_EIGENVALUES = torch.tensor([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's
_BLACK, _MEAN, _GREY = range(3)  # what brightness, contrast and saturation blend an image with
DRAWS = 9  # numbers of an image: what is blended with, in order; its own share of each blend; the shift
_PLAIN = torch.tensor([0, 1, 2, 1, 1, 1, 0, 0, 0], dtype=torch.float32)


def lighting(rng: np.random.Generator) -> Tensor:
    """A random shift of an image's colour (Krizhevsky et al. 2012, section 4.1).

    Args:
        rng: Draws the shift.

    Returns:
        (3,), to be added to [0, 1] values.
    """
    return _EIGENVECTORS @ (torch.from_numpy(rng.normal(0, _NOISE, 3)).float() * _EIGENVALUES)


def draw(rng: np.random.Generator) -> Tensor:
    """Jitter of brightness, contrast and saturation by 0.9 to 1.1 in any order, and `lighting`.

    Args:
        rng: Draws them.

    Returns:
        (DRAWS,), for `colour`.
    """
    order = rng.permutation(3)
    shares = [rng.uniform(0.9, 1.1) for _ in order]
    return torch.cat([torch.from_numpy(order).float(), torch.tensor(shares), lighting(rng)])


def unchanged() -> Tensor:
    """(DRAWS,), which change nothing."""
    return _PLAIN.clone()


def colour(images: Tensor, draws: Tensor) -> Tensor:
    """A batch with its colours changed, after each blend in whole numbers as torchvision has them of uint8 images.

    Args:
        images: (B, 3, H, W) uint8.
        draws: (B, DRAWS), on the same device.

    Returns:
        (B, 3, H, W) float in [0, 1].
    """
    pixels = images.float()
    luma = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
    for number in range(3):
        which, share = (draws[:, column].view(-1, 1, 1, 1) for column in (number, 3 + number))
        grey = (pixels * luma).sum(1, keepdim=True).floor_()
        other = torch.where(which == _MEAN, grey.mean((2, 3), keepdim=True), grey) * (which != _BLACK)
        pixels = (pixels * share + other * (1 - share)).clamp_(0, 255).floor_()
    return (pixels / 255 + draws[:, 6:].view(-1, 3, 1, 1)).clamp_(0, 1)
