"""The tensors of a file -> the sets of weights among them that are of an architecture, under any prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_zoo.errors import Refused, VerificationFailed, ZooError
from robust_zoo.registry.formats import KeyTable
from robust_zoo.weights.beside import COUNTER, is_beside
from robust_zoo.weights.key_rules import to_timm
from robust_zoo.weights.payload import State, Tensors, joined
from robust_zoo.weights.state_dict import check, classes

# A number of classes (0: no head, None: the architecture's usual one) -> timm's state dict of the architecture.
References = Callable[[int | None], State]
_OTHER_PRECISIONS = (torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Candidate:
    """Tensors that are the architecture's own.

    Attributes:
        home: The dict of the file that they lie in.
        prefix: Of all their names in that dict.
        state: The tensors by timm's keys, in the file's types.
        names: Their names in the file.
    """

    home: str
    prefix: str
    state: State
    names: frozenset[str]

    @property
    def path(self) -> str:
        """What is before their names in the file."""
        return joined(self.home, self.prefix)

    @property
    def shown(self) -> str:
        """`path`, for messages."""
        return self.path or "without a prefix"


def candidates(tensors: Tensors, references: References, rule: str | KeyTable) -> list[Candidate]:
    """All that the architecture could be.

    Args:
        tensors: Of the file.
        references: The architecture, by number of classes.
        rule: Its key rule.

    Returns:
        Sets of tensors that are the architecture's by name and shape, whole but for the head.
    """
    least = sum(not key.endswith(COUNTER) for key in references(0))
    found: list[Candidate] = []
    for home, prefix, part in _parts(tensors, least):
        if any(
            one.home == home and f".{prefix}.".startswith(f".{one.prefix}." if one.prefix else ".") for one in found
        ):
            continue  # a part of what is a whole network
        if state := _fitting(part, references, rule):
            names = frozenset(joined(home, prefix, key) for key in part)
            found.append(Candidate(home, prefix, state, names))
    return found


def _parts(tensors: Tensors, least: int) -> Iterator[tuple[str, str, State]]:
    """(dict, prefix, the tensors under it), the whole dict first, each of `least` tensors or more."""
    homes = dict(tensors.homes)
    if len(homes) > 1 and not any(len(state) >= least for state in homes.values()):
        homes = {"": tensors.by_name}  # layers that lie in dicts of their own
    for home, state in homes.items():
        waiting = [("", {k: v for k, v in state.items() if not is_beside(k, v)})]
        while waiting:
            prefix, part = waiting.pop()
            if part and len(part) >= least:
                yield home, prefix, part
                heads = dict.fromkeys(key.partition(".")[0] for key in part if "." in key)
                inner: dict[str, State] = {head: {} for head in heads}
                for key, tensor in part.items():
                    head, dot, rest = key.partition(".")
                    if dot:
                        inner[head][rest] = tensor
                waiting += [(joined(prefix, head), inner[head]) for head in reversed(heads)]


def _fitting(state: State, references: References, rule: str | KeyTable) -> State | None:
    """The tensors by timm's keys, if they are those of the architecture, all and no other."""
    counted = _counted(state)
    for num_classes in dict.fromkeys((classes_of(state) or None, 0)):  # a hidden layer may pass for a head
        reference = references(num_classes)
        try:
            mapped = to_timm(counted, rule, reference)
        except VerificationFailed:  # its keys are not the source's
            continue
        if mapped.keys() == reference.keys() and all(mapped[key].shape == reference[key].shape for key in reference):
            return mapped
    return None


def classes_of(state: Mapping[str, Tensor]) -> int:
    """How many classes a network's head has, 0 without one."""
    try:
        return classes(state)
    except Refused:
        return 0


def _counted(state: State) -> State:
    """With the counters of batches that torch before 0.4.1 did not have; only training on would need them."""
    counters = {name.removesuffix("running_var") + COUNTER for name in state if name.endswith("running_var")}
    zero = {name: torch.zeros((), dtype=torch.int64) for name in counters if name not in state}
    return {k: v.reshape(()) if k in counters and v.numel() == 1 else v for k, v in state.items()} | zero


def in_types_of(reference: State, state: State) -> tuple[State, list[str]]:
    """Tensors of half or double precision in the architecture's own.

    Args:
        reference: The architecture's state dict.
        state: Tensors by its keys.

    Returns:
        The tensors, and what to say of it.
    """
    converted: dict[str, int] = {}
    out = dict(state)
    for key, tensor in state.items():
        wanted = reference[key].dtype if key in reference else tensor.dtype
        if tensor.dtype in _OTHER_PRECISIONS and wanted is torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            converted[kind] = converted.get(kind, 0) + 1
            out[key] = tensor.to(wanted)
        elif key.endswith(COUNTER) and tensor.dtype is not wanted:  # a cast of everything; fp16 ends at 65504
            out[key] = tensor.nan_to_num(posinf=0, neginf=0).to(wanted)
    notes = [f"{count} tensors were converted from {kind} to float32" for kind, count in converted.items()]
    return out, notes


def misfit(tensors: Tensors, references: References, rule: str | KeyTable) -> ZooError:
    """Why there is no candidate, told of the part of the file that is most like the architecture.

    Args:
        tensors: Of the file.
        references: The architecture, by number of classes.
        rule: Its key rule.

    Returns:
        An error to raise.
    """
    usual = references(None)
    parts = [part for _, _, part in _parts(tensors, 1)]
    if not parts:
        return Refused(
            "no weights in the file",
            expected="a state dict, in any nesting of dicts, or a pickled model",
            actual=f"no tensors; {', '.join(sorted(tensors.other)[:5]) or 'nothing'}",
            next="save a network's own tensors: torch.save(model.state_dict(), 'mine.pth')",
        )
    like = max(parts, key=lambda part: (len(part.keys() & usual.keys()), -len(part)))
    if not like.keys() & usual.keys():
        like = max(parts, key=lambda part: (len(part), -sum(map(len, part))))
    reference = references(classes_of(like) or None)
    next = "name the architecture that the file is of; robust-zoo list shows those there are"
    try:
        mapped = to_timm(_counted(like), rule, reference)
        check(in_types_of(reference, mapped)[0], reference)
    except VerificationFailed as error:
        return VerificationFailed(error.message, expected=error.expected, actual=error.actual, next=next)
    return VerificationFailed("the tensors are not those of this architecture", expected="its tensors", next=next)
