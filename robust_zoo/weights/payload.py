"""What torch.load returned -> the tensors in it by dotted name, whatever they are nested in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from robust_zoo.errors import Refused
from robust_zoo.weights.stand_ins import module_parts

_DEEPEST = 32  # dicts in dicts; a module of modules is one dict
_MOST = 1_000_000  # values beside tensors, such as a log of losses

State = dict[str, Tensor]


@dataclass(frozen=True)
class Tensors:
    """All tensors of a file.

    Attributes:
        by_name: By the keys on the way to them, joined by dots ("state_dict.model.conv1.weight").
        homes: The dicts (or pickled modules) that tensors lie in: name of the dict -> its tensors by their own keys.
        other: The types of some values that are no tensors, for messages.
    """

    by_name: State = field(default_factory=dict)
    homes: dict[str, State] = field(default_factory=dict)
    other: set[str] = field(default_factory=set)


def joined(*parts: str) -> str:
    """Names of a tensor's place, joined by dots; empty ones do not count."""
    return ".".join(filter(None, parts))


def read(raw: Any) -> Tensors:
    """The tensors of a checkpoint.

    Args:
        raw: What torch.load returned: any nesting of dicts, lists and stand-ins for pickled modules.

    Returns:
        The tensors, each once: what is in the file under two names has the first.

    Raises:
        Refused: Too deep or too much, or two tensors of one name.
    """
    found, seen = Tensors(), set[int]()
    waiting = [(raw, "", "", 0)]  # value, its dict, its name in that, how deep
    for _ in range(_MOST):
        if not waiting:
            return found
        value, home, name, depth = waiting.pop()
        if isinstance(value, Tensor):
            if (full := joined(home, name)) in found.by_name:
                raise Refused("two tensors of one name", expected="names that differ", actual=repr(full))
            found.by_name[full] = found.homes.setdefault(home, {})[name] = value
            continue
        parts = module_parts(value)
        if id(value) in seen or not (parts or isinstance(value, Mapping | list | tuple)):
            found.other.add(type(value).__name__)
            continue
        seen.add(id(value))
        if depth > _DEEPEST:
            raise Refused("its dicts are nested too deep", expected=f"at most {_DEEPEST} levels", actual="more")
        if parts:
            tensors, modules = parts
            inner = [(v, home, joined(name, str(k)), depth + 1) for k, v in (tensors | modules).items()]
        else:
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            inner = [(v, joined(home, name), str(k), depth + 1) for k, v in pairs]
        waiting += reversed(inner)
    raise Refused("too many values in the file", expected=f"at most {_MOST:,}", actual="more")
