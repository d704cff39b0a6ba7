"""What every attack needs of a norm, one row each. `robust_zoo.threat.NORMS` names the norms; both must have the same.

All functions take and return (B, ...) tensors and treat images separately.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_zoo.errors import ZooError
from robust_zoo.threat import NORMS, norm_of
from robust_zoo.training.attacks import square_moves
from robust_zoo.training.attacks.square_moves import Rng

_TINY = 1e-10  # keeps 0/0 out of a zero gradient's direction; the value robustness uses
_APGD_TINY = 1e-12  # the same in Auto-PGD's reference


@dataclass(frozen=True)
class Rules:
    """The rules of one norm.

    Attributes:
        size: delta -> each image's norm, (B, 1, 1, 1).
        start: like, eps -> a random perturbation, uniform in the ball.
        direction: gradient -> steepest ascent step of size 1.
        project: delta, eps -> nearest perturbation in the ball.
        apgd_noise: shape, rng -> what a start on the ball's surface is scaled from; drawn on the CPU.
        apgd_direction: gradient -> Auto-PGD's step of size 1, in the reference's order of operations, on which its
            pixels depend.
        apgd_into_ball: adv_images, images, eps -> adv_images in ball and box; the order of operations likewise.
        fab_speed: |w| of a hyperplane -> how fast each coordinate moves on the shortest way to it.
        square_start: images, eps, rng -> Square's first adv_images (training.attacks.square_moves).
        square_move: images, best, eps, share, rng -> its proposals after that.
    """

    size: Callable[[Tensor], Tensor]
    start: Callable[[Tensor, float], Tensor]
    direction: Callable[[Tensor], Tensor]
    project: Callable[[Tensor, float], Tensor]
    apgd_noise: Callable[[torch.Size, torch.Generator], Tensor]
    apgd_direction: Callable[[Tensor], Tensor]
    apgd_into_ball: Callable[[Tensor, Tensor, float], Tensor]
    fab_speed: Callable[[Tensor], Tensor]
    square_start: Callable[[Tensor, float, Rng], Tensor]
    square_move: Callable[[Tensor, Tensor, float, float, Rng], Tensor]


def as_images(values: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1), to be combined with images such as `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _unit(x: Tensor) -> Tensor:
    return x / (as_images(x.flatten(1).norm(dim=1), x) + _TINY)


def _l2_start(like: Tensor, eps: float) -> Tensor:
    radius = torch.rand(len(like), dtype=like.dtype, device=like.device) ** (1 / like[0].numel())
    return eps * as_images(radius, like) * _unit(torch.randn_like(like))


def _l2_into_ball(x: Tensor, images: Tensor, eps: float) -> Tensor:
    delta = x - images
    size = square_moves.l2_size(delta)
    return (images + delta / (size + _APGD_TINY) * size.clamp_max(eps)).clamp(0, 1)


RULES: dict[str, Rules] = {
    "l2": Rules(
        size=square_moves.l2_size,
        start=_l2_start,
        direction=_unit,
        project=lambda delta, eps: delta.renorm(2, 0, eps),
        apgd_noise=lambda shape, rng: torch.randn(shape, generator=rng),
        apgd_direction=lambda grad: grad / (square_moves.l2_size(grad) + _APGD_TINY),
        apgd_into_ball=_l2_into_ball,
        fab_speed=lambda weight: weight,
        square_start=square_moves.l2_start,
        square_move=square_moves.l2_move,
    ),
    "linf": Rules(
        size=lambda x: as_images(x.flatten(1).abs().amax(1), x),
        start=lambda like, eps: eps * (2 * torch.rand_like(like) - 1),
        direction=torch.sign,
        project=lambda delta, eps: delta.clamp(-eps, eps),
        apgd_noise=lambda shape, rng: 2 * torch.rand(shape, generator=rng) - 1,
        apgd_direction=torch.sign,
        apgd_into_ball=lambda x, images, eps: x.clamp(images - eps, images + eps).clamp(0, 1),
        fab_speed=torch.sign,
        square_start=square_moves.linf_start,
        square_move=square_moves.linf_move,
    ),
}


def rules(norm: str) -> Rules:
    """The rules of a norm, for every attack.

    Args:
        norm: A name of robust_zoo.threat.NORMS.

    Returns:
        Its row of RULES.

    Raises:
        UsageError: The norm is unknown.
        ZooError: The norm is one of NORMS without rules here.
    """
    norm_of(norm)
    if norm not in RULES:
        raise _incomplete({norm})
    return RULES[norm]


def _incomplete(norms: set[str]) -> ZooError:
    return ZooError(
        f"no rules to attack in {', '.join(sorted(norms))}",
        source="training/attacks/norms.py",
        expected=f"a row of RULES for each of {', '.join(NORMS)}",
        actual=f"rows for {', '.join(RULES)}",
        next="add the row: attacks cannot guess it",
    )


if missing := NORMS.keys() ^ RULES.keys():
    raise _incomplete(set(missing))
