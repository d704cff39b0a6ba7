"""Checks that say when a robust accuracy means nothing: each a name, a meaning, a paper, and a function of the model.

A check gets a `Subject` and answers True when it speaks against the figure. None of them proves that a model is
robust; each catches a way in which an attack is known to fail without saying so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training import choices
from robust_zoo.training.attacks.apgd import apgd
from robust_zoo.training.attacks.pgd import pgd, pgd_until_wrong
from robust_zoo.training.attacks.square import square

_WHOLE_BOX = ThreatModel("linf", 1.0)
_NOISE = ThreatModel.parse("linf", "8/255")
_QUERIES = 200
_SHARE = 0.05  # of the images, from which on a fault is not chance


@dataclass(frozen=True)
class Subject:
    """What the checks look at.

    Attributes:
        model: Takes pixels, as the user hands it over.
        images: (B, C, H, W) in [0, 1].
        labels: (B,) int64.
        threat: The threat model of the figure.
        mean: Per channel, what the model is said to normalise with; empty when not known.
        std: Per channel, likewise.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    threat: ThreatModel
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class Check:
    """One way to find out that a figure means nothing.

    Attributes:
        name: As reports show it; what is wrong where it fails is in training.choices.CHECKS.
        paper: The address of its source.
        fails: Of a `Subject`; True when the check speaks against the model.
        of_threat: Whether it asks for the threat model; the others are of the model alone, whatever its figures.
    """

    name: str
    paper: str
    fails: Callable[[Subject], bool]
    of_threat: bool = False


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


def _right(s: Subject, images: Tensor) -> int:
    return int((_logits(s.model, images).argmax(1) == s.labels).sum())


def _gradient(s: Subject) -> Tensor:
    """Of the cross-entropy; zero where the model cuts the graph."""
    pixels = s.images.clone().requires_grad_(True)
    with torch.enable_grad():
        loss = F.cross_entropy(s.model(pixels), s.labels, reduction="sum")
    if not loss.requires_grad:
        return torch.zeros_like(pixels)
    grad = torch.autograd.grad(loss, pixels, allow_unused=True, materialize_grads=True)[0]
    return grad


def _not_in_eval(s: Subject) -> bool:
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    return any(m.training for m in s.model.modules() if isinstance(m, kinds))


def _probabilities(s: Subject) -> bool:
    out = _logits(s.model, s.images)
    return bool(out.min() >= -1e-5 and out.max() <= 1 + 1e-5 and ((out.sum(1) - 1).abs() < 1e-4).all())


def _random_output(s: Subject) -> bool:
    first, second = _logits(s.model, s.images), _logits(s.model, s.images)
    return bool((first - second).abs().max() > 1e-4 * first.abs().max().clamp_min(1e-6))


def _zero_gradients(s: Subject) -> bool:
    return bool((_gradient(s).flatten(1).abs().amax(1) == 0).float().mean() > _SHARE)


def _tiny_steps_lower_the_loss(s: Subject) -> bool:
    """A step of a thousandth of a pixel value along the gradient must raise the loss, or the gradient is not its."""
    grad = _gradient(s)
    moved = (s.images + 1e-3 * grad.sign()).clamp(0, 1)
    before, after = (F.cross_entropy(_logits(s.model, x), s.labels, reduction="none") for x in (s.images, moved))
    return bool((after < before - 1e-6 * before.abs().clamp_min(1)).float().mean() > 0.2)


def _not_zero_without_bound(s: Subject) -> bool:
    found = pgd_until_wrong(s.model, s.images, s.labels, _WHOLE_BOX, steps=50)
    return _right(s, found) > _SHARE * len(s.labels)


def _noise_as_strong(s: Subject) -> bool:
    generator = torch.Generator().manual_seed(0)
    signs = (torch.rand(s.images.shape, generator=generator) < 0.5).to(s.images) * 2 - 1
    noisy = _right(s, (s.images + _NOISE.eps * signs).clamp(0, 1))
    attacked = pgd(s.model, s.images, s.labels, _NOISE, steps=20, step_size=_NOISE.eps / 8)
    return _right(s, attacked) > noisy - _SHARE * len(s.labels)


def _square_stronger(s: Subject) -> bool:
    """Among the images that white-box attacks leave, hardly any may be broken by a few queries without a gradient."""
    left = s.images
    found = apgd(s.model, left, s.labels, s.threat, loss="ce", steps=40)
    right = _logits(s.model, found).argmax(1) == s.labels
    if not right.any():
        return False
    images, labels = s.images[right], s.labels[right]
    adv_images = square(s.model, images, labels, s.threat, queries=_QUERIES)
    return int((_logits(s.model, adv_images).argmax(1) != labels).sum()) > max(1, _SHARE * len(s.labels))


def _normalised_twice(s: Subject) -> bool:
    """Undoing one normalisation beforehand must not make the model better."""
    if not s.mean or not s.std:
        return False
    mean, std = (torch.tensor(v, dtype=s.images.dtype, device=s.images.device).view(-1, 1, 1) for v in (s.mean, s.std))
    undone = _right(s, s.images * std + mean)
    return undone > _right(s, s.images) + 2 * (0.25 * len(s.labels)) ** 0.5


_AUTOATTACK = "https://arxiv.org/abs/2003.01690"
_EVALUATING = "https://arxiv.org/abs/1902.06705"
_OBFUSCATED = "https://arxiv.org/abs/1802.00420"
_INDICATORS = "https://arxiv.org/abs/2106.09947"
_NORMALISATION = "https://github.com/MadryLab/robustness/issues/29"

CHECKS = (
    Check("not-in-eval", _EVALUATING, _not_in_eval),
    Check("probabilities", _AUTOATTACK, _probabilities),
    Check("random-output", _OBFUSCATED, _random_output),
    Check("zero-gradients", _OBFUSCATED, _zero_gradients),
    Check("false-gradients", _INDICATORS, _tiny_steps_lower_the_loss),
    Check("robust-without-bound", _EVALUATING, _not_zero_without_bound),
    Check("noise-as-strong", _EVALUATING, _noise_as_strong),
    Check("black-box-stronger", _AUTOATTACK, _square_stronger, of_threat=True),
    Check("normalised-twice", _NORMALISATION, _normalised_twice),
)
choices.go_together("training/evaluation/checks.py", (check.name for check in CHECKS), choices.CHECKS)


def failed_checks(subject: Subject, known: Sequence[str] | None = None) -> list[str]:
    """Runs every check of `CHECKS`.

    Args:
        subject: The model and images that it mostly classifies right: of a model that knows nothing, nothing can be
            said.
        known: What failed under another threat model, of the same model and images, whose checks of the model alone
            are not run again; None where nothing is known.

    Returns:
        The names of the checks that speak against a figure of this model; [] for a sound one.
    """
    return [
        check.name
        for check in CHECKS
        if (check.fails(subject) if known is None or check.of_threat else check.name in known)
    ]
