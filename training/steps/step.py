"""One step: the attack in eval mode on the folded model, the update in train mode."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robust_zoo.training.attacks.folding import FoldedModel, folded_model
from robust_zoo.training.distributed import ALONE, World
from robust_zoo.training.objectives import Objective
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.signals import Stopped
from robust_zoo.training.steps.passes import TrainingLoss, attack, compiled
from robust_zoo.training.steps.soundness import Soundness
from robust_zoo.training.steps.sums import Counts
from robust_zoo.training.steps.ways import EAGER, WAYS


def _nothing(*_: object) -> None:
    """No one asks to stop."""


@dataclass
class Step:
    """What a step needs, made once per run; call it with a batch.

    Nothing in it waits for the device but `check`, which it calls itself after every `check_every` steps.

    Attributes:
        model: Pixel-space, on its device and in its memory format.
        recipe: With the attack and the objective.
        optimizer: Of the model's parameters, fused.
        objective: The model's training objective, wrapped for many devices by the caller when there are many.
        bf16: Whether to run under bf16 autocast; weights and optimiser stay fp32.
        world: This process among all.
        poll: Called between attack steps; may raise Stopped.
        check_every: Steps between two looks at whether numbers are finite.
        folded: The folded model, made at the first attack.
        way: How the passes are run, a name of WAYS.
    """

    model: nn.Module
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    objective: nn.Module
    bf16: bool = False
    world: World = ALONE
    poll: Callable[..., None] = _nothing
    check_every: int = 1
    folded: FoldedModel | None = field(default=None, init=False)
    way: str = field(default=EAGER, init=False)

    def __post_init__(self) -> None:
        self._sound = Soundness(self.model, self.recipe.architecture, self.world)
        self._since_check = 0
        self.use(EAGER)

    def use(self, way: str) -> None:
        """Says how passes are run from here on.

        Args:
            way: A name of WAYS; what it compiles is compiled when it first runs.
        """
        self.way = way
        self._update = compiled(self.objective) if WAYS[way].update else self.objective
        self._network: nn.Module | None = None  # of the attack

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
        counts, _ = self.gradients(images, labels, recipe or self.recipe)
        self._sound.updating(images, torch.as_tensor(counts.loss) / counts.seen)
        self.optimizer.found_inf = self._sound.stopped  # type: ignore[attr-defined]  # 1: it changes nothing
        self.optimizer.step()
        self._since_check += 1
        if self._since_check >= self.check_every:
            self.check()
        return counts

    def check(self) -> None:
        """Waits for the device and makes sure that all was sound so far; before anything is saved.

        Raises:
            Diverged: A loss or gradient was not finite on any rank; weights are those of before that step.
        """
        self._since_check = 0
        with self._autocast():
            self._sound.check()

    def gradients(self, images: Tensor, labels: Tensor, recipe: Recipe) -> tuple[Counts, list[Tensor]]:
        """A step but for its update: the attack, and the loss's gradients in the parameters.

        Args:
            images: (B, C, H, W) float in [0, 1], this device's share of the batch.
            labels: (B,) integer classes.
            recipe: As it is at this moment of the run.

        Returns:
            The share's sums, and the adversarial images in the parts that accumulate.

        Raises:
            Stopped: A rank was asked to stop; nothing has changed yet.
        """
        counts = Counts(seen=len(labels))
        parts = list(zip(images.chunk(self.recipe.accumulation), labels.chunk(self.recipe.accumulation), strict=True))
        with self._autocast():
            adv_parts = self._attack(images, parts, counts, recipe)
            self.optimizer.zero_grad(set_to_none=True)
            for i, ((part, part_labels), adv_images) in enumerate(zip(parts, adv_parts, strict=True)):
                hold: Any = getattr(self.objective, "no_sync", nullcontext)  # gradients are averaged once per step
                with hold() if i + 1 < len(parts) else nullcontext():
                    loss, logits = self._update(part, adv_images, part_labels)
                    loss.div(len(parts)).backward()
                counts.loss += loss.detach().double() * len(part_labels)
                counts.adv += (logits.argmax(1) == part_labels).sum()
        return counts, adv_parts

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.bf16)

    def _attack(
        self, images: Tensor, parts: list[tuple[Tensor, Tensor]], counts: Counts, recipe: Recipe
    ) -> list[Tensor]:
        """All attacks of the step come before its first update, so that stopping here leaves nothing half done."""
        if not recipe.threat.eps:
            self._meet()
            return [part for part, _ in parts]
        self.world.share_buffers(self.model)
        if self.folded is None:
            dtype = torch.bfloat16 if self.bf16 else None
            self.folded = folded_model(self.model, images[:4], dtype=dtype)
        if self._network is None:
            self._network = compiled(self.folded.model) if WAYS[self.way].attack else self.folded.model
        self.folded.refresh()
        adv_parts = []
        try:
            for part, labels in parts:

                def watch(step: int, logits: Tensor, labels: Tensor = labels) -> None:
                    if step == 0 and not recipe.random_start:
                        counts.clean += (logits.argmax(1) == labels).sum()
                    self.poll()

                adv_parts.append(attack(self._network, part, labels, recipe, watch))
        except Stopped as stopped:
            self.world.all_stop(str(stopped))
        self._meet()
        return self._sound.attacked(images, [part for part, _ in parts], adv_parts)

    def _meet(self) -> None:
        """Where ranks leave together, if one of them is to."""
        reason = ""
        try:
            self.poll()
        except Stopped as stopped:
            reason = str(stopped)
        self.world.all_stop(reason)


def make_step(
    model: nn.Module,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    *,
    bf16: bool = False,
    world: World = ALONE,
    poll: Callable[..., None] = _nothing,
    objective: Objective | None = None,
    check_every: int = 1,
) -> Step:
    """Makes a step, its objective wrapped for many devices where there are many.

    Args:
        model: Pixel-space, on its device and in its memory format.
        recipe: With the attack and the objective.
        optimizer: Of the model's parameters, fused.
        bf16: Whether to run under bf16 autocast.
        world: This process among all.
        poll: Called between attack steps; may raise Stopped.
        objective: What is minimised; None: the recipe's.
        check_every: Steps between two looks at whether numbers are finite; each look waits for the device.

    Returns:
        The step, to be called with batches.
    """
    wrapped = world.wrap(TrainingLoss(model, recipe, objective))
    return Step(model, recipe, optimizer, wrapped, bf16, world, poll, check_every)
