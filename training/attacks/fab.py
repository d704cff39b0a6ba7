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
    x, shape, norm = images.clone(), images.shape[1:], rules(threat.norm)
    wrong, gap, grad = _linearise(model, x, labels, targets)
    for i in range(steps):
        # The hyperplane of equal logits, seen from the iterate and from the image.
        w = grad.flatten(1)
        b = (grad * x).flatten(1).sum(1) - gap
        both = torch.cat([x.flatten(1), images[index].flatten(1)])
        ways = project(both, torch.cat([w, w]), torch.cat([b, b]), norm)
        length = norm.size(ways).clamp_min(1e-8).view(2, -1, *[1] * len(shape))
        here, there = ways.view(2, -1, *shape)
        alpha = (length[0] / length.sum(0)).clamp(0, _ALPHA_MAX)
        x = ((x + _OVERSHOOT * here) * (1 - alpha) + (images[index] + _OVERSHOOT * there) * alpha).clamp(0, 1)
        wrong, gap, grad = _linearise(model, x, labels[index], targets[index])
        if poll:
            poll()
        if wrong.any():
            hit = index[wrong]
            distance = norm.size(x[wrong] - images[hit]).flatten()
            closer = distance < nearest[hit]
            found[hit[closer]], nearest[hit[closer]] = x[wrong][closer], distance[closer]
            x[wrong] = images[hit] + (x[wrong] - images[hit]) * _BACK
            if stop and (keep := nearest[index] > threat.eps).sum() < len(index):
                index, x, gap, grad, wrong = index[keep], x[keep], gap[keep], grad[keep], wrong[keep]
            if not len(index):
                break
            if wrong.any() and i + 1 < steps:  # only these moved since their gradient was taken
                _, gap[wrong], grad[wrong] = _linearise(model, x[wrong], labels[index[wrong]], targets[index[wrong]])
    return found, nearest


def _linearise(model: nn.Module, x: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether x is misclassified (B,), its target's logit minus its label's (B,), and the gradient of that (B, ...)."""
    with torch.enable_grad():
        pixels = x.detach().requires_grad_(True)
        logits = model(pixels)
        gap = logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None])
        (grad,) = torch.autograd.grad(gap.sum(), pixels)
    return logits.detach().argmax(1) != labels, gap.detach().squeeze(1), grad


def project(points: Tensor, w: Tensor, b: Tensor, norm: Rules) -> Tensor:
    """The smallest steps, in `norm`, from `points` onto the hyperplanes w.x = b within the box [0, 1].

    Every coordinate moves by min(t |v|, room) against the sign of w, where v is w for L2 and its sign for Linf, and
    room is the way to the box's side. What that gains is piecewise linear and rising in t; the t that gains the
    distance is found by sorting the ends of the pieces.

    Args:
        points: (B, D) in the box.
        w: (B, D), the hyperplanes' normals.
        b: (B,), their offsets.
        norm: The rules of the norm to be small in.

    Returns:
        The steps (B, D); where a hyperplane misses the box, the step that comes nearest to it.
    """
    gain = (w * points).sum(1) - b
    w = torch.where(gain[:, None] < 0, -w, w)
    gain = gain.abs()
    weight = w.abs()
    speed = norm.fab_speed(weight)
    room = torch.where(w > 0, points, 1 - points) * (weight > 0)
    ends, order = torch.where(weight > 0, room / speed, torch.inf).sort(1)
    done = (weight * room).gather(1, order).cumsum(1)  # gained by the coordinates that have arrived
    slope = (weight * speed).gather(1, order)
    left = slope.flip(1).cumsum(1).flip(1)  # rate at which those still under way gain, before each end
    reached = torch.cat([torch.zeros_like(gain)[:, None], done[:, :-1]], 1)  # at the same place
    at_end = reached + left * ends.nan_to_num(posinf=0)
    piece = (at_end < gain[:, None]).sum(1, keepdim=True).clamp_max(w.shape[1] - 1)
    rate = left.gather(1, piece)
    t = (gain[:, None] - reached.gather(1, piece)) / rate.clamp_min(1e-30)
    t = torch.where(gain[:, None] >= done[:, -1:], torch.inf, t.clamp_min(0))
    return -w.sign() * torch.minimum(t * speed, room).nan_to_num()
