"""Settings of protocols: which values each may have, how a file's are read, and a file that shows them all."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from robust_zoo.errors import UsageError, unknown
from robust_zoo.training.choices import AMOUNT, AMOUNTS, BELOW_1, COUNT, PART, SHRINK, Rule, broken

_WIDTH = 110  # of a line


_RULES: Mapping[str, Rule] = (
    dict.fromkeys(("epochs", "batch_size", "views", "step", "train_size"), COUNT)
    | dict.fromkeys(("side", "longest", "maps", "width", "samples"), COUNT)
    | dict.fromkeys(("lr", "weight_decay", "lwf"), AMOUNT)
    | dict.fromkeys(("warmup", "label_smoothing", "momentum"), BELOW_1)
    | dict.fromkeys(("lrs", "weight_decays"), AMOUNTS)
    | {"holdout": PART, "shrink": SHRINK}
)
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word in quotes",
    tuple: "a list of numbers",
}


def check(settings: Any, **more: Rule) -> None:
    """Makes sure that a transfer can be run with these values.

    Args:
        settings: A frozen dataclass of a protocol.
        **more: Rules of fields that other protocols do not have, or have with other words.

    Raises:
        UsageError: A value may not be that; its rule is in the error.
    """
    rules = {**_RULES, **more}
    mine = {field.name: rules[field.name] for field in fields(settings) if field.name in rules}
    for name, value, expected in broken(settings, mine):
        raise refused(type(settings), name, value, expected)


def refused(kind: type, name: str, value: Any, expected: str) -> UsageError:
    """The error for a value that a setting may not have.

    Args:
        kind: A protocol's settings.
        name: The setting.
        value: What came.
        expected: What it may be, in words.

    Returns:
        The error, for the caller to raise.
    """
    return UsageError(
        f"{_protocol(kind)} cannot have {name} = {_written(value)}",
        expected=f"{name}: {expected}",
        actual=_written(value),
        next=_show(kind),
    )


def read(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """A file's values in the types that the settings have.

    Args:
        kind: A protocol's settings.
        values: By name, as TOML or JSON has them.

    Returns:
        The same: lists are tuples, whole numbers are floats where a float is meant.

    Raises:
        UsageError: A name is unknown (the closest is in the error), or a value is of another type.
    """
    hints, found = get_type_hints(kind), {}
    for name, value in values.items():
        if name not in hints:
            raise unknown(f"setting of {_protocol(kind)}", name, [f.name for f in fields(kind)], next=_show(kind))
        found[name] = _typed(kind, name, value, hints[name])
    return found


def _typed(kind: type, name: str, value: Any, hint: Any) -> Any:
    inner = [each for each in get_args(hint) if each is not type(None)]
    if value is None and type(None) in get_args(hint):  # of a cell: TOML has no such value
        return None
    if get_origin(hint) is tuple:
        if isinstance(value, (list, tuple)) and all(type(each) in (int, float) for each in value):
            return tuple(map(float, value))
        raise refused(kind, name, value, _KINDS[tuple])
    wanted = inner[0] if inner else hint
    if type(value) is wanted:
        return value
    if wanted is float and type(value) is int:
        return float(value)
    raise refused(kind, name, value, _KINDS[wanted])


def as_toml(kind: type) -> str:
    """A file for --settings: every setting at its default, and what it is.

    Args:
        kind: A protocol's settings, with `Attributes` in its docstring.

    Returns:
        TOML; what is not set by default is a comment.
    """
    about, default = _documented(kind), kind()
    lines = [f"# {line}" for line in textwrap.wrap(about[""], _WIDTH)]
    for name, words in about.items():
        if name:
            value = getattr(default, name)
            lines += ["", *(f"# {line}" for line in textwrap.wrap(words, _WIDTH))]
            lines.append(f"# {name}: not set" if value is None else f"{name} = {_written(value)}")
    return "\n".join(lines) + "\n"


def _documented(kind: type) -> dict[str, str]:
    """The first paragraph of a docstring as "", and what it says of each attribute."""
    head, _, rest = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:\n")
    entries = re.split(r"^    (\w+): ", rest.partition("\n\nRaises:")[0], flags=re.MULTILINE)[1:]
    about = {"": head} | dict(zip(entries[::2], entries[1::2], strict=True))
    return {name: " ".join(words.split()) for name, words in about.items()}


def _protocol(kind: type) -> str:
    return kind.__name__.lower()


def _show(kind: type) -> str:
    return f"robust-zoo transfer settings {_protocol(kind)}   shows all, and what each is"


def _written(value: Any) -> str:
    """As TOML has it, for the values that settings have."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
