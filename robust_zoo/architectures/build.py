"""Builders for the architectures timm lacks; every other one is timm's own.

Each builder has timm's entry-point signature, `builder(pretrained=False, **kwargs)`, and goes through
`timm.models.build_model_with_cfg`, so `features_only`, `num_classes`, `in_chans` and the rest mean
what they mean in timm. Importing this module registers nothing (see robust_zoo.hub).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm import create_model, list_models
from timm.layers import set_layer_config
from timm.models import build_model_with_cfg, generate_default_cfgs, get_pretrained_cfg, is_model, register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import nn

from robust_zoo.architectures import cifar_resnet, conv_stem, raresnet, transformers
from robust_zoo.architectures.network import Network, cfg
from robust_zoo.architectures.shufflenet import ShuffleNetV2
from robust_zoo.errors import UnknownCheckpoint, unknown

# It goes into the config.json of timm.models.save_for_hf, for whoever meets timm's "Unknown model" there.
_NOTE = "timm has no such architecture; call robust_zoo.register_with_timm() first, then timm.create_model loads this"

# timm looks here for the cfgs of the functions that register_architectures() hands to it.
default_cfgs: dict[str, Any] = {}


NETWORKS: dict[str, Network] = {
    # robustness' and upstream's wide ResNets: torchvision's ResNet-50 with `width_per_group=256`.
    "wide_resnet50_4": Network(ResNet, {"block": Bottleneck, "layers": (3, 4, 6, 3), "base_width": 256}, cfg()),
    "shufflenet_v2_x1_0": Network(ShuffleNetV2, {}, cfg(first_conv="conv1.0")),
    **cifar_resnet.ROWS,
    **raresnet.ROWS,
    **conv_stem.ROWS,
    **transformers.ROWS,
}


def _builder(name: str) -> Callable[..., nn.Module]:
    """timm's entry point for a row of the table."""
    network = NETWORKS[name]

    def builder(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        kwargs["pretrained_cfg"] = kwargs.get("pretrained_cfg") or network.cfg
        return build_model_with_cfg(
            network.cls,
            name,
            pretrained,
            feature_cfg=dict(network.features),  # a copy: timm empties it
            pretrained_filter_fn=network.fit,
            **{**network.arguments, **kwargs},
        )

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
    theirs = get_pretrained_cfg(architecture)
    full = theirs.to_dict() if theirs else {}
    return {key: full[key] for key in cfg() if key in full}


def register_architectures() -> None:
    """Makes the architectures of this module timm model names; calling it again changes nothing."""
    for name in NETWORKS:
        if not is_model(name):
            default_cfgs.update(generate_default_cfgs({name: NETWORKS[name].cfg}))
            register_model(_builder(name))
