"""A recipe's words: as a line of a card, as fields of a file; and what there is to say where none is known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from robust_zoo.errors import UsageError
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.training.schedules import SCHEDULES

FIELDS = "robust-zoo recipe NAME   shows the fields"
_FRACTION = re.compile(r"\d{1,9}/[1-9]\d{0,8}")


def in_words(recipe: Any) -> str:
    """The attack, if there is one, and how it is learnt.

    Args:
        recipe: A robust_zoo.training.recipes.Recipe.

    Returns:
        One sentence, with its full stop.
    """
    return (_attack(recipe) if recipe.threat.eps else "") + _learning(recipe)


def note_of(recipe: Any) -> str:
    """What a user of the weights should know besides.

    Args:
        recipe: A robust_zoo.training.recipes.Recipe.

    Returns:
        Sentences of its objective, "" for none.
    """
    return str(recipe.objective_row.note.format_map(vars(recipe)))


def _attack(recipe: Any) -> str:
    row, size = recipe.objective_row, Fraction(recipe.attack_step_size).limit_denominator(1000)
    start = "a random start" if recipe.random_start else row.start
    said = (row.words + row.attack_words).format_map(vars(recipe) | {"size": size, "start": start})
    return f"{said}, attack in eval mode; "


def _learning(recipe: Any) -> str:
    parts = [
        f"SGD with {'Nesterov ' if recipe.nesterov else ''}momentum {recipe.momentum:g}",
        f"batch {recipe.batch_size}",
        f"{recipe.epochs} epochs",
        SCHEDULES[recipe.schedule].words.format_map(vars(recipe)),
        f"weight decay {recipe.weight_decay:.12f}".rstrip("0").rstrip("."),
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


def threat_of(value: Any, base: ThreatModel | None, source: str) -> ThreatModel:
    """A threat model from a table {norm, eps}; what it leaves out is the base's. Raises UsageError."""
    if not isinstance(value, dict) or set(value) - {"norm", "eps"}:
        raise bad_field("threat", value, 'a table such as {norm = "linf", eps = "8/255"}', source)
    norm = value.get("norm", base.norm if base else None)
    eps = value.get("eps", base.eps if base else None)
    if eps is None or norm is None:
        raise bad_field("threat", value, "both norm and eps", source)
    return ThreatModel.parse(typed("norm", norm, "str", source), eps)


def typed(name: str, value: Any, kind: str, source: str) -> Any:
    """A value of the field's type; for a float a whole number or a fraction ("2/3") will do."""
    if kind == "float" and (type(value) is int or (type(value) is str and _FRACTION.fullmatch(value))):
        return float(Fraction(value))
    if type(value).__name__ != kind:
        raise bad_field(name, value, f"a value of type {kind}", source)
    return value


def bad_field(field: str, value: Any, expected: str, source: str = "") -> UsageError:
    """The error for a field that no recipe has, or not with this value; `source`: the file it is from."""
    return UsageError(
        f"no recipe has {field} = {value!r}",
        source=source,
        expected=f"{field}: {expected}",
        actual=repr(value),
        next=FIELDS,
    )
