"""Adversarial images that stay adversarial in a file of 8 bits per channel, and use the whole budget."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.errors import UsageError
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.norms import as_images, rules
from robust_zoo.training.attacks.pgd import pgd
from robust_zoo.training.attacks.settings import stages
from robust_zoo.training.attacks.suites import suite

_LEVELS = 255
_SLACK = 1e-6  # of float32, in which sizes are computed
_HALVINGS = 20  # of the interval in which the change's scale is looked for
_STEPS = 20  # at most, to the whole budget
_RELATIVE_STEP = 2.5  # of eps / steps (Madry et al. 2018)
_AGAIN = 3  # more tries where rounding undid what was found, each of twice the steps


def adversarial_pictures(model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, attack: str) -> Tensor:
    """Attacks images for showing, not for counting: in 8 bits, with the whole budget, at the iterate of highest margin.

    The attack itself stops at the first misclassified iterate, which rounding often makes right again. From there PGD
    goes on behind the rounding, with no more steps than the attack has, and again where the rounded image is right.

    Args:
        model: (B, C, H, W) in [0, 1] -> logits (B, K), in eval mode.
        images: (B, C, H, W) float in [0, 1]; not modified.
        labels: (B,) integer classes, the model's own.
        threat: The norm, and the radius of the ball.
        attack: A name that `suites.suite` knows, with at least one stage.

    Returns:
        (B, C, H, W) in [0, 1] in steps of 1/255: the strongest found, whether or not the model is fooled by it.

    Raises:
        UsageError: The attack is unknown.
    """
    sequence = suite(attack)
    found = images.clone()
    for stage in sequence:
        rows = ~_moved(found, images)
        if rows.any():
            found[rows] = stage(model, images[rows], labels[rows], threat, seed=0, poll=None)
    steps = min(_STEPS, max(stage.settings.get("steps", _STEPS) for stage in sequence))
    relative = max(stage.settings.get("relative_step", _RELATIVE_STEP) for stage in sequence)
    broken, best = _moved(found, images), _go_on(model, images, labels, threat, found, steps, relative)
    for doublings in range(1, _AGAIN + 1):
        rows = broken & (_classes(model, best) == labels)
        if not rows.any():
            break
        more = _STEPS * 2**doublings
        best[rows] = _go_on(model, images[rows], labels[rows], threat, found[rows], more, _RELATIVE_STEP)
    return best


def targeted_pictures(model: nn.Module, images: Tensor, targets: Tensor, threat: ThreatModel, attack: str) -> Tensor:
    """As `adversarial_pictures`, towards classes: PGD on the margin behind the rounding, of all iterates the best.

    Args:
        model: (B, C, H, W) in [0, 1] -> logits (B, K), in eval mode.
        images: (B, C, H, W) float in [0, 1]; not modified.
        targets: (B,) integer classes, those to be reached.
        threat: The norm, and the radius of the ball.
        attack: "pgd-20" (steps; "pgd-20x5": five random restarts) or "fgsm".

    Returns:
        (B, C, H, W) in [0, 1] in steps of 1/255, whether or not the model says what it was to say.

    Raises:
        UsageError: The attack is unknown, or only leads away from a class.
    """
    check_has_target(attack)
    (stage,) = stages(attack)
    steps, restarts = stage.values["steps"], stage.values.get("restarts", 0)
    size = stage.values.get("relative_step", _RELATIVE_STEP) * threat.eps / steps
    how: dict[str, Any] = {"loss": "margin", "targeted": True, "keep_best": True}
    how |= {"random_start": restarts > 0, "restarts": max(restarts, 1)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        best = pgd(_Rounding(model, images, threat), images, targets, threat, steps=steps, step_size=size, **how)
    return in_eight_bits(best, images, threat)


def check_has_target(attack: str) -> None:
    """Makes sure that an attack can be led towards a class.

    Args:
        attack: A name that `suites.suite` knows.

    Raises:
        UsageError: It is unknown, or only leads away from a class.
    """
    if [stage.attack for stage in stages(attack)] != ["pgd"]:
        raise UsageError(
            f"{attack} leads away from a class, to none in particular",
            expected="with a target: pgd-N, pgd-NxR or fgsm",
            actual=attack,
            next="--attack pgd-20",
        )


def in_eight_bits(adv_images: Tensor, images: Tensor, threat: ThreatModel) -> Tensor:
    """Rounds to steps of 1/255 without leaving the ball: the change is scaled as far as its rounding fits into it.

    Args:
        adv_images: (B, C, H, W) in [0, 1].
        images: (B, C, H, W) in [0, 1], the ball's centres, best in steps of 1/255 themselves.
        threat: The norm, and the radius of the ball.

    Returns:
        (B, C, H, W) in steps of 1/255, within the ball; where no such image is, `images` rounded.
    """
    norm, delta = rules(threat.norm), adv_images - images
    largest = as_images(delta.flatten(1).abs().amax(1), images).clamp_min(1e-12)
    low, high = torch.zeros_like(largest), (threat.eps + 0.5 / _LEVELS) / largest
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = norm.size(_rounded(images + middle * delta) - images) <= threat.eps + _SLACK
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return _rounded(images + low * delta)


class _Rounding(nn.Module):
    """A model behind `in_eight_bits`; the gradient passes the rounding as if it were not there."""

    def __init__(self, model: nn.Module, images: Tensor, threat: ThreatModel) -> None:
        super().__init__()
        self.model, self.images, self.threat = model, images, threat

    def forward(self, adv_images: Tensor) -> Tensor:
        rounded = in_eight_bits(adv_images.detach(), self.images, self.threat)
        return self.model(adv_images + (rounded - adv_images).detach())


def _go_on(
    model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, start: Tensor, steps: int, relative: float
) -> Tensor:
    """PGD on the margin behind the rounding, from `start`; of all iterates the best, rounded."""
    behind, size = _Rounding(model, images, threat), relative * threat.eps / steps
    best = pgd(behind, images, labels, threat, steps=steps, step_size=size, loss="margin", keep_best=True, start=start)
    return in_eight_bits(best, images, threat)


def _rounded(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * _LEVELS).round() / _LEVELS


def _moved(adv_images: Tensor, images: Tensor) -> Tensor:
    return (adv_images != images).flatten(1).any(1)


@torch.no_grad()
def _classes(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).argmax(1)
