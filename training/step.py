"""One step: the attack in eval mode on the folded model, the update in train mode."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.errors import VerificationFailed
from robust_zoo.training.attacks.folding import FoldedModel, folded_model
from robust_zoo.training.attacks.pgd import Watch, pgd
from robust_zoo.training.distributed import World
from robust_zoo.training.health import find_nonfinite
from robust_zoo.training.objectives import Objective
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.signals import Stopped

ALONE = World(0, 1, torch.device("cpu"))


class Diverged(VerificationFailed):
    """A loss or gradient that is not finite."""


@dataclass
class Counts:
    """Sums over images since the last report.

    Attributes:
        seen: Images.
        loss: Of the training.
        adv: Hits on adversarial images in train mode.
        clean: Hits on unattacked images in eval mode, where the attack's first pass sees them.
    """

    seen: int = 0
    loss: float = 0.0
    adv: int = 0
    clean: int = 0

    def add(self, other: Counts) -> None:
        """Adds the other's sums, in place."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


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
        adv_images (B, C, H, W) in [0, 1]; the images themselves at eps 0.
    """
    goal, eps = recipe.objective_row.attack(model, images), recipe.threat.eps
    return pgd(
        model,
        images,
        labels,
        recipe.threat,
        steps=recipe.attack_steps,
        step_size=recipe.attack_step_size * eps,
        random_start=recipe.random_start,
        loss=goal.loss,
        start=goal.start,
        watch=watch,
    )


def _nothing(*_: object) -> None:
    """No one asks to stop."""


@dataclass
class Step:
    """What a step needs, made once per run; call it with a batch.

    Attributes:
        model: Pixel-space, on its device and in its memory format.
        recipe: With the attack and the objective.
        optimizer: Of the model's parameters.
        objective: The model's training objective, wrapped for many devices by the caller when there are many.
        bf16: Whether to run under bf16 autocast; weights and optimiser stay fp32.
        world: This process among all.
        poll: Called between attack steps; may raise Stopped.
        folded: The folded model, made at the first attack.
    """

    model: nn.Module
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    objective: nn.Module
    bf16: bool = False
    world: World = ALONE
    poll: Callable[..., None] = _nothing
    folded: FoldedModel | None = field(default=None, init=False)

    def __call__(self, images: Tensor, labels: Tensor, recipe: Recipe | None = None) -> Counts:
        """One update.

        Args:
            images: (B, C, H, W) float in [0, 1], this device's share of the batch.
            labels: (B,) integer classes.
            recipe: As it is at this moment of the run (`Recipe.at`); None: as it is.

        Returns:
            The share's sums.

        Raises:
            Stopped: A rank was asked to stop; nothing has changed yet.
            Diverged: A loss or gradient is not finite on any rank; the error names the layer.
        """
        counts = Counts(seen=len(labels))
        parts = list(zip(images.chunk(self.recipe.accumulation), labels.chunk(self.recipe.accumulation), strict=True))
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            adv_parts = self._attack(parts, counts, recipe or self.recipe)
            # looked for before the update, which would carry it into BatchNorm's statistics
            sound = all(adv_images.sum().isfinite() for adv_images in adv_parts)
            where = "" if sound else find_nonfinite(self.model, images)
            self.optimizer.zero_grad(set_to_none=True)
            for i, ((part, part_labels), adv_images) in enumerate(zip(parts, adv_parts, strict=True)):
                hold: Any = getattr(self.objective, "no_sync", nullcontext)  # gradients are averaged once per step
                with hold() if i + 1 < len(parts) else nullcontext():
                    loss, logits = self.objective(part, adv_images, part_labels)
                    loss.div(len(parts)).backward()
                counts.loss += loss.item() * len(part_labels)
                counts.adv += int((logits.argmax(1) == part_labels).sum())
        self._check(counts, images, where)
        self.optimizer.step()
        return counts

    def _attack(self, parts: list[tuple[Tensor, Tensor]], counts: Counts, recipe: Recipe) -> list[Tensor]:
        """All attacks of the step come before its first update, so that stopping here leaves nothing half done."""
        if not recipe.threat.eps:
            self._meet()
            return [part for part, _ in parts]
        self.world.share_buffers(self.model)
        if self.folded is None:
            dtype = torch.bfloat16 if self.bf16 else None
            self.folded = folded_model(self.model, parts[0][0][:4], dtype=dtype)
        self.folded.refresh()
        adv_parts = []
        try:
            for part, labels in parts:

                def watch(step: int, logits: Tensor, labels: Tensor = labels) -> None:
                    if step == 0 and not recipe.random_start:
                        counts.clean += int((logits.argmax(1) == labels).sum())
                    self.poll()

                adv_parts.append(attack(self.folded.model, part, labels, recipe, watch))
        except Stopped as stopped:
            self.world.all_stop(str(stopped))
        self._meet()
        return adv_parts

    def _meet(self) -> None:
        """Where ranks leave together, if one of them is to."""
        reason = ""
        try:
            self.poll()
        except Stopped as stopped:
            reason = str(stopped)
        self.world.all_stop(reason)

    def _check(self, counts: Counts, images: Tensor, where: str) -> None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None]).item()
        bad = not (abs(norm) < float("inf") and abs(counts.loss) < float("inf"))
        if self.world.any(bad):
            where = where or (find_nonfinite(self.model, images) if bad else "another process")
            raise Diverged(
                "the training has diverged",
                model=self.recipe.architecture,
                expected="finite losses and gradients",
                actual=f"loss {counts.loss / counts.seen:g}; not finite first in {where}",
                next="lower the recipe's lr, or train in fp32 (--precision fp32); the last checkpoint is untouched",
            )


def make_step(
    model: nn.Module,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    *,
    bf16: bool = False,
    world: World = ALONE,
    poll: Callable[..., None] = _nothing,
    objective: Objective | None = None,
) -> Step:
    """Makes a step, its objective wrapped for many devices where there are many.

    Args:
        model: Pixel-space, on its device and in its memory format.
        recipe: With the attack and the objective.
        optimizer: Of the model's parameters.
        bf16: Whether to run under bf16 autocast.
        world: This process among all.
        poll: Called between attack steps; may raise Stopped.
        objective: What is minimised; None: the recipe's.

    Returns:
        The step, to be called with batches.
    """
    return Step(model, recipe, optimizer, world.wrap(TrainingLoss(model, recipe, objective)), bf16, world, poll)
