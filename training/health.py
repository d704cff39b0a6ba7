"""Whether a training is still healthy: held-out accuracies, catastrophic overfitting, and where a NaN comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.pgd import eval_mode, pgd

_STEPS = 10  # PGD-10, step eps/4 (Rice et al. 2020)
_GAP = 20.0  # points by which single-step may exceed PGD accuracy; sound runs stay below 10
_DROP = 0.5  # share of its best that PGD accuracy may lose


@dataclass(frozen=True)
class Health:
    """Accuracies in percent on `n` held-out images: clean, under one full-size step, and under PGD-10."""

    clean: float
    single_step: float
    pgd10: float
    n: int


def count_hits(
    model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, poll: Callable[..., None] | None = None
) -> tuple[int, int, int]:
    """How many of a batch are right: clean, after one step of size eps, after PGD-10."""

    def right(adv_images: Tensor) -> int:
        with torch.no_grad():
            return int((model(adv_images).argmax(1) == labels).sum())

    with eval_mode(model):
        single = pgd(model, images, labels, threat, steps=1, step_size=threat.eps, watch=poll)
        multi = pgd(model, images, labels, threat, steps=_STEPS, step_size=threat.eps / 4, watch=poll)
        return right(images), right(single), right(multi)


def overfitting(history: Sequence[Health]) -> str:
    """Says how the newest of these measurements shows catastrophic overfitting; "" when it does not.

    A model that has learnt to mask the single-step gradient resists it and falls to several steps (Wong et al. 2020,
    section 5.4; Andriushchenko & Flammarion 2020).
    """
    if not history:
        return ""
    now, best = history[-1], max(h.pgd10 for h in history)
    noise = 200 * (0.25 / max(now.n, 1)) ** 0.5  # two standard errors, in points
    if now.single_step - now.pgd10 > _GAP + noise:
        return (
            f"catastrophic overfitting: {now.single_step:.1f} % under one step, {now.pgd10:.1f} % under PGD-{_STEPS}; "
            "train with more attack_steps or a smaller attack_step_size"
        )
    if now.pgd10 < _DROP * best - noise:
        return f"PGD-{_STEPS} accuracy fell from {best:.1f} % to {now.pgd10:.1f} %"
    return ""


def find_nonfinite(model: nn.Module, images: Tensor) -> str:
    """Names the first layer whose output, else the first parameter whose value or gradient, is not finite.

    Repeats the forward pass in eval mode, where no layer waits for other ranks.
    """
    found: list[str] = []

    def hook_for(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(f"the output of {name or 'the model'} ({type(module).__name__})")

        return hook

    handles = [
        module.register_forward_hook(hook_for(name))
        for name, module in model.named_modules()
        if not any(module.children())
    ]
    try:
        with eval_mode(model), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    for name, parameter in model.named_parameters():
        for what, value in (("weight", parameter), ("gradient of", parameter.grad)):
            if value is not None and not value.isfinite().all():
                found.append(f"the {what} {name}")
    return found[0] if found else "the loss"
