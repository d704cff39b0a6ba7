"""Targeted FAB (Croce & Hein 2020b): the nearest point of the decision boundary, by projecting onto linearisations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import Rules, rules
from robust_zoo.training.attacks.pgd import Poll

_ALPHA_MAX = 0.1  # the most weight that the way from the image itself gets (eq. 9)
_OVERSHOOT = 1.05  # eta: how far beyond the boundary
_BACK = 0.9  # beta: an adversarial point is drawn back towards the image


def fab_targeted(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    targets: int = 9,
    steps: int = 100,
    stop: bool = True,
    poll: Poll = None,
) -> Tensor:
    """Targeted FAB (Croce & Hein 2020b); nothing is random.

    Args:
        model: [0, 1] images -> logits, in eval mode.
        images: (B, C, H, W) float in [0, 1]; not modified.
        labels: (B,) integer classes.
        threat: The norm, and the radius of the ball.
        targets: One run towards each of this many most likely wrong classes.
        steps: Projections per run.
        stop: An image is left alone once a point within eps is known; without it the nearest point of all steps is
            returned, as in the reference.
        poll: Called after every step; may raise.

    Returns:
        Adversarial images (B, C, H, W) within the ball where one was found, the images themselves elsewhere.
    """
    with torch.no_grad():
        logits = model(images)
        adv_images, robust, order = images.clone(), logits.argmax(1) == labels, logits.argsort(1)
        for target in range(2, min(targets, logits.shape[1] - 1) + 2):
            rows = robust.nonzero().squeeze(1)
            if not len(rows):
                break
            found, distance = _run(model, images[rows], labels[rows], order[rows, -target], threat, steps, stop, poll)
            # the boundary's own point may be classified either way by the next rounding: only what holds counts
            near = (distance <= threat.eps) & (model(found).argmax(1) != labels[rows])
            adv_images[rows[near]], robust[rows[near]] = found[near], False
    return adv_images


def _run(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    threat: ThreatModel,
    steps: int,
    stop: bool,
    poll: Poll,
) -> tuple[Tensor, Tensor]:
    """Nearest misclassified points (B, ...) and their distances (B,), infinite where there is none."""
    found, nearest = images.clone(), torch.full((len(images),), torch.inf, dtype=images.dtype, device=images.device)
    index = torch.arange(len(images), device=images.device)
    x, origin, norm = images.clone(), images, rules(threat.norm)
    for _ in range(steps):
        gap, grad = _linearise(model, x, labels, targets)
        # The hyperplane of equal logits, seen from the iterate and from the image.
        both, w, b = torch.cat([x, origin]).flatten(1), grad.flatten(1), (grad * x).flatten(1).sum(1) - gap
        ways = project(both, w.repeat(2, 1), b.repeat(2), norm).view(2, *x.shape)
        length = torch.stack([norm.size(way).clamp_min(1e-8) for way in ways])
        alpha = (length[0] / length.sum(0)).clamp(0, _ALPHA_MAX)
        x = ((x + _OVERSHOOT * ways[0]) * (1 - alpha) + (origin + _OVERSHOOT * ways[1]) * alpha).clamp(0, 1)
        # A pass of its own: where it is misclassified x moves once more, and a gradient here would be thrown away.
        wrong = model(x).argmax(1) != labels
        if poll:
            poll()
        if wrong.any():
            hit = index[wrong]
            distance = norm.size(x[wrong] - origin[wrong]).flatten()
            closer = distance < nearest[hit]
            found[hit[closer]], nearest[hit[closer]] = x[wrong][closer], distance[closer]
            x[wrong] = origin[wrong] + (x[wrong] - origin[wrong]) * _BACK
            if stop and not (keep := nearest[index] > threat.eps).all():
                index, x, origin, labels, targets = (of[keep] for of in (index, x, origin, labels, targets))
            if not len(index):
                break
    return found, nearest


@torch.enable_grad()
def _linearise(model: nn.Module, x: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The target's logit minus the label's at x (B,), and the gradient of that (B, ...)."""
    pixels = x.detach().requires_grad_(True)
    logits = model(pixels)
    gap = (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)
    (grad,) = torch.autograd.grad(gap.sum(), pixels)
    return gap.detach(), grad


def project(points: Tensor, w: Tensor, b: Tensor, norm: Rules) -> Tensor:
    """The smallest steps, in `norm`, from `points` onto the hyperplanes w.x = b within the box [0, 1].

    Every coordinate moves by min(t |v|, room) against the sign of w, where v is w for L2 and its sign for Linf, and
    room is the way to the box's side. What that gains is concave and piecewise linear in t, so that Newton's method
    from t = 0 never goes too far, and reaches the t that gains the distance with the last of few pieces.

    Args:
        points: (B, D) in the box.
        w: (B, D), the hyperplanes' normals.
        b: (B,), their offsets.
        norm: The rules of the norm to be small in.

    Returns:
        The steps (B, D); where a hyperplane misses the box, the step that comes nearest to it.
    """
    gain = (w * points).sum(1) - b
    towards = w.sign() * torch.where(gain < 0, -1, 1)[:, None]
    gain, weight = gain.abs(), w.abs()
    speed, room = norm.fab_speed(weight), towards * points + (-towards).clamp_min(0)
    arrives = room / speed  # at which t a coordinate is at the side; nan, which is never ahead, where it never moves
    rate, whole = weight * speed, weight * room  # what it gains: by t, and in all
    t, under_way = torch.zeros_like(gain), torch.empty_like(w)
    while True:
        torch.gt(arrives, t[:, None], out=under_way)
        ahead = (gain - (whole * (1 - under_way)).sum(1)) / (rate * under_way).sum(1)
        if not (ahead > t).any():
            return -towards * torch.minimum(t[:, None] * speed, room).nan_to_num()
        t = torch.fmax(t, ahead)  # where none is under way ahead is infinite, or no number
