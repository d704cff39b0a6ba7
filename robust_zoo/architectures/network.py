"""What a row of the table of networks is: a class, its arguments, and what timm must know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Network:
    """An architecture that timm has no entry point for.

    Attributes:
        cls: The class to build.
        arguments: Its keyword arguments; those of a call go before them.
        cfg: timm's pretrained_cfg: where the first convolution and the classifier are, and the usual input.
        features: timm's feature_cfg: how `features_only` takes features, and which by default.
        fit: timm's filter of a state dict that is loaded into a model of another image size, if there is one.
    """

    cls: type[nn.Module]
    arguments: Mapping[str, Any]
    cfg: dict[str, Any]
    features: Mapping[str, Any] = field(default_factory=dict)
    fit: Callable[..., Any] | None = None


def cfg(**values: Any) -> dict[str, Any]:
    """timm's pretrained_cfg of an ImageNet model of 224 x 224 pixels.

    Args:
        **values: Entries that differ.

    Returns:
        A new dict.
    """
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "conv1",
        "classifier": "fc",
    } | values
