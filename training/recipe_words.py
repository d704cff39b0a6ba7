"""A recipe as a line of a card; and what there is to say where none is known."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
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


def no_recipe(checkpoint: Checkpoint, recipes: Iterable[str]) -> UsageError:
    """The error of a checkpoint whose training is not known in enough detail to do it again.

    Args:
        checkpoint: Of the registry, or a file of one's own.
        recipes: Those that are known.

    Returns:
        The error.
    """
    name = checkpoint.handle
    return UsageError(
        f"how {checkpoint.name} was trained is not known in enough detail to do it again",
        model=checkpoint.name,
        source=f"collection {checkpoint.collection.name}",
        expected=f"a collection with a recipe: {', '.join(recipes)}",
        actual=f"recipe {checkpoint.recipe!r}",
        next=f"robust-zoo info {name}   says where it is from; robust-zoo recipe resnet50_l2_eps3   shows a recipe",
    )
