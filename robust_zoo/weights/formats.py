"""A file of the zoo, read as its row says that it is laid out: nothing guessed and nothing dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from robust_zoo.errors import Refused
from robust_zoo.registry.formats import Format
from robust_zoo.weights.state_dict import MOST_CHANNELS, Found, is_stored, mismatch, same

State = dict[str, Tensor]
_NONSENSE = "the checkpoint's normaliser makes no sense"

# What this package wrote itself, whatever it was made of.
CONVERTED = Format("converted", ("",), (), inner="", copy="", mean=(), std=(), normalizer="optional", copies=1)


def unwrap(raw: Any, format: Format) -> Found:
    """What torch.load returned -> the network's own tensors and its normaliser, which is taken off.

    Args:
        raw: What torch.load returned.
        format: How the file is laid out.

    Returns:
        The network's tensors and the normaliser.

    Raises:
        Refused: There is no state dict of ordinary tensors where the format has it.
        VerificationFailed: Tensors are left over, the copies differ, or the normaliser is not one.
    """
    state = _stripped(_tensors(raw, format), format.strip)
    statistics = {key for key in state if key in (*format.mean, *format.std)}
    copy = _under(state, format.copy) if format.copy else {}
    if not statistics and not copy:
        return Found(state)
    beside = statistics | {format.copy + key for key in copy}
    own = {key: tensor for key, tensor in state.items() if key not in beside}
    network = _under(own, format.inner)
    left = [key for key in own if not key.startswith(format.inner)]
    if left or not network:
        kept = ", ".join(f"{prefix}*" for prefix in (format.inner, format.copy) if prefix)
        raise mismatch(f"tensors that are in no known part of a file laid out as {format.name!r}", kept, f"{left[:3]}")
    if copy and (differing := [k for k in network.keys() | copy.keys() if not same(network.get(k), copy.get(k))]):
        raise mismatch(
            "the second copy of the network differs from the first",
            f"two equal copies ({format.inner}* and {format.copy}*)",
            f"{len(differing)} differ: {', '.join(sorted(differing)[:3])}",
        )
    mean, std = _statistic(state, format.mean), _statistic(state, format.std)
    if (mean is None) != (std is None) or not all(value > 0 for value in std or ()):
        raise mismatch(_NONSENSE, "a mean and positive std", f"mean {mean}, std {std}")
    return Found(_stripped(network, format.strip), mean, std)


def _tensors(raw: Any, format: Format) -> State:
    """The dict of tensors at the first of the format's places that is there."""
    inside = (_at(raw, place) for place in format.payload)
    found = next((value for value in inside if isinstance(value, Mapping)), None)
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        seen = raw if found is None else found
        actual = f"keys {sorted(map(str, seen))[:5]}" if isinstance(seen, Mapping) else type(seen).__name__
        places = ", or ".join(f"one under {place!r}" if place else "the file's own" for place in format.payload)
        raise Refused("no state dict in the file", expected=f"a dict of tensors: {places}", actual=actual)
    # A view can claim terabytes of a storage of one number, and sparse tensors have none: nothing below may touch such.
    odd = [key for key, value in found.items() if not isinstance(key, str) or not is_stored(value)]
    if odd:
        raise Refused(
            "tensors that are not stored as they stand", expected="plain tensors by name", actual=f"{odd[:3]}"
        )
    return dict(found)


def _at(raw: Any, place: str) -> Any:
    """What is at a dotted path of dicts, "" for the whole; None where there is nothing."""
    for key in filter(None, place.split(".")):
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw


def _stripped(state: State, prefixes: Sequence[str]) -> State:
    """Without the prefixes that every tensor has."""
    while prefix := next((p for p in prefixes if state and all(key.startswith(p) for key in state)), None):
        state = _under(state, prefix)
    return state


def _under(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _statistic(state: State, keys: Sequence[str]) -> tuple[float, ...] | None:
    tensors = [state[key] for key in keys if key in state]
    if not all(0 < t.numel() <= MOST_CHANNELS and t.is_floating_point() and t.isfinite().all() for t in tensors):
        shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in tensors)
        raise mismatch(_NONSENSE, f"one finite number per channel in {keys[0]}", shapes)
    found = [tuple(t.flatten().tolist()) for t in tensors]
    if len(set(found)) > 1:
        raise mismatch("the copies of the network normalise differently", str(found[0]), str(found[1]))
    return found[0] if found else None
