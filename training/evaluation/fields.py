"""Fields of entries that are read again: each has a rule, none is missing, none is unknown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from robust_zoo.text import printable
from robust_zoo.threat import NORMS

Rule = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """Of one line, which may be empty."""
    return isinstance(value, str) and (value.isprintable())


def is_name(value: Any) -> bool:
    """Text that is not empty."""
    return is_text(value) and bool(value)


def is_whole(value: Any) -> bool:
    """A whole number, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """A whole number from 0."""
    return is_whole(value) and value >= 0


def is_positive(value: Any) -> bool:
    """A whole number from 1."""
    return is_whole(value) and value > 0


def is_number(value: Any) -> bool:
    """A finite number from 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def is_percent(value: Any) -> bool:
    """A number from 0 to 100."""
    return is_number(value) and value <= 100


def is_interval(value: Any) -> bool:
    """Two percentages, the lower first."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_percent, value)) and value[0] <= value[1]


def is_norm(value: Any) -> bool:
    """The name of a norm."""
    return isinstance(value, str) and value in NORMS


def is_table(value: Any) -> bool:
    """A JSON object."""
    return isinstance(value, dict)


def is_time(value: Any) -> bool:
    """As 2026-11-23T16:05:03Z."""
    return isinstance(value, str) and bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value))


def wrong_field(entry: Mapping[str, Any], rules: Mapping[str, Rule]) -> str:
    """Looks for a field that is not what it should be.

    Args:
        entry: As it was read.
        rules: For each field whether a value is sound.

    Returns:
        What is wrong with the first such field, in words; "" for a sound entry.
    """
    for name, rule in rules.items():
        if name not in entry:
            return f"no {name}"
        if not rule(entry[name]):
            return f"{name} is {printable(repr(entry[name]), limit=80)}"
    unknown = sorted(entry.keys() - rules.keys())
    return f"a field {printable(unknown[0], limit=80)!r}" if unknown else ""
