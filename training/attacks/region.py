"""Points inside the region that an attack's path spans: random convex combinations of the points it went through.

Song et al. 2021 train in such a region; of their paper the abstract alone could be had, so what is drawn here, and how,
is robust_zoo's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robust_zoo.training.attacks.norms import as_images


def uniform_weights(points: int, like: Tensor) -> Tensor:
    """Weights of a convex combination, uniform over the simplex: Dirichlet(1, ..., 1), from torch's global generator.

    Args:
        points: How many there are to combine.
        like: (B, ...), whose number, type and device they have.

    Returns:
        (B, points), at least 0, each row summing to 1.
    """
    draws = torch.empty(len(like), points, dtype=like.dtype, device=like.device).exponential_()
    return draws / draws.sum(1, keepdim=True)


def point_within(path: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The convex combination of the points of a path.

    Args:
        path: Tensors (B, C, H, W) in [0, 1], as many as there are columns of weights.
        weights: (B, T + 1), as `uniform_weights` gives them.

    Returns:
        (B, C, H, W) in [0, 1], and in every convex set that holds the path.
    """
    point = sum(as_images(weights[:, i], at) * at for i, at in enumerate(path))
    assert isinstance(point, Tensor)
    return point.clamp(0, 1)  # what rounding left of a weight's sum
