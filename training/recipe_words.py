"""A recipe as a line of a card."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from robust_zoo.training.schedules import SCHEDULES


def in_words(recipe: Any) -> str:
    """The attack, if there is one, and how it is learnt.

    Args:
        recipe: A robust_zoo.training.recipes.Recipe.

    Returns:
        One sentence, with its full stop.
    """
    return (_attack(recipe) if recipe.threat.eps else "") + _learning(recipe)


def _attack(recipe: Any) -> str:
    size = Fraction(recipe.attack_step_size).limit_denominator(1000)
    start = "a random start" if recipe.random_start else "the image itself"
    goal = recipe.objective_row.words.format_map(vars(recipe))
    return f"{goal}PGD with {recipe.attack_steps} steps of {size} eps from {start}, attack in eval mode; "


def _learning(recipe: Any) -> str:
    parts = [
        f"SGD with {'Nesterov ' if recipe.nesterov else ''}momentum {recipe.momentum:g}",
        f"batch {recipe.batch_size}",
        f"{recipe.epochs} epochs",
        SCHEDULES[recipe.schedule].words.format_map(vars(recipe)),
        f"weight decay {recipe.weight_decay:f}".rstrip("0"),
    ]
    parts += [f"label smoothing {recipe.label_smoothing:g}"] if recipe.label_smoothing else []
    parts += [f"weights averaged with decay {recipe.ema_decay:g}"] if recipe.ema_decay else []
    return ", ".join(parts) + "."
