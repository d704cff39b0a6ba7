"""How checkpoints are trained, as typed values derived from two bases.

A registry row names its base (`recipe = "salman2020"`); the row's architecture, dataset and threat
model fill in the rest, so a recipe can not contradict its checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from robust_zoo.registry import Checkpoint
from robust_zoo.threat import ThreatModel


@dataclass(frozen=True)
class Recipe:
    """One training, complete but for paths and devices.

    eps 0 in `threat` is standard training. `attack_step_size` is a fraction of eps.
    `schedule`: "step" (x 0.1 every `step_epochs`) or "onecycle" (linear up to `lr` over the first
    quarter of the run, linear down to 0; Smith 2018).
    """

    architecture: str
    dataset: str
    threat: ThreatModel
    epochs: int
    batch_size: int
    lr: float
    schedule: str
    augment: str
    step_epochs: int = 30
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    attack_steps: int = 3
    attack_step_size: float = 2 / 3
    random_start: bool = False
    seed: int = 0


_NONE = ThreatModel("l2", 0.0)

BASES: dict[str, Recipe] = {
    # Salman et al. 2020: PGD-3, step 2/3 eps, SGD; attack in eval mode and augmentation as in robustness' code. The
    # numbers are handed down by upstream's readers; no log of a published training was at hand to check them.
    "salman2020": Recipe(
        architecture="", dataset="imagenet", threat=_NONE, epochs=90, batch_size=512, lr=0.1, schedule="step",
        augment="robustness",
    ),
    # The bundled CIFAR-10 models: the same attack on a short one-cycle schedule that two CPU cores can afford.
    "cifar10_short": Recipe(
        architecture="", dataset="cifar10", threat=_NONE, epochs=12, batch_size=128, lr=0.25, schedule="onecycle",
        augment="crop_flip", nesterov=True, weight_decay=5e-4,
    ),
}  # fmt: skip


def recipe_for(checkpoint: Checkpoint) -> Recipe:
    """The recipe that reproduces a checkpoint: its base with the row's architecture, dataset and threat."""
    return replace(
        BASES[checkpoint.recipe],
        architecture=checkpoint.architecture,
        dataset=checkpoint.dataset,
        threat=checkpoint.threat,
    )
