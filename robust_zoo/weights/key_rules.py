"""A source's state-dict keys -> timm's: the rules that an architecture's row may name, and its key tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from robust_zoo.errors import VerificationFailed, ZooError, unknown
from robust_zoo.registry import load
from robust_zoo.registry.formats import KeyTable

State = dict[str, Tensor]
_LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")  # in the order of a BatchNorm2d


def _in_order(state: State, reference: Mapping[str, Tensor]) -> State:
    """Both libraries define the same layers in the same order, so keys are renamed one by one.

    In the order of the numbers in their names: a file's own order proves nothing, for safetensors sorts its keys.
    """
    pairs = list(zip(sorted(state, key=_definition_order), reference, strict=False))
    fits = all(_leaf(a) == _leaf(b) and state[a].shape == reference[b].shape for a, b in pairs)
    if not fits or len(state) != len(reference):
        return state  # state_dict.check() names what is missing or mis-shaped
    return {new: state[old] for old, new in pairs}


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _definition_order(key: str) -> tuple[Any, ...]:
    """Sorts torchvision's names as its modules are defined: by number, the classifier last, then as in a layer."""
    layer, _, leaf = key.rpartition(".")
    numbered = [(int(part) if part.isdecimal() and len(part) < 9 else -1, part) for part in layer.split(".")]
    return layer.startswith("classifier"), numbered, _LEAVES.index(leaf) if leaf in _LEAVES else len(_LEAVES), leaf


# name -> (tensors by their own keys, timm's state dict) -> tensors by timm's keys
KEY_RULES: dict[str, Callable[[State, Mapping[str, Tensor]], State]] = {
    "same": lambda state, reference: state,
    "in_order": _in_order,
}
if missing := KEY_RULES.keys() ^ set(load.KEY_RULES):
    raise ZooError(
        f"no such key rules: {', '.join(sorted(missing))}",
        source="weights/key_rules.py",
        expected=f"a function for each of {', '.join(load.KEY_RULES)}",
        actual=", ".join(KEY_RULES),
    )


def to_timm(state: State, rule: str | KeyTable, reference: Mapping[str, Tensor]) -> State:
    """A source's keys -> timm's, by the architecture's rule; a state dict with timm's keys comes back as it is.

    Args:
        state: The tensors by name.
        rule: A name of KEY_RULES, or a table.
        reference: The timm model's state dict (meta tensors will do).

    Returns:
        The tensors by timm's names; where they do not fit, as they were, for state_dict.check() to say so.

    Raises:
        UsageError: No such rule.
        VerificationFailed: Two keys become one.
    """
    if state.keys() == reference.keys():
        return state
    if isinstance(rule, KeyTable):
        return _by_table(state, rule, reference)
    if rule not in KEY_RULES:
        raise unknown("key rule", rule, KEY_RULES)
    return KEY_RULES[rule](state, reference)


def _by_table(state: State, table: KeyTable, reference: Mapping[str, Tensor]) -> State:
    old: dict[str, str] = {}
    for key in state:
        if (new := table.to_timm(key)) is None:
            continue
        if new in old:
            raise VerificationFailed(
                "two tensors of the file become one",
                expected=f"one tensor for each name, by the key table {table.name!r}",
                actual=f"{old[new]} and {key} both become {new}",
            )
        old[new] = key
    absent = [key for key in table.zeros if key in reference and key not in old]
    zeros = {key: torch.zeros(reference[key].shape, dtype=reference[key].dtype) for key in absent}
    return {new: _as_timm(new, state[key], table, reference.get(new)) for new, key in old.items()} | zeros


def _as_timm(name: str, tensor: Tensor, table: KeyTable, wanted: Tensor | None) -> Tensor:
    """A tensor in timm's shape, where the table says that the source has another; as it was where it does not fit."""
    if any(re.search(pattern, name) for pattern in table.transpose) and tensor.ndim == 2:
        tensor = tensor.t()
    elsewhere = any(re.search(pattern, name) for pattern in table.reshape)
    if elsewhere and wanted is not None and tensor.numel() == wanted.numel():
        tensor = tensor.reshape(wanted.shape)
    return tensor
