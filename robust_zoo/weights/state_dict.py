"""A network's tensors: its normaliser, its number of classes, and whether they are those of an architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_zoo.errors import Refused, VerificationFailed

MOST_CHANNELS = 64  # hyperspectral images have tens; more is not a normaliser
_CLASSIFIER_BIAS = re.compile(r"((head\.)?(fc|classifier(\.\d+)?)|head)\.bias")


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


def is_stored(tensor: Tensor) -> bool:
    """Whether a tensor is plain numbers in this process' memory, as many as it claims."""
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors are equal, bit by bit."""
    if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():  # robustness saves each storage once
        return True
    # bytes, not values: NaN equals itself here, and is refused by name in check()
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def check_normalizer(found: Found, mean: Sequence[float], std: Sequence[float], *, told: bool = False) -> None:
    """The file's own normaliser, where it has one, must be the one that was promised (to 1e-6).

    Args:
        found: What was in the file.
        mean: What was promised, one number per channel of images in [0, 1].
        std: As mean.
        told: A file without one is of a network that takes such images as they are, so nothing else may be promised.

    Raises:
        VerificationFailed: It is another one.
    """
    if told and found.mean is None and (any(mean) or any(value != 1 for value in std)):
        raise mismatch(
            "the checkpoint has no normaliser, so its network takes images in [0, 1] as they are",
            f"mean {tuple(mean)}, std {tuple(std)}",
            "none",
        )
    for name, own, promised in (("mean", found.mean, mean), ("std", found.std, std)):
        if own is None:
            continue
        if len(own) != len(promised) or any(abs(a - b) > 1e-6 for a, b in zip(own, promised, strict=True)):
            raise mismatch(f"the checkpoint normalises with another {name}", str(tuple(promised)), str(own))


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
        raise Refused("no classifier in the state dict", expected="fc, classifier, head or head.fc", actual=last)
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
        raise mismatch(
            "the tensors are not those of this architecture",
            f"{len(reference)} tensors" + (f"; missing {len(missing)}: {', '.join(missing[:3])}" if missing else ""),
            f"{len(state)} tensors" + (f"; not expected {len(extra)}: {', '.join(extra[:3])}" if extra else ""),
        )
    wrong = [k for k in reference if (state[k].shape, state[k].dtype) != (reference[k].shape, reference[k].dtype)]
    if wrong:
        described = [", ".join(f"{k} {tuple(s[k].shape)} {s[k].dtype}" for k in wrong[:3]) for s in (reference, state)]
        raise mismatch(f"{len(wrong)} tensors have another shape or type", *described)
    broken = [k for k, v in state.items() if v.is_floating_point() and not _is_finite(v)]
    if broken:
        first = f"{len(broken)} tensors: {', '.join(broken[:3])}"
        raise mismatch("the weights hold NaN or infinity", "finite numbers", first)


def _is_finite(tensor: Tensor) -> bool:
    """By the extremes, which are NaN where any number is: isfinite() would take as much memory as the tensor."""
    return not tensor.numel() or bool(torch.stack(tensor.aminmax()).isfinite().all())


def mismatch(message: str, expected: str, actual: str) -> VerificationFailed:
    """The error of tensors that are not those that were promised.

    Args:
        message: What is wrong, in words.
        expected: What was promised.
        actual: What was found.

    Returns:
        An error to raise.
    """
    return VerificationFailed(message, expected=expected, actual=actual)
