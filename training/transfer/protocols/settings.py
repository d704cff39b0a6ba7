"""Settings of protocols: which values each may have, how a file's are read, and a file that shows them all."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from math import inf
from typing import Any, get_args, get_type_hints

from robust_zoo.errors import UsageError, unknown

_WIDTH = 110  # of a line


@dataclass(frozen=True)
class Rule:
    """What a setting may be.

    Attributes:
        words: In words.
        holds: Whether a value of the right type is so.
    """

    words: str
    holds: Callable[[Any], bool]


def one_of(words: Iterable[str]) -> Rule:
    """One of these words."""
    allowed = tuple(words)
    return Rule(" or ".join(allowed), allowed.__contains__)


def pattern(words: str, regex: str) -> Rule:
    """A word that looks so."""
    return Rule(words, lambda value: re.fullmatch(regex, value) is not None)


_COUNT = Rule("a whole number >= 1", lambda n: 1 <= n < 1 << 31)
_PIXELS = Rule("a whole number >= 0", lambda n: 0 <= n < 1 << 31)
_NUMBER = Rule("a number >= 0", lambda n: 0 <= n < inf)
_SHARE = Rule("a number in [0, 1)", lambda n: 0 <= n < 1)
_PART = Rule("a number between 0 and 1", lambda n: 0 < n < 1)
_NUMBERS = Rule("a list of numbers >= 0, one or more", lambda ns: bool(ns) and all(map(_NUMBER.holds, ns)))
_RULES: Mapping[str, Rule] = (
    dict.fromkeys(("epochs", "batch_size", "views", "step", "train_size"), _COUNT)
    | dict.fromkeys(("side", "longest", "maps", "width", "samples"), _COUNT)
    | dict.fromkeys(("lr", "weight_decay", "lwf"), _NUMBER)
    | dict.fromkeys(("warmup", "label_smoothing", "momentum"), _SHARE)
    | dict.fromkeys(("lrs", "weight_decays"), _NUMBERS)
    | {"holdout": _PART, "shrink": _PIXELS}
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
    for field in fields(settings):
        value, rule = getattr(settings, field.name), rules.get(field.name)
        if rule and value is not None and not rule.holds(value):
            raise refused(type(settings), field.name, value, rule.words)


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
    if tuple in (hint, getattr(hint, "__origin__", None)):
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
    pairs: Collection[tuple[str, str]] = [*zip(entries[::2], entries[1::2], strict=True)]
    return {"": " ".join(head.split())} | {name: " ".join(words.split()) for name, words in pairs}


def _protocol(kind: type) -> str:
    return kind.__name__.lower()


def _show(kind: type) -> str:
    return f"robust-zoo transfer settings {_protocol(kind)}   shows all, and what each is"


def _written(value: Any) -> str:
    """As TOML has it, for the values that settings have."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
