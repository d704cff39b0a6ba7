"""What lies beside a network in a checkpoint: its normaliser, losses, counters, averages that are not whole."""

from __future__ import annotations

import re
from collections.abc import Set

from torch import Tensor

from robust_zoo.errors import VerificationFailed
from robust_zoo.weights.payload import Tensors, joined
from robust_zoo.weights.state_dict import MOST_CHANNELS, is_stored

COUNTER = "num_batches_tracked"
AVERAGED = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?|averaging|polyak|shadow|wa)(?![a-z])")
RAW = re.compile(r"(?<![a-z])(unaveraged|current|raw|online|non_?ema|no_?ema)(?![a-z])")

_MEANS = {"mean", "_mean", "new_mean", "mu", "image_mean", "pixel_mean"}
_STDS = {"std", "_std", "new_std", "sigma", "image_std", "pixel_std"}
_BESIDE = re.compile(  # a part of a name that says what a training keeps beside its network
    r"\w*loss\w*|crit|criteri(on|a)\w*|objective|\w*metrics?\w*|\w*acc(uracy)?|optim\w*|\w*schedulers?|\w*scaler|"
    r"callbacks|loops|\w*rng_?states?"
)
_NONSENSE = "the checkpoint's normaliser makes no sense"


def is_beside(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is of no network, by its name: statistics, losses, what optimizers keep, lone counters.

    Args:
        name: In its dict.
        tensor: Its shape tells a counter.
    """
    leaf = name.rpartition(".")[2]
    return (tensor.ndim == 0 and leaf != COUNTER) or leaf in _MEANS | _STDS or _is_of_training(name)


def _is_of_training(name: str) -> bool:
    return any(map(_BESIDE.fullmatch, name.lower().split(".")))


def normaliser(
    tensors: Tensors, path: str, of_networks: Set[str], channels: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None, list[str]]:
    """The statistics that lie nearest to a network.

    Args:
        tensors: Of the file.
        path: What is before the network's names in it.
        of_networks: The names that are a network's.
        channels: How many it takes.

    Returns:
        The mean and std of images in [0, 1], a number per channel (None where there is no normaliser), and what to say.

    Raises:
        VerificationFailed: One without the other, two that differ, or numbers that are none.
    """
    mean, std = (_statistic(tensors, path, of_networks, leaves) for leaves in (_MEANS, _STDS))
    if mean is None and std is None:
        return None, None, []
    shown = f"mean {mean}, std {std}"
    if mean is None or std is None or not all(value > 0 for value in std):
        raise VerificationFailed(_NONSENSE, expected="a mean and a positive std", actual=shown)
    mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
    if not len(mean) == len(std) == channels:
        raise VerificationFailed(_NONSENSE, expected=f"a number for each of {channels} channels", actual=shown)
    if max(mean) <= 1 and max(std) <= 2:
        return mean, std, []
    mean, std = (tuple(value / 255 for value in values) for values in (mean, std))
    return mean, std, ["the normaliser is of pixels from 0 to 255; it was divided by 255"]


def _statistic(tensors: Tensors, path: str, of_networks: Set[str], leaves: set[str]) -> tuple[float, ...] | None:
    near = {
        name: _depth(name, path)
        for name in tensors.by_name
        if name.rpartition(".")[2] in leaves and name not in of_networks and not _is_of_training(name)
    }
    values = {}
    for name in (name for name, depth in near.items() if depth == max(near.values())):
        tensor = tensors.by_name[name]
        if not is_stored(tensor) or not 0 < tensor.numel() <= MOST_CHANNELS or tensor.is_complex():
            shown = f"{name}: {tuple(tensor.shape)} {tensor.dtype}"
            raise VerificationFailed(_NONSENSE, expected="a number for each channel", actual=shown)
        values[name] = tuple(float(value) for value in tensor.flatten().tolist())
        if not tensor.isfinite().all():
            raise VerificationFailed(_NONSENSE, expected="finite numbers", actual=f"{name}: {values[name]}")
    if len(set(values.values())) > 1:
        shown = "; ".join(f"{name} {value}" for name, value in values.items())
        raise VerificationFailed("the file normalises in two ways", expected="one mean and one std", actual=shown)
    return next(iter(values.values()), None)


def _depth(name: str, path: str) -> int:
    """How many leading parts two names share."""
    pairs = zip(name.split("."), path.split("."), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(name.count("."), path.count(".")) + 1)


def remains(tensors: Tensors, home: str, shown: str, of_networks: Set[str]) -> list[str]:
    """What is to say of the tensors that are no network's.

    Args:
        tensors: Of the file.
        home: The dict that the chosen network lies in.
        shown: Where it lies, for messages.
        of_networks: The names that are a network's.

    Returns:
        Sentences: what of that dict is left out, and averages that are not whole.

    Raises:
        VerificationFailed: Tensors in the network's own dict that are of no known kind: the network may need them.
    """
    rest = {name: tensor for name, tensor in tensors.by_name.items() if name not in of_networks}
    averaged = [n for n, tensor in rest.items() if AVERAGED.search(n.lower()) and not is_beside(n, tensor)]
    beside = {k: t for k, t in tensors.homes.get(home, {}).items() if joined(home, k) in rest}
    unknown = [k for k, tensor in beside.items() if not is_beside(k, tensor) and joined(home, k) not in averaged]
    if unknown:
        raise VerificationFailed(
            "tensors beside the network that are not of its architecture",
            expected=f"the network ({shown}), a normaliser, losses, counters",
            actual=f"{len(unknown)} more: {', '.join(unknown[:3])}",
            next="if the network works without them, save it alone: torch.save(model.state_dict(), 'mine.pth')",
        )
    left = [k for k in beside if _is_of_training(k)]
    notes = [f"left out, for they are not the network's: {len(left)} tensors ({', '.join(left[:3])})"] if left else []
    if averaged:
        notes.append(f"averaged weights that are not a whole network were not taken: {', '.join(averaged[:3])}")
    return notes
