"""Builders for the architectures timm lacks; every other one is timm's own.

Each builder has timm's entry-point signature, `builder(pretrained=False, **kwargs)`, and goes through
`timm.models.build_model_with_cfg`, so `features_only`, `num_classes`, `in_chans` and the rest mean
what they mean in timm. Importing this module registers nothing (see robust_zoo.hub).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models import build_model_with_cfg
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from robust_zoo.shufflenet import shufflenet_v2_x1_0


class CifarResNet(ResNet):
    """timm's ResNet for small images: one 3x3 stem convolution, no max-pool, a width multiplier.

    width: channels are `width` x (64, 128, 256, 512).
    stem_stride: 1 keeps 32x32 features in the first stage; 2 costs a quarter.
    """

    def __init__(
        self,
        block: type[nn.Module],
        layers: tuple[int, ...],
        width: float = 1.0,
        stem_stride: int = 1,
        in_chans: int = 3,
        **kwargs: Any,
    ) -> None:
        channels = tuple(int(width * c) for c in (64, 128, 256, 512))
        # timm fixes a plain stem at 64 channels; a deep stem has 2 x stem_width, so ask for one of the right
        # width and put the single convolution in its place before anything is trained or loaded.
        super().__init__(
            block, layers, in_chans=in_chans, channels=channels, stem_type="deep", stem_width=channels[0] // 2, **kwargs
        )
        placement = {"device": kwargs.get("device"), "dtype": kwargs.get("dtype")}
        self.conv1 = nn.Conv2d(in_chans, channels[0], 3, stride=stem_stride, padding=1, bias=False, **placement)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.maxpool = nn.Identity()
        for info, reduction in zip(self.feature_info, (1, 1, 2, 4, 8), strict=True):
            info["reduction"] = reduction * stem_stride


def _cfg(**values: Any) -> dict[str, Any]:
    """timm's pretrained_cfg: where the first convolution and the classifier are, and the usual input."""
    return {
        "num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (7, 7), "crop_pct": 0.875,
        "interpolation": "bilinear", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
        "first_conv": "conv1", "classifier": "fc",
    } | values  # fmt: skip


_CIFAR_CFG = _cfg(
    num_classes=10, input_size=(3, 32, 32), pool_size=(4, 4), crop_pct=1.0,
    mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
)  # fmt: skip


def _resnet(name: str, cls: type[ResNet], cfg: dict[str, Any], **model_args: Any) -> Callable[..., nn.Module]:
    def builder(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        kwargs["pretrained_cfg"] = kwargs.get("pretrained_cfg") or cfg
        return build_model_with_cfg(cls, name, pretrained, **{**model_args, **kwargs})

    builder.__name__ = name
    return builder
