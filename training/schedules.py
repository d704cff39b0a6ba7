"""Learning rates as pure functions of progress."""

from __future__ import annotations

import math

from robust_zoo.training.recipes import Recipe

_WARMUP = 0.25  # share of a one-cycle run spent rising


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The rate at `progress` epochs (fractional, 0 <= progress <= epochs)."""
    done = progress / recipe.epochs
    if recipe.schedule == "step":
        return recipe.lr * 0.1 ** int(progress // recipe.step_epochs)
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * done)) / 2
    return recipe.lr * (done / _WARMUP if done < _WARMUP else (1 - done) / (1 - _WARMUP))
