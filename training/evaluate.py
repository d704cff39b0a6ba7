"""Clean and PGD accuracy, as counts with their 95 % Wilson interval."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm

from robust_zoo.stats import wilson_interval
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks import pgd
from robust_zoo.training.data import Images


@dataclass(frozen=True)
class Accuracy:
    """`correct` of `n` images; percentages are derived, never stored."""

    correct: int
    n: int

    @property
    def percent(self) -> float:
        return 100 * self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval, in percent."""
        return wilson_interval(self.correct, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.percent:.2f} % ({self.correct} of {self.n}, 95 % interval {low:.1f}-{high:.1f})"


def pgd_accuracy(
    model: nn.Module,
    data: Images,
    threat: ThreatModel,
    *,
    steps: int = 20,
    step_size: float | None = None,
    random_start: bool = False,
    seed: int = 0,
    batch_size: int = 250,
    progress: str = "",
) -> Accuracy:
    """Accuracy of a pixel-space model under PGD; eps 0 or steps 0 is clean accuracy.

    model: [0, 1] images -> logits, evaluated in eval mode and left in the mode it came in.
    step_size: in [0, 1] units, 2.5 eps / steps when None (Madry et al. 2018).
    progress: a label for a progress bar on stderr, none when empty.
    """
    step_size = 2.5 * threat.eps / max(steps, 1) if step_size is None else step_size
    torch.manual_seed(seed)
    was_training = model.training
    model.eval()
    correct = 0
    bar = tqdm(data.batches(batch_size), desc=progress, total=-(-len(data) // batch_size), disable=not progress)
    try:
        for images, labels in bar:
            adv_images = pgd(model, images, labels, threat, steps=steps, step_size=step_size, random_start=random_start)
            with torch.no_grad():
                correct += int((model(adv_images).argmax(1) == labels).sum())
    finally:
        model.train(was_training)
    return Accuracy(correct, len(data))
