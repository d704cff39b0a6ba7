"""The inner maximisation of each objective: (model, images, labels, recipe, watch) -> the points it is trained at.

Random numbers are torch's global ones, which the training loop seeds by (seed, step, rank). Torch is imported where
something is computed, so that recipes and cards can be read without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from robust_zoo.threat import ThreatModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robust_zoo.training.attacks.pgd import Watch

_TRADES_START = 1e-3  # standard deviation of TRADES' first perturbation (Zhang et al. 2019, algorithm 1)


class Knobs(Protocol):
    """The fields of a recipe that objectives read."""

    @property
    def threat(self) -> ThreatModel: ...

    @property
    def attack_steps(self) -> int: ...

    @property
    def attack_step_size(self) -> float: ...

    @property
    def random_start(self) -> bool: ...

    @property
    def label_smoothing(self) -> float: ...

    @property
    def trades_beta(self) -> float: ...

    @property
    def arks_sigma(self) -> float: ...

    @property
    def arks_step(self) -> float: ...

    @property
    def regional_smoothing(self) -> float: ...


def steepest(
    model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, watch: Watch | None, **goal: Any
) -> Tensor:
    """PGD as the recipe has it.

    Args:
        model: In eval mode, usually the folded model (training.attacks.folding).
        images: (B, C, H, W) float in [0, 1]; not modified.
        labels: (B,) integer classes.
        knobs: The recipe.
        watch: Called with (step, logits) in every gradient pass; may raise to end the attack.
        **goal: What else `pgd` is told; without it, to raise the cross-entropy from the image itself.

    Returns:
        adv_images (B, C, H, W) in [0, 1].
    """
    from robust_zoo.training.attacks.pgd import pgd

    return pgd(
        model,
        images,
        labels,
        knobs.threat,
        steps=knobs.attack_steps,
        step_size=knobs.attack_step_size * knobs.threat.eps,
        random_start=knobs.random_start,
        watch=watch,
        in_range=True,
        **goal,
    )


def full(logits: Tensor) -> Tensor:
    """Logits in the type that losses are computed in, whatever autocast did before.

    Args:
        logits: (B, K), of any float type.

    Returns:
        (B, K) in fp64 where they were so, else in fp32.
    """
    return logits if str(logits.dtype) == "torch.float64" else logits.float()


def trades(model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, watch: Watch | None) -> Tensor:
    """Away from the prediction on the images, from a point beside them (Zhang et al. 2019). As `steepest`."""
    import torch
    import torch.nn.functional as F

    with torch.no_grad():
        clean = full(model(images)).softmax(1)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.kl_div(logits.log_softmax(1), clean, reduction="none").sum(1)

    start = images + _TRADES_START * torch.randn_like(images)
    return steepest(model, images, labels, knobs, watch, loss=loss, start=start)


def arks(model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, watch: Watch | None) -> Tensor:
    """Where k(u, x) times the cross-entropy is greatest (Zhu et al. 2022), by `supremal`. As `steepest`."""
    from robust_zoo.training.attacks.supremal import supremal

    steps, size = knobs.attack_steps, knobs.arks_step
    return supremal(model, images, labels, sigma=knobs.arks_sigma, steps=steps, step_size=size, watch=watch)


def regional(model: nn.Module, images: Tensor, labels: Tensor, knobs: Knobs, watch: Watch | None) -> Tensor:
    """A random point of the region that PGD's path spans. As `steepest`."""
    from robust_zoo.training.attacks import region

    path: list[Tensor] = []
    adv_images = steepest(model, images, labels, knobs, watch, visit=lambda point: path.append(point.detach()))
    return region.point_within(path, region.uniform_weights(len(path), images)) if path else adv_images
