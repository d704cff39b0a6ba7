"""State dicts as they are found -> timm's keys, nothing guessed and nothing dropped in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robust_zoo.errors import Refused, VerificationFailed

_WRAPPERS = ("module.", "model.")  # DataParallel, and models held inside models
_NORMALIZERS = {
    "mean": ("normalizer.new_mean", "attacker.normalize.new_mean"),
    "std": ("normalizer.new_std", "attacker.normalize.new_std"),
}
_MOST_CHANNELS = 64  # hyperspectral images have tens; more is not a normaliser
_CLASSIFIER_BIAS = re.compile(r"(head\.)?(fc|classifier(\.\d+)?)\.bias")


@dataclass(frozen=True)
class Found:
    """A bare network's tensors, with the normaliser that came with them.

    Attributes:
        state: The tensors by name.
        mean: One number per channel, of images in [0, 1]; None when there was no normaliser.
        std: As mean.
    """

    state: dict[str, Tensor]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def unwrap(raw: Any) -> Found:
    """What torch.load returned -> the network's own tensors, prefixes found from the keys.

    Takes robustness checkpoints ({"model" | "state_dict": the state of DataParallel(AttackerModel(...)), ...}; the
    library's train.py) and plain state dicts. The attacker's second copy must equal the first; it and the
    normaliser are taken off.

    Args:
        raw: What torch.load returned.

    Returns:
        The network's tensors and the normaliser.

    Raises:
        Refused: There is no state dict of ordinary tensors.
        VerificationFailed: The copies differ, or the normaliser is not one.
    """
    state = _tensors(raw)
    state = _without_prefix(state, "module.")
    if not any(key.startswith(("normalizer.", "attacker.")) for key in state):
        return Found(_without_wrappers(state))
    network = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
    copy = {k.removeprefix("attacker.model."): v for k, v in state.items() if k.startswith("attacker.model.")}
    known = {"model." + k for k in network} | {"attacker.model." + k for k in copy}
    left = [k for k in state if k not in known and not any(k in keys for keys in _NORMALIZERS.values())]
    if left or not network:
        raise _fail(
            "tensors that belong to no known part of a robustness checkpoint", "model.*, attacker.*", f"{left[:3]}"
        )
    if copy:
        differing = [k for k in network.keys() | copy.keys() if not same(network.get(k), copy.get(k))]
        if differing:
            raise _fail(
                "the attacker's copy of the network differs from the network",
                "two equal copies (robustness stores the same tensors twice)",
                f"{len(differing)} differ: {', '.join(sorted(differing)[:3])}",
            )
    mean, std = (_statistic(state, keys) for keys in _NORMALIZERS.values())
    if (mean is None) != (std is None) or not all(value > 0 for value in std or ()):
        raise _fail("the checkpoint's normaliser makes no sense", "a mean and positive std", f"mean {mean}, std {std}")
    return Found(_without_wrappers(network), mean, std)


def _tensors(raw: Any) -> dict[str, Tensor]:
    for key in ("model", "state_dict"):
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
            break
    if not isinstance(raw, Mapping) or not raw or not all(isinstance(v, Tensor) for v in raw.values()):
        found = f"keys {sorted(map(str, raw))[:5]}" if isinstance(raw, Mapping) else type(raw).__name__
        raise Refused("no state dict in the file", expected="a dict of tensors, or one under 'model'", actual=found)
    # A view can claim terabytes of a storage of one number, and sparse tensors have none: nothing below may touch such.
    odd = [k for k, v in raw.items() if not isinstance(k, str) or not is_stored(v)]
    if odd:
        raise Refused(
            "tensors that are not stored as they stand", expected="plain tensors by name", actual=f"{odd[:3]}"
        )
    return dict(raw)


def is_stored(tensor: Tensor) -> bool:
    """Whether a tensor is plain numbers in this process' memory, as many as it claims."""
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _without_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    whole = all(key.startswith(prefix) for key in state)
    return {key.removeprefix(prefix): v for key, v in state.items()} if whole else state


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in _WRAPPERS if all(key.startswith(p) for key in state)), None):
        state = _without_prefix(state, prefix)
    return state


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors are equal, bit by bit."""
    if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():  # robustness saves each storage once
        return True
    # bytes, not values: NaN equals itself here, and is refused by name in check()
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def _statistic(state: dict[str, Tensor], keys: Sequence[str]) -> tuple[float, ...] | None:
    tensors = [state[key] for key in keys if key in state]
    if not all(0 < t.numel() <= _MOST_CHANNELS and t.is_floating_point() and t.isfinite().all() for t in tensors):
        shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in tensors)
        raise _fail("the checkpoint's normaliser makes no sense", f"one finite number per channel in {keys[0]}", shapes)
    found = [tuple(t.flatten().tolist()) for t in tensors]
    if len(set(found)) > 1:
        raise _fail("the model and its attacker normalise differently", str(found[0]), str(found[1]))
    return found[0] if found else None


def check_normalizer(found: Found, mean: Sequence[float], std: Sequence[float]) -> None:
    """The file's own normaliser, where it has one, must be the one that was promised (to 1e-6).

    Args:
        found: What unwrap made of the file.
        mean: What was promised, one number per channel of images in [0, 1].
        std: As mean.

    Raises:
        VerificationFailed: It is another one.
    """
    for name, own, promised in (("mean", found.mean, mean), ("std", found.std, std)):
        if own is None:
            continue
        if len(own) != len(promised) or any(abs(a - b) > 1e-6 for a, b in zip(own, promised, strict=True)):
            raise _fail(f"the checkpoint normalises with another {name}", str(tuple(promised)), str(own))


def classes(state: Mapping[str, Tensor]) -> int:
    """How many classes a state dict's last layer has.

    Args:
        state: The tensors by name.

    Returns:
        The length of its bias.

    Raises:
        Refused: There is no last layer by a usual name.
    """
    biases = sorted(key for key in state if _CLASSIFIER_BIAS.fullmatch(key))
    if not biases or state[biases[-1]].ndim != 1:
        last = f"{list(state)[-3:]}"
        raise Refused("no classifier in the state dict", expected="fc, classifier or head.fc", actual=last)
    return len(state[biases[-1]])


def check(state: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> None:
    """Every tensor of the network, no other, of the right shape and type, and finite.

    Args:
        state: The tensors by name.
        reference: The model's state dict (meta tensors will do).

    Raises:
        VerificationFailed: What is missing, not expected, mis-shaped or not finite.
    """
    missing, extra = [k for k in reference if k not in state], [k for k in state if k not in reference]
    if missing or extra:
        raise _fail(
            "the tensors are not those of this architecture",
            f"{len(reference)} tensors" + (f"; missing {len(missing)}: {', '.join(missing[:3])}" if missing else ""),
            f"{len(state)} tensors" + (f"; not expected {len(extra)}: {', '.join(extra[:3])}" if extra else ""),
        )
    wrong = [k for k in reference if (state[k].shape, state[k].dtype) != (reference[k].shape, reference[k].dtype)]
    if wrong:
        described = [", ".join(f"{k} {tuple(s[k].shape)} {s[k].dtype}" for k in wrong[:3]) for s in (reference, state)]
        raise _fail(f"{len(wrong)} tensors have another shape or type", *described)
    broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        first = f"{len(broken)} tensors: {', '.join(broken[:3])}"
        raise _fail("the weights hold NaN or infinity", "finite numbers", first)


def _fail(message: str, expected: str, actual: str) -> VerificationFailed:
    return VerificationFailed(message, expected=expected, actual=actual)
