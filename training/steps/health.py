"""Whether a training is still healthy: held-out accuracies, catastrophic overfitting, and where a NaN comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.pgd import eval_mode, pgd
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.distributed import World
from robust_zoo.training.signals import Stopped

_BATCH = 256  # held-out images at a time
_STEPS = 10  # PGD-10, step eps/4 (Rice et al. 2020)
_GAP = 20.0  # points by which single-step may exceed PGD accuracy; sound runs stay below 10
_DROP = 0.5  # share of its best that PGD accuracy may lose
ALL_FINITE = "nothing that a second look finds"


@dataclass(frozen=True)
class Health:
    """Accuracies in percent on held-out images.

    Attributes:
        clean: On the images themselves.
        single_step: Under one step of size eps.
        pgd10: Under PGD-10.
        n: How many images.
    """

    clean: float
    single_step: float
    pgd10: float
    n: int


def count_hits(
    model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, poll: Callable[..., None] | None = None
) -> tuple[int, int, int]:
    """How many of a batch are right.

    Args:
        model: [0, 1] images -> logits; every module keeps its mode.
        images: (B, C, H, W) float in [0, 1].
        labels: (B,) integer classes.
        threat: The norm, and the radius of the ball.
        poll: Called between attack steps; may raise.

    Returns:
        Hits on the images themselves, after one step of size eps, and after PGD-10.
    """

    def right(adv_images: Tensor) -> int:
        with torch.no_grad():
            return int((model(adv_images).argmax(1) == labels).sum())

    with eval_mode(model):
        single = pgd(model, images, labels, threat, steps=1, step_size=threat.eps, watch=poll)
        multi = pgd(model, images, labels, threat, steps=_STEPS, step_size=threat.eps / 4, watch=poll)
        return right(images), right(single), right(multi)


def measure_health(
    model: nn.Module,
    held_out: Dataset,
    threat: ThreatModel,
    world: World,
    *,
    bf16: bool = False,
    poll: Callable[..., None] | None = None,
) -> Health:
    """Held-out accuracies, each rank on its share.

    Args:
        model: [0, 1] images -> logits, the same on every rank; every module keeps its mode.
        held_out: The images, the same on every rank.
        threat: The norm, and the radius of the ball.
        world: This process among all.
        bf16: Whether to run under bf16 autocast.
        poll: Called between attack steps; may raise Stopped.

    Returns:
        The accuracies on all of the images.

    Raises:
        Stopped: On every rank, when `poll` does on one.
    """
    share = held_out.subset(torch.arange(world.rank, len(held_out), world.size))
    hits = torch.zeros(3, dtype=torch.int64)
    reason = ""
    try:
        for images, labels in share.batches(_BATCH):
            images, labels = images.to(world.device), labels.to(world.device)
            with torch.autocast(world.device.type, torch.bfloat16, enabled=bf16):
                hits += torch.tensor(count_hits(model, images, labels, threat, poll))
    except Stopped as stopped:
        reason = str(stopped)
    world.all_stop(reason)
    clean, single, multi = (100 * h / len(held_out) for h in world.sum(*hits.tolist()))
    return Health(clean, single, multi, len(held_out))


def overfitting(history: Sequence[Health]) -> str:
    """Whether the newest of these measurements shows catastrophic overfitting.

    A model that has learnt to mask the single-step gradient resists one step and is broken by several (Wong et al.
    2020, section 5.4; Andriushchenko & Flammarion 2020).

    Args:
        history: Of one run, oldest first.

    Returns:
        What it shows, in words; "" when all is well.
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

    Args:
        model: [0, 1] images -> logits; every module keeps its mode.
        images: (B, C, H, W), the batch that went wrong.

    Returns:
        Words for a sentence; ALL_FINITE where all of these are.
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
    return found[0] if found else ALL_FINITE
