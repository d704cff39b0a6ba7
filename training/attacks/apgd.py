"""Auto-PGD (Croce & Hein 2020, algorithm 1): PGD with momentum whose step size halves where it stops paying.

Equal to the authors' reference image for image, random numbers included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import as_images, rules
from robust_zoo.training.attacks.pgd import Poll

_TINY = 1e-12  # the reference's guard against division by zero
_MOMENTUM = 0.75
_RHO = 0.75  # of a window's steps: where no more than this raised the loss, the step size is halved


def _dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Difference of logits ratio (eq. 6): unlike cross-entropy it does not change when logits are scaled."""
    ordered, order = logits.sort(dim=1)
    other = torch.where(order[:, -1] == labels, ordered[:, -2], ordered[:, -1])
    return -(_of(logits, labels) - other) / (ordered[:, -1] - ordered[:, -3] + _TINY)


def _targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Its targeted form (eq. 7); four classes or more."""
    ordered = logits.sort(dim=1).values
    spread = ordered[:, -1] - 0.5 * (ordered[:, -3] + ordered[:, -4]) + _TINY
    return -(_of(logits, labels) - _of(logits, targets)) / spread


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None]).squeeze(1)


# (logits (B, K), labels (B,), targets (B,)) -> (B,)
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ce": lambda logits, labels, _: F.cross_entropy(logits, labels, reduction="none"),
    "dlr": _dlr,
    "dlr-targeted": _targeted_dlr,
}


@dataclass
class _Points:
    """What is known of the images still under attack; every field is (n, ...)."""

    index: Tensor
    images: Tensor
    labels: Tensor
    targets: Tensor
    adv: Tensor
    adv_before: Tensor
    grad: Tensor
    loss: Tensor
    best: Tensor  # iterate of highest loss, with its gradient and loss
    grad_best: Tensor
    loss_best: Tensor
    loss_best_at_check: Tensor
    rises: Tensor  # steps since the last check that raised the loss
    halved: Tensor  # whether the last check halved the step
    step: Tensor

    def keep(self, which: Tensor) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[which])


def apgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    loss: str = "ce",
    targets: int = 0,
    steps: int = 100,
    restarts: int = 1,
    seed: int = 0,
    stop: bool = True,
    poll: Poll = None,
) -> Tensor:
    """Auto-PGD from random starts on the ball's surface (Croce & Hein 2020, algorithm 1).

    Args:
        model: [0, 1] images -> logits, in eval mode.
        images: (B, C, H, W) float in [0, 1]; not modified.
        labels: (B,) integer classes.
        threat: The norm, and the radius of the ball.
        loss: "ce", "dlr" or, with `targets` > 0, "dlr-targeted".
        targets: With "dlr-targeted", one run towards each of this many most likely wrong classes; else 0.
        steps: Gradient steps per run.
        restarts: Runs, each from a random start of its own, per target.
        seed: Of the random starts, which are drawn on the CPU.
        stop: An image leaves the batch once it is misclassified, so that its adversarial image is the first such
            iterate; without it every image makes every step and the last one counts, as in the reference. Which images
            are broken is the same.
        poll: Called after every step; may raise.

    Returns:
        Adversarial images (B, C, H, W) where one was found, the images themselves elsewhere.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        logits = model(images)
    adv_images, robust = images.clone(), logits.argmax(1) == labels
    order = logits.argsort(1)
    for target in range(2, min(targets, logits.shape[1] - 1) + 2) if targets else [1]:
        for _ in range(restarts):
            rows = robust.nonzero().squeeze(1)
            if not len(rows):
                return adv_images
            towards = order[rows, -target]
            found, fooled = _run(model, images[rows], labels[rows], towards, threat, loss, rng, steps, stop, poll)
            adv_images[rows[fooled]] = found[fooled]
            robust[rows[fooled]] = False
    return adv_images


@torch.no_grad()
def _run(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    threat: ThreatModel,
    loss: str,
    rng: torch.Generator,
    steps: int,
    stop: bool,
    poll: Poll,
) -> tuple[Tensor, Tensor]:
    """One run from one random start: the misclassified iterates (B, ...), and where there is one (B,)."""

    def evaluate(p: _Points) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            pixels = p.adv.detach().requires_grad_(True)
            logits = model(pixels)
            values = LOSSES[loss](logits, p.labels, p.targets)
            (p.grad,) = torch.autograd.grad(values.sum(), pixels)
        wrong = logits.detach().argmax(1) != p.labels
        found[p.index[wrong]], fooled[p.index[wrong]] = p.adv[wrong], True
        if poll:
            poll()
        return values.detach(), wrong

    found, fooled = images.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device)
    p = _start(images, labels, targets, threat, rng)
    value, wrong = evaluate(p)
    p.best, p.grad_best, p.loss_best, p.loss_best_at_check = p.adv, p.grad, value, value
    window, since = max(int(0.22 * steps), 1), 0
    for i in range(steps):
        if stop and wrong.any():
            p.keep(~wrong)
        if not len(p.index):
            break
        _ascend(p, threat, _MOMENTUM if i else 1.0)
        value, wrong = evaluate(p)
        p.rises = p.rises + (value > p.loss)
        better = value > p.loss_best
        rows = as_images(better, images)
        p.best, p.grad_best = torch.where(rows, p.adv, p.best), torch.where(rows, p.grad, p.grad_best)
        p.loss, p.loss_best = value, torch.where(better, value, p.loss_best)
        since += 1
        if since == window:
            _check(p, window)
            window, since = max(window - max(int(0.03 * steps), 1), int(0.06 * steps), 1), 0
    return found, fooled


def _start(images: Tensor, labels: Tensor, targets: Tensor, threat: ThreatModel, rng: torch.Generator) -> _Points:
    """A random point on the ball's surface; drawn on the CPU, so that every device sees the same."""
    norm = rules(threat.norm)
    noise = norm.apgd_noise(images.shape, rng).to(images)
    adv_images = (images + threat.eps * (noise / (norm.size(noise) + _TINY))).clamp(0, 1)
    nothing = torch.zeros(len(images), dtype=images.dtype, device=images.device)
    return _Points(
        index=torch.arange(len(images), device=images.device),
        images=images,
        labels=labels,
        targets=targets,
        adv=adv_images,
        adv_before=adv_images,
        grad=adv_images,
        loss=nothing,
        best=adv_images,
        grad_best=adv_images,
        loss_best=nothing,
        loss_best_at_check=nothing,
        rises=nothing.long(),
        halved=torch.ones_like(nothing, dtype=torch.bool),
        step=as_images(torch.full_like(nothing, 2 * threat.eps), images),
    )


def _ascend(p: _Points, threat: ThreatModel, momentum: float) -> None:
    norm, eps = rules(threat.norm), threat.eps
    moved = p.adv - p.adv_before
    p.adv_before = p.adv
    ahead = norm.apgd_into_ball(p.adv + p.step * norm.apgd_direction(p.grad), p.images, eps)
    p.adv = norm.apgd_into_ball(p.adv + (ahead - p.adv) * momentum + moved * (1 - momentum), p.images, eps)


def _check(p: _Points, window: int) -> None:
    """Where the loss oscillates, or has not improved since a check that changed nothing: halve, go back to the best."""
    stalled = ~p.halved & (p.loss_best_at_check >= p.loss_best)
    p.halved = (p.rises <= window * _RHO) | stalled
    p.loss_best_at_check, p.rises = p.loss_best, torch.zeros_like(p.rises)
    rows = as_images(p.halved, p.adv)
    p.step = torch.where(rows, p.step / 2, p.step)
    p.adv, p.grad = torch.where(rows, p.best, p.adv), torch.where(rows, p.grad_best, p.grad)
