"""How a model wants its images normalised: what it says itself, or what is said inside the wrappers around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from math import isfinite
from typing import Any

import torch
from torch import nn

from robust_zoo.errors import UsageError

# The one child of DataParallel and its distributed kin, AveragedModel, timm's ModelEma; of torch.compile; of FSDP.
_WRAPPED = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# How torchvision's, RobustBench's, robustness' and smoothing's layers call their statistics.
_STATISTICS = (("mean", "std"), ("new_mean", "new_std"), ("means", "sds"))

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std, one number per channel


def for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Statistics of a network whose first convolution was adapted, as timm adapts it, to other channels.

    timm repeats the weights in turn, and so are these; for one channel it sums the weights, and these are averaged.

    Args:
        values: One number per channel of the network as it was.
        channels: How many there are now.

    Returns:
        One number per channel.
    """
    if channels in (0, len(values)) or not values:
        return tuple(values)
    return (sum(values) / len(values),) if channels == 1 else tuple(islice(cycle(values), channels))


def say_channels(cfg: Any, channels: int) -> None:
    """Makes a pretrained_cfg say that its network takes so many channels.

    Not before its weights are loaded: until then timm reads in it what these had.

    Args:
        cfg: A dict, or timm's PretrainedCfg as a model holds it.
        channels: How many.
    """
    for key in ("input_size", "test_input_size", "min_input_size"):
        if cfg.get(key):
            cfg[key] = (channels, *cfg[key][1:])
    cfg |= {key: for_channels(cfg[key], channels) for key in ("mean", "std")}


def statistics_of(model: nn.Module) -> Statistics:
    """What images must be normalised with before they enter a model.

    Args:
        model: Any; wrappers that hand images on as they come are looked into.

    Returns:
        Mean and standard deviation, one number per channel: 0 and 1 when it takes [0, 1] images.

    Raises:
        UsageError: Nothing says so, or two parts of it disagree.
    """
    layers = layers_of(model)
    found = [_said(layer) for layer in layers[:2]] + [None, None]
    normaliser = _normaliser(layers[0]) if layers and not found[0] else None
    if normaliser:
        if found[1] and not _alike(normaliser, found[1]):
            raise UsageError(
                f"{type(layers[0]).__name__} does not normalise as {type(layers[1]).__name__} was trained",
                expected=f"mean {found[1][0]}, std {found[1][1]}",
                actual=f"mean {normaliser[0]}, std {normaliser[1]}",
                next="pixel_model(model, mean=(0, 0, 0), std=(1, 1, 1))   if the layer is right",
            )
        return (0.0,) * len(normaliser[0]), (1.0,) * len(normaliser[0])
    if found[0] is None:
        raise _unsaid(model, layers)
    return found[0]


def layers_of(model: nn.Module) -> list[nn.Module]:
    """What images pass one after the other, as far as that can be told: wrappers and Sequentials are looked into."""
    if cfg_of(model):
        return [model]
    [(name, child), *others] = [*model.named_children()] or [("", model)]
    if name in _WRAPPED and not others and type(model).__module__.split(".")[0] in ("torch", "timm"):
        return layers_of(child)
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        return [layer for child in model for layer in layers_of(child)]
    return [] if isinstance(model, nn.Identity) else [model]


def cfg_of(model: nn.Module) -> Mapping[str, Any]:
    """The model's own pretrained_cfg, not one that it looks up in what it wraps; empty when it has none."""
    own: Any = vars(model).get("pretrained_cfg", getattr(type(model), "pretrained_cfg", None))
    own = own.to_dict() if hasattr(own, "to_dict") else own
    return own if isinstance(own, Mapping) else {}


def _said(model: nn.Module) -> Statistics | None:
    """The statistics of a model's own pretrained_cfg, for the channels that it has."""
    cfg = cfg_of(model)
    if cfg.get("mean") is None or cfg.get("std") is None:
        return None
    channels = getattr(model, "in_chans", 0)  # timm adapts the first convolution, and leaves the pretrained_cfg
    mean, std = (for_channels(numbers(cfg[key]), channels) for key in ("mean", "std"))
    return mean, std


def _normaliser(layer: nn.Module) -> Statistics | None:
    """The statistics of a layer that does nothing but normalise; None for any other."""
    if "normal" not in type(layer).__name__.lower() or any(layer.parameters()) or any(layer.children()):
        return None
    for names in _STATISTICS:
        mean, std = (numbers(getattr(layer, name, None)) for name in names)
        if are_sound((mean, std)):
            return mean, std
    return None


def numbers(values: Any) -> tuple[float, ...]:
    """Numbers out of a sequence or tensor, none when it holds something else."""
    try:
        return tuple(torch.as_tensor(values, dtype=torch.float64).flatten().tolist())
    except (TypeError, ValueError, RuntimeError):
        return ()


def are_sound(statistics: Statistics) -> bool:
    mean, std = statistics
    positive = all(isfinite(value) and value > 0 for value in std)
    return 0 < len(mean) == len(std) and all(0 <= value <= 1 for value in mean) and positive


def _alike(one: Statistics, other: Statistics) -> bool:
    return all(
        len(a) == len(b) and all(abs(x - y) < 1e-3 for x, y in zip(a, b, strict=True))
        for a, b in zip(one, other, strict=True)
    )


def _unsaid(model: nn.Module, layers: Sequence[nn.Module]) -> UsageError:
    """The error for a model that does not say how its images are normalised.

    Args:
        model: That model.
        layers: What images pass in it, as far as that can be told.

    Returns:
        An error to raise, which names what the model holds.
    """
    kind = type(model).__name__
    begins = f" that begins with {type(layers[0]).__name__}" if layers and layers[0] is not model else ""
    found = next(((type(part).__name__, said) for part in model.modules() if (said := _said(part))), None)
    actual, next_ = f"{kind}{begins}, without a pretrained_cfg", "pixel_model(model, mean=..., std=...)"
    if found:
        name, (mean, std) = found
        actual = f"{kind}{begins}; in it {name}, of mean {mean}, std {std}"
        next_ = f"pixel_model(model, mean={mean}, std={std})   if it hands its images to {name} as they come"
    return UsageError(
        f"how does {kind} want its images normalised?",
        expected="a timm model, also in DataParallel, AveragedModel, Sequential or torch.compile; or mean= and std=",
        actual=actual,
        next=f"{next_}; mean=(0, 0, 0), std=(1, 1, 1)   if it takes images in [0, 1]",
    )
