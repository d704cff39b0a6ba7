"""Builders for the architectures timm lacks; every other one is timm's own.

Each builder has timm's entry-point signature, `builder(pretrained=False, **kwargs)`, and goes through
`timm.models.build_model_with_cfg`, so `features_only`, `num_classes`, `in_chans` and the rest mean
what they mean in timm. Importing this module registers nothing (see robust_zoo.hub).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timm import create_model, list_models
from timm.layers import set_layer_config
from timm.models import build_model_with_cfg, generate_default_cfgs, get_pretrained_cfg, is_model, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from robust_zoo.architectures.shufflenet import ShuffleNetV2
from robust_zoo.errors import UnknownCheckpoint, unknown

# It goes into the config.json of timm.models.save_for_hf, for whoever meets timm's "Unknown model" there.
_NOTE = "timm has no such architecture; call robust_zoo.register_with_timm() first, then timm.create_model loads this"

# timm looks here for the cfgs of the functions that register_architectures() hands to it.
default_cfgs: dict[str, Any] = {}


class CifarResNet(ResNet):
    """timm's ResNet for small images: one 3x3 stem convolution, no max-pool, a width multiplier.

    Args:
        block: timm's class of residual block.
        layers: Blocks per stage.
        width: Channels are `width` x (64, 128, 256, 512).
        stem_stride: 1 keeps 32x32 features in the first stage; 2 costs a quarter.
        in_chans: Channels of the images.
        output_stride: Of the last stage, from 2 to 8 times stem_stride (the default); less dilates, as in timm.
        **kwargs: Those of timm's ResNet.
    """

    def __init__(
        self,
        block: Any,
        layers: tuple[int, ...],
        width: float = 1.0,
        stem_stride: int = 1,
        in_chans: int = 3,
        output_stride: int = 32,
        **kwargs: Any,
    ) -> None:
        channels = tuple(int(width * c) for c in (64, 128, 256, 512))
        # timm fixes a plain stem at 64 channels; a deep stem has 2 x stem_width, so ask for one of the right
        # width and put the single convolution in its place before anything is trained or loaded.
        super().__init__(
            block,
            layers,
            in_chans=in_chans,
            channels=channels,
            stem_type="deep",
            stem_width=channels[0] // 2,
            output_stride=min(32, output_stride * 4 // stem_stride),
            **kwargs,
        )
        placement: dict[str, Any] = {"device": kwargs.get("device"), "dtype": kwargs.get("dtype")}
        stem = nn.Conv2d(in_chans, channels[0], 3, stride=stem_stride, padding=1, bias=False, **placement)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.conv1 = stem  # type: ignore[assignment]
        self.maxpool = nn.Identity()  # type: ignore[assignment]
        for info in self.feature_info:  # timm counts from its own stem: 2 after the convolution, 4 after the max-pool
            reduction: Any = info["reduction"]
            info["reduction"] = max(reduction // 4, 1) * stem_stride


def _cfg(**values: Any) -> dict[str, Any]:
    """timm's pretrained_cfg: where the first convolution and the classifier are, and the usual input."""
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


_CIFAR_CFG = _cfg(
    num_classes=10, input_size=(3, 32, 32), pool_size=(4, 4), crop_pct=1.0,
    mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
)  # fmt: skip


@dataclass(frozen=True)
class _Network:
    """A row of the table below: the class to build, its arguments, and timm's cfg for it."""

    cls: type[nn.Module]
    arguments: dict[str, Any]
    cfg: dict[str, Any]


def _cifar_family() -> dict[str, _Network]:
    """resnet{10,18}_x{width}[_s2]: He et al.'s blocks; s2 is the stride-2 stem, four times cheaper."""
    return {
        f"resnet{depth}_x{written}{suffix}": _Network(
            CifarResNet,
            {"block": BasicBlock, "layers": layers, "width": width, "stem_stride": stride},
            _CIFAR_CFG | {"pool_size": (4 // stride, 4 // stride)},
        )
        for depth, layers in ((10, (1, 1, 1, 1)), (18, (2, 2, 2, 2)))
        for written, width in (("0_25", 0.25), ("0_5", 0.5), ("1", 1.0))
        for suffix, stride in (("", 1), ("_s2", 2))
    }


NETWORKS: dict[str, _Network] = {
    # robustness' and upstream's wide ResNets: torchvision's ResNet-50 with `width_per_group=256`.
    "wide_resnet50_4": _Network(ResNet, {"block": Bottleneck, "layers": (3, 4, 6, 3), "base_width": 256}, _cfg()),
    "shufflenet_v2_x1_0": _Network(ShuffleNetV2, {}, _cfg(first_conv="conv1.0")),
    **_cifar_family(),
}


def _builder(name: str) -> Callable[..., nn.Module]:
    """timm's entry point for a row of the table."""
    network = NETWORKS[name]

    def builder(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        kwargs["pretrained_cfg"] = kwargs.get("pretrained_cfg") or network.cfg
        return build_model_with_cfg(network.cls, name, pretrained, **{**network.arguments, **kwargs})

    builder.__name__ = builder.__qualname__ = name
    builder.__module__ = __name__
    return builder


def build(architecture: str, **kwargs: Any) -> nn.Module:
    """A model of any architecture, ours or timm's.

    Args:
        architecture: A name of NETWORKS, or timm's.
        **kwargs: Those of `timm.create_model`, but `checkpoint_path` (robust_zoo.create_model reads files).

    Returns:
        A model that takes normalised images (B, C, H, W) and returns logits.

    Raises:
        UnknownCheckpoint: No such architecture (exit code 4); the three closest are in the error.
    """
    if architecture in NETWORKS:
        layer_config = {k: kwargs.pop(k) for k in ("scriptable", "exportable", "no_jit") if k in kwargs}
        kwargs = {k: v for k, v in kwargs.items() if v is not None}  # as timm.create_model: None means not set
        with set_layer_config(**layer_config):
            model: Any = _builder(architecture)(**kwargs)
        placement = ("device", "dtype", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained", "cache_dir")
        model._model_args = {k: v for k, v in kwargs.items() if k not in placement}  # timm keeps these to save a model
        return model
    if not is_model(architecture):
        listed = "timm.list_models() and robust_zoo.architectures.build.NETWORKS list them"
        raise unknown("architecture", architecture, [*NETWORKS, *list_models()], error=UnknownCheckpoint, next=listed)
    return create_model(architecture, **kwargs)


def default_cfg(architecture: str) -> dict[str, Any]:
    """Where an architecture's first convolution and classifier are, in timm's terms, without any weights' address.

    Args:
        architecture: A name of NETWORKS, or timm's.

    Returns:
        Entries of a pretrained_cfg; those that timm has, none for a name it does not know.
    """
    if architecture in NETWORKS:
        return NETWORKS[architecture].cfg | {"notes": (_NOTE,)}
    cfg = get_pretrained_cfg(architecture)
    full = cfg.to_dict() if cfg else {}
    return {key: full[key] for key in _cfg() if key in full}


def register_architectures() -> None:
    """Makes the architectures of this module timm model names; calling it again changes nothing."""
    for name in NETWORKS:
        if not is_model(name):
            default_cfgs.update(generate_default_cfgs({name: NETWORKS[name].cfg}))
            register_model(_builder(name))
