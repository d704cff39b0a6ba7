"""Whether a training's numbers are sound: noted on the device in every step, read when something is logged or saved.

Reading waits for the device. From the first step on that is not sound no step changes a weight, on any rank: what went
wrong is still there to be named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robust_zoo.errors import VerificationFailed
from robust_zoo.training.attacks.pgd import check_range
from robust_zoo.training.distributed import World
from robust_zoo.training.steps.health import ALL_FINITE, find_nonfinite

# What is noted of a step, in the order in which it comes about; a part that is finite in itself is named so.
_NOTED = {"outside": "the images", "attack": "the attack's images", "loss": "the loss", "gradients": "the gradients"}


class Diverged(VerificationFailed):
    """A loss or gradient that is not finite."""


@dataclass
class Soundness:
    """The notes of one run.

    Attributes:
        model: What is trained.
        architecture: Its name, for errors.
        world: This process among all.
        stopped: (), float32: 1 once a step of any rank was not sound, for an optimiser's `found_inf`.
        images: (B, ...), the batch of this rank's first such step, else of the last step.
    """

    model: nn.Module
    architecture: str
    world: World
    stopped: Tensor = field(init=False)
    images: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.stopped = torch.zeros((), device=self.world.device)
        self._first = torch.zeros(len(_NOTED) + 1, dtype=torch.float64, device=self.world.device)  # and its mean loss
        self._fine = torch.zeros((), dtype=torch.bool, device=self.world.device)
        self._attack = [self._fine, self._fine]

    def attacked(self, images: Tensor, parts: Sequence[Tensor], adv_parts: Sequence[Tensor]) -> list[Tensor]:
        """Notes what an attack made, before the update's pass, which would carry it into BatchNorm's statistics.

        Args:
            images: (B, C, H, W), the whole batch.
            parts: The same, as it was attacked.
            adv_parts: What was made of each part.

        Returns:
            The adversarial images; where any of them is not finite, the images themselves.
        """
        low, high = images.aminmax()
        outside = ~((low >= 0) & (high <= 1))
        broken = ~torch.stack([adv_images.sum() for adv_images in adv_parts]).isfinite().all()
        self._attack = [outside, broken]
        return [torch.where(broken, part, adv) for part, adv in zip(parts, adv_parts, strict=True)]

    def updating(self, images: Tensor, loss: Tensor) -> None:
        """Notes loss and gradients, on the way to the optimiser.

        Args:
            images: (B, C, H, W), the whole batch.
            loss: (), the mean over it.
        """
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        now = torch.stack([*self._attack, ~loss.isfinite(), ~norm.isfinite()])
        self._attack = [self._fine, self._fine]  # of the next step, which may have none
        before = self._first[:-1].any()
        self._first = torch.where(before, self._first, torch.cat([now.double(), loss.double().view(1)]))
        self.images = images if self.images is None else torch.where(before, self.images, images)
        self.stopped = self.world.largest(torch.maximum(self.stopped, now.any().float()))

    def check(self) -> None:
        """Reads the notes; waits for the device. Every rank must ask after the same step.

        Raises:
            Diverged: A step was not sound on any rank; the error names the layer.
            UsageError: Its images were not in [0, 1].
        """
        if not self.stopped.item() or self.images is None:
            return
        *notes, loss = self._first.tolist()
        noted = next((words for words, note in zip(_NOTED.values(), notes, strict=True) if note), "")
        if notes[0]:
            check_range(self.images)
        where = find_nonfinite(self.model, self.images) if noted else "another process"
        raise Diverged(
            "the training has diverged",
            model=self.architecture,
            expected="finite losses and gradients",
            actual=f"loss {loss:g}; not finite first in {noted if where == ALL_FINITE else where}",
            next="lower the recipe's lr, or train in fp32 (--precision fp32); the last checkpoint is untouched",
        )
