"""A checkpoint file, of the zoo or laid out as a user's training left it -> the one network in it, or why not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from robust_zoo.errors import Refused, UsageError
from robust_zoo.registry.formats import Format, KeyTable
from robust_zoo.weights.beside import AVERAGED, RAW, normaliser, remains
from robust_zoo.weights.candidates import Candidate, References, candidates, classes_of, in_types_of, misfit
from robust_zoo.weights.formats import unwrap
from robust_zoo.weights.key_rules import to_timm
from robust_zoo.weights.payload import State, Tensors, joined, read
from robust_zoo.weights.state_dict import Found, classes, is_stored, same


@dataclass(frozen=True)
class Layout:
    """A network found in a file.

    Attributes:
        found: Its tensors by timm's keys, in the architecture's types, and its normaliser.
        reference: The architecture's own state dict, with as many classes.
        num_classes: Of its head; 0 when the file has none.
        size: In bytes, as the tensors are in the file.
        taken: "ema" or "raw".
        notes: What was chosen, converted or left out, in sentences.
    """

    found: Found
    reference: State
    num_classes: int
    size: int
    taken: str
    notes: tuple[str, ...]


def promised(raw: Any, format: Format, references: References, rule: str | KeyTable, num_classes: int | None) -> Layout:
    """The network of a checkpoint of the zoo: as its row says that it is laid out, and nothing else.

    Args:
        raw: What torch.load returned.
        format: How it is laid out.
        references: As for `find`.
        rule: The architecture's key rule.
        num_classes: What the head must have; None takes the file's word.

    Returns:
        The network as it stands; `state_dict.check` says whether it is the architecture's.

    Raises:
        Refused: There is no state dict of ordinary tensors where the format has it.
        VerificationFailed: Tensors are left over, two are of one name, the copies differ, or the normaliser is not one.
    """
    found = unwrap(raw, format)
    size = sum(tensor.numel() * tensor.element_size() for tensor in found.state.values())
    num_classes = num_classes or classes(found.state)
    reference = references(num_classes)
    state = to_timm(found.state, rule, reference)
    return Layout(Found(state, found.mean, found.std), reference, num_classes, size, "raw", ())


def find(raw: Any, references: References, rule: str | KeyTable, ema: bool | None = None) -> Layout:
    """The one set of weights in a file that is of an architecture.

    Where it lies and what it is wrapped in are found from the architecture's own keys: any nesting of dicts, any
    prefixes, a pickled nn.Module. Nothing is guessed: every tensor must be there, in its shape.

    Args:
        raw: What torch.load returned.
        references: A number of classes (0: no head, None: the architecture's usual one) -> timm's state dict of it.
        rule: The architecture's key rule.
        ema: Averaged weights (True) or those that were trained (False), when the file has both; None takes the
            averaged ones, as timm.create_model(checkpoint_path=) does, and says so in the notes.

    Returns:
        The network, its normaliser, and what there is to say.

    Raises:
        Refused: There are no tensors, or others than plain ones.
        VerificationFailed: No tensors of this architecture, or others beside them that are no known kind.
        UsageError: Several sets of weights fit and nothing says which is meant, or there is none of that kind.
    """
    tensors, references = read(raw), cache(references)
    found = candidates(tensors, references, rule)
    if not found:
        raise misfit(tensors, references, rule)
    for one in found:
        if odd := [name for name in sorted(one.names) if not is_stored(tensors.by_name[name])]:
            raise Refused("tensors that are not stored as they stand", expected="plain tensors", actual=f"{odd[:3]}")
    chosen, taken, notes = _chosen(found, tensors, ema)
    of_networks = frozenset[str]().union(*(one.names for one in found))
    size = sum(t.numel() * t.element_size() for t in chosen.state.values() if t.is_floating_point())
    num_classes = classes_of(chosen.state)
    reference = references(num_classes)
    channels = next((tensor.shape[1] for tensor in reference.values() if tensor.ndim == 4), 3)
    mean, std, said = normaliser(tensors, chosen.path, of_networks, channels)
    notes += [*said, *remains(tensors, chosen.home, chosen.shown, of_networks)]
    state, said = in_types_of(reference, chosen.state)
    return Layout(Found(state, mean, std), reference, num_classes, size, taken, (*notes, *said))


def _kinds(found: list[Candidate], tensors: Tensors) -> dict[str, str]:
    """Path -> "ema" or "raw", by the words in it and by the counter that torch's AveragedModel keeps beside it."""
    kinds = {}
    for one in found:
        path, counter = one.path.lower(), joined(one.path.rpartition(".")[0], "n_averaged")
        averaged = AVERAGED.search(path) or counter in tensors.by_name
        kinds[one.path] = "raw" if RAW.search(path) else "ema" if averaged else ""
    unmarked = "ema" if "raw" in kinds.values() and "ema" not in kinds.values() else "raw"
    return {path: kind or unmarked for path, kind in kinds.items()}


def _chosen(found: list[Candidate], tensors: Tensors, ema: bool | None) -> tuple[Candidate, str, list[str]]:
    kinds = _kinds(found, tensors)
    distinct: list[Candidate] = []
    for one in found:  # robustness' attacker holds the same tensors; an average may not have moved yet
        twin = next((other for other in distinct if _equal(one, other)), None)
        if twin is None:
            distinct.append(one)
        elif kinds[twin.path] != kinds[one.path]:
            kinds[twin.path] = "raw" if ema is False else "ema"
    averaged, raw = ([one for one in distinct if kinds[one.path] == kind] for kind in ("ema", "raw"))
    described = ", ".join(f"{one.shown} ({kinds[one.path]})" for one in distinct)
    wanted = distinct if ema is None and len(distinct) == 1 else raw if ema is False else averaged
    if ema is not None and not wanted:
        raise UsageError(
            f"no {'averaged' if ema else 'raw'} weights in the file",
            expected=f"{'averaged (EMA)' if ema else 'raw'} weights of the whole network",
            actual=described,
            next=f"leave checkpoint_ema= or {'--ema' if ema else '--raw'} out to take {described}",
        )
    if len(wanted) != 1 or (ema is None and len(raw) > 1):
        raise UsageError(
            f"{len(distinct)} sets of weights in the file fit, and differ",
            expected="one set, or one averaged (EMA) and one raw",
            actual=described,
            next="load the file and save the set that you mean alone: torch.save(STATE_DICT, 'mine.pth')",
        )
    notes = []
    if ema is None and len(distinct) == 2:
        notes.append(
            f"two sets of weights in the file: the averaged ones ({wanted[0].shown}) are taken, as timm does, not the "
            f"raw ones ({raw[0].shown}); to choose: checkpoint_ema=True or False, --ema or --raw"
        )
    return wanted[0], kinds[wanted[0].path], notes


def _equal(one: Candidate, other: Candidate) -> bool:
    return all(same(tensor, other.state[key]) for key, tensor in one.state.items())
