"""Learning rates by name: each a pure function of progress, and its words for cards."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_WARMUP = 0.25  # share of a one-cycle run spent rising


@dataclass(frozen=True)
class Schedule:
    """A row of SCHEDULES.

    Attributes:
        factor: (done, drops) -> what the recipe's lr is multiplied with. done: share of the run that is over, in
            [0, 1]; drops: how often `step_epochs` have passed.
        words: For cards, with the recipe's fields to fill in.
    """

    factor: Callable[[float, int], float]
    words: str


def _onecycle(done: float, drops: int) -> float:
    """Linear up over the first quarter of the run, linear down to 0 (Smith 2018)."""
    return done / _WARMUP if done < _WARMUP else (1 - done) / (1 - _WARMUP)


SCHEDULES: dict[str, Schedule] = {
    "step": Schedule(lambda done, drops: 0.1**drops, "learning rate {lr:g} divided by 10 every {step_epochs} epochs"),
    "onecycle": Schedule(_onecycle, "one-cycle learning rate up to {lr:g}"),
    "cosine": Schedule(  # to 0 (Loshchilov & Hutter 2017)
        lambda done, drops: (1 + math.cos(math.pi * done)) / 2, "cosine learning rate from {lr:g}"
    ),
}
