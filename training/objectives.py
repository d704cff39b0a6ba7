"""What a training minimises, as one module, so that DistributedDataParallel sees one forward a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_zoo.training.attacks.pgd import Watch, pgd
from robust_zoo.training.recipes import Recipe

_TRADES_START = 1e-3  # standard deviation of TRADES' first perturbation (Zhang et al. 2019, algorithm 1)


class Objective(nn.Module):
    """(images, adv_images, labels) -> (mean loss (), logits of adv_images (B, K)), through `model`.

    "adversarial": cross-entropy of the adversarial images (Madry et al. 2018, eq. 2.1).
    "trades": cross-entropy of the images + beta x KL(p(images) || p(adv_images)) (Zhang et al. 2019, eq. 5).
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(self, images: Tensor, adv_images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        if recipe.objective == "trades" and recipe.threat.eps:
            clean, adv = _full(self.model(images)), _full(self.model(adv_images))
            consistency = F.kl_div(adv.log_softmax(1), clean.softmax(1), reduction="batchmean")
            loss = F.cross_entropy(clean, labels, label_smoothing=recipe.label_smoothing)
            return loss + recipe.trades_beta * consistency, adv.detach()
        logits = _full(self.model(adv_images))
        return F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing), logits.detach()


def _full(logits: Tensor) -> Tensor:
    """Losses are computed in fp32 (or fp64) whatever autocast did before."""
    return logits if logits.dtype == torch.float64 else logits.float()


def attack(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, watch: Watch | None = None) -> Tensor:
    """The adversarial images a recipe trains on; the images themselves at eps 0.

    model: in eval mode, usually the folded copy (training.fold).
    """
    loss: str | Callable[[Tensor, Tensor], Tensor] = "ce"
    start = None
    if recipe.objective == "trades" and recipe.threat.eps:
        with torch.no_grad():
            clean = _full(model(images)).softmax(1)

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return F.kl_div(logits.log_softmax(1), clean, reduction="none").sum(1)

        start = images + _TRADES_START * torch.randn_like(images)
    return pgd(
        model, images, labels, recipe.threat, steps=recipe.attack_steps,
        step_size=recipe.attack_step_size * recipe.threat.eps, random_start=recipe.random_start, loss=loss,
        start=start, watch=watch,
    )  # fmt: skip
