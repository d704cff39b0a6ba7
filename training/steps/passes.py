"""What a step is made of: the attack, the loss, the optimiser; passes as they are or compiled."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.training.attacks.pgd import Watch
from robust_zoo.training.objectives import Objective
from robust_zoo.training.recipes import Recipe


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD on every parameter, weight decay included, as robustness does (train.py, make_optimizer_and_schedule).

    Args:
        model: Whose parameters.
        recipe: With the learning rate, momentum and weight decay.

    Returns:
        The optimiser, at the recipe's highest learning rate.
    """
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


class TrainingLoss(nn.Module):
    """An objective through `model`, as one module, so that DistributedDataParallel sees one forward per step.

    (images, adv_images, labels) -> (mean loss (), logits of adv_images (B, K)).
    """

    def __init__(self, model: nn.Module, recipe: Recipe, objective: Objective | None = None) -> None:
        """Keeps the pixel-space model that is trained, the recipe, and its objective or another."""
        super().__init__()
        self.model, self.recipe, self.objective = model, recipe, objective or recipe.objective_row

    def forward(self, images: Tensor, adv_images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The objective's loss on a batch, (B, C, H, W) twice and (B,)."""
        return self.objective.loss(self.model, images, adv_images, labels, self.recipe)


def attack(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, watch: Watch | None = None) -> Tensor:
    """The adversarial images a recipe trains on.

    Args:
        model: In eval mode, usually the folded model (training.attacks.folding).
        images: (B, C, H, W) float in [0, 1]; not modified.
        labels: (B,) integer classes.
        recipe: With the threat model, the objective and the attack's steps.
        watch: Called with (step, logits) in every gradient pass; may raise to end the attack.

    Returns:
        adv_images (B, C, H, W) in [0, 1]: where the objective computes its loss; the images themselves at eps 0.
    """
    return recipe.objective_row.attack(model, images, labels, recipe, watch)


def memory_format(model: nn.Module, images: Tensor) -> torch.memory_format:
    """How model and images should lie in memory: channels last, which convolutions are fastest in.

    But on a CPU where the weights outweigh what a batch makes of them: there their way into oneDNN's order is what
    takes the time, and channels last makes it longer (benchmarks/README.md).

    Args:
        model: Pixel-space; stays as it is.
        images: (B, C, H, W), as many as there are in a pass; their numbers do not matter.

    Returns:
        torch.channels_last or torch.contiguous_format.
    """
    if images.device.type != "cpu":
        return torch.channels_last
    without_storage, made = copy.deepcopy(model).to("meta").eval(), 0

    def count(module: nn.Module, args: Any, output: Tensor) -> None:
        nonlocal made
        made += output.numel()

    convolutions = [module for module in without_storage.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions:
        module.register_forward_hook(count)
    with torch.no_grad():
        without_storage(images.to("meta"))
    weights = sum(module.weight.numel() for module in convolutions)
    return torch.contiguous_format if weights > made else torch.channels_last


def compiled(module: nn.Module) -> Any:
    """A module whose passes inductor makes, for the one shape of images that a run has; in every process the same.

    Args:
        module: Stays as it is; its parameters are shared.

    Returns:
        What is called like the module; compiled when it first is.
    """
    from torch._inductor import config

    # between kernels, by the clock: it would end differently in another process
    no_race: Any = {"deterministic": True} if hasattr(config, "deterministic") else None
    return torch.compile(module, dynamic=False, options=no_race)
