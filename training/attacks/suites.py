"""Attacks by name, ready to run: the functions behind the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.apgd import apgd
from robust_zoo.training.attacks.fab import fab_targeted
from robust_zoo.training.attacks.pgd import pgd_until_wrong
from robust_zoo.training.attacks.settings import SEQUENCES, stages
from robust_zoo.training.attacks.square import square
from robust_zoo.training.choices import go_together

FORWARD = 0.4  # of a pass forward and back


@dataclass(frozen=True)
class Stage:
    """One attack of a suite; it can be sent to other processes.

    Attributes:
        name: What it is called in results.
        run: (model, images, labels, threat, seed=, poll=, **settings) -> adv_images, which are the images themselves
            where nothing was found.
        settings: What `run` is given in every call.
        steps: How often `run` calls `poll` at most.
        cost: Of a step, in passes of its images forward and back.
    """

    name: str
    run: Callable[..., Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1
    cost: float = 1.0

    @property
    def work(self) -> float:
        """Of an image that nothing breaks, in passes forward and back."""
        return self.steps * self.cost

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, **how: Any) -> Tensor:
        return self.run(model, images, labels, threat, **self.settings, **how)


def _fab(*args: Any, seed: int = 0, **kwargs: Any) -> Tensor:
    return fab_targeted(*args, **kwargs)


@dataclass(frozen=True)
class Attack:
    """A row of RUN.

    Attributes:
        run: As a Stage's.
        steps: Of settings: how often it calls `poll` at most.
        cost: Of a step, in passes forward and back; to tell the time that is left.
    """

    run: Callable[..., Tensor]
    steps: Callable[[Mapping[str, Any]], int]
    cost: float


RUN: dict[str, Attack] = {
    "pgd": Attack(pgd_until_wrong, lambda s: (s["steps"] + 1) * max(s.get("restarts", 0), 1), 1.0),
    "apgd": Attack(apgd, lambda s: (s["steps"] + 1) * s.get("targets", 1), 1.0),
    "fab": Attack(_fab, lambda s: s["steps"] * s["targets"], 1 + FORWARD),
    "square": Attack(square, lambda s: s["queries"], FORWARD),
}
go_together("training/attacks/suites.py", RUN, {stage.attack for suite in SEQUENCES.values() for stage in suite})


def suite(name: str) -> tuple[Stage, ...]:
    """The stages of an attack.

    Args:
        name: "none" (clean), "fgsm", "pgd-20" (steps; "pgd-20x5": five random restarts), "apgd-ce", "apgd-t", "fab-t",
            "square" or "autoattack".

    Returns:
        Its attacks, in the order they run.

    Raises:
        UsageError: No attack has this name; the error names the closest.
    """
    rows = [(stage, RUN[stage.attack]) for stage in stages(name)]
    return tuple(Stage(stage.name, row.run, stage.values, row.steps(stage.values), row.cost) for stage, row in rows)
