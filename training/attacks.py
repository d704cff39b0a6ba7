"""Projected gradient descent (Madry et al. 2018) in pixel space: one loop, three small rules a norm.

The model is a plain function from [0, 1] images to logits; wrap a normalising backbone with
`robust_zoo.pixel_model` first. There is no clamp inside the graph (see robust_zoo.normalize).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_zoo.threat import ThreatModel

_TINY = 1e-10  # keeps 0/0 out of a zero gradient's direction; the value robustness uses


@dataclass(frozen=True)
class _Norm:
    """The three rules PGD needs; each takes and returns (B, ...) tensors and treats images separately."""

    start: Callable[[Tensor, float], Tensor]  # like, eps -> a random perturbation in the ball
    direction: Callable[[Tensor], Tensor]  # gradient -> steepest ascent step of size 1
    project: Callable[[Tensor, float], Tensor]  # perturbation, eps -> nearest one in the ball


def _lengths(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))


def _l2_start(like: Tensor, eps: float) -> Tensor:
    noise = torch.randn_like(like)
    return eps * noise / (_lengths(noise) + _TINY)


_RULES = {
    "l2": _Norm(
        start=_l2_start,
        direction=lambda grad: grad / (_lengths(grad) + _TINY),
        project=lambda delta, eps: delta * (eps / _lengths(delta).clamp_min(_TINY)).clamp_max(1.0),
    ),
    "linf": _Norm(
        start=lambda like, eps: eps * (2 * torch.rand_like(like) - 1),
        direction=torch.sign,
        project=lambda delta, eps: delta.clamp(-eps, eps),
    ),
}


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float,
    random_start: bool = False,
) -> Tensor:
    """Adversarial images: `steps` of steepest ascent on the cross-entropy, projected after each.

    model: (B, C, H, W) in [0, 1] -> logits (B, K). Runs in eval mode and is left in the mode it came in.
    images: (B, C, H, W) float in [0, 1]; not modified. labels: (B,) integer classes.
    step_size: in [0, 1] units of the norm; Salman et al. 2020 train with 3 steps of 2/3 eps, no random start.

    Returns adv_images (B, C, H, W) in [0, 1] with ||adv_images - images|| <= eps. No parameter
    receives a gradient. eps 0 returns the images themselves.
    """
    if threat.eps == 0 or steps == 0:
        return images.detach().clone()
    rule, eps, images = _RULES[threat.norm], threat.eps, images.detach()
    was_training = model.training
    model.eval()  # as robustness' AttackerModel: the attack sees running statistics (attacker.py, forward)
    try:
        start = rule.start(images, eps) if random_start else torch.zeros_like(images)
        adv = (images + start).clamp(0, 1)
        for _ in range(steps):
            adv.requires_grad_(True)
            with torch.enable_grad():
                loss = F.cross_entropy(model(adv).float(), labels, reduction="sum")
                (grad,) = torch.autograd.grad(loss, adv)
            with torch.no_grad():
                delta = rule.project(adv + step_size * rule.direction(grad) - images, eps)
                adv = (images + delta).clamp(0, 1)
        return adv.detach()
    finally:
        model.train(was_training)
