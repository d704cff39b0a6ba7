"""The files of every format that the registry knows, written by hand as their authors' code writes them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

import checkpoints
import torch
from torch import Tensor, nn

from robust_zoo.architectures.build import build
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.rows import Checkpoint

State = dict[str, Tensor]
Writer = Callable[[State, State, Any, Any], dict[str, Any]]
RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def under(prefix: str, state: State) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def _momentum(state: State, *moments: str) -> dict[str, Any]:
    """An optimizer's state dict; without the moments of large tensors, for the files' sake."""
    kept = {
        i: {name: torch.zeros_like(v) for name in moments}
        for i, v in enumerate(state.values())
        if v.is_floating_point() and v.numel() < 100_000
    }
    return {"state": kept, "param_groups": [{"lr": 0.1, "params": list(kept)}]}


def _args(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(lr=1e-3, model="x", mean=None, **more)


def _robarch(state: State, other: State, mean: Any, std: Any) -> dict[str, Any]:
    own = under("module.", state | {"normalization.mean": torch.tensor(mean), "normalization.std": torch.tensor(std)})
    return {
        "tag": "x",
        "best_prec1": 70.0,
        "epoch": 9,
        "state_dict": own,
        "optimizer": _momentum(state, "momentum_buffer"),
    }


def _revisiting_at(state: State, other: State, mean: Any, std: Any) -> dict[str, Any]:
    if (tuple(mean), tuple(std)) == RAW:  # its network is not wrapped
        return under("base_model.", state)
    statistics = {
        "normalize.mean": torch.tensor(mean).view(1, 3, 1, 1),
        "normalize.std": torch.tensor(std).view(1, 3, 1, 1),
    }
    return under("base_model.", statistics | under("model.", state))


def _easyrobust(state: State, other: State, mean: Any, std: Any) -> dict[str, Any]:
    return {"state_dict": {"0.mean": torch.tensor(mean), "0.std": torch.tensor(std)} | under("1.", state), "epoch": 1}


# format -> (the network's tensors, another network's, mean, std) -> what torch.save gets
WRITERS: dict[str, Writer] = {
    "bare": lambda state, *_: under("module.model.", state),
    "robustness": lambda state, *_: checkpoints.checkpoint(state),
    "state_dict": lambda state, *_: {
        "epoch": 9, "state_dict": under("module.", state), "opt": _momentum(state, "momentum_buffer"),
    },
    "timm_ema": lambda state, other, *_: {
        "epoch": 9, "arch": "x", "state_dict": other, "optimizer": _momentum(state, "exp_avg", "exp_avg_sq"),
        "version": 2, "args": _args(eps=4 / 255), "amp_scaler": {"scale": 65536.0}, "state_dict_ema": state,
        "metric": 1.0,
    },
    "timm_bits": lambda state, other, *_: {
        "epoch": 9, "step_count": 99, "model": state, "model_ema": other, "train_cfg": {"ema": 0.9},
        "optimizer": _momentum(state, "exp_avg", "exp_avg_sq"),
    },
    "mae": lambda state, *_: {
        "model": under("base_model.", state), "optimizer": _momentum(state, "exp_avg", "exp_avg_sq"), "epoch": 9,
        "scaler": {"scale": 65536.0}, "args": _args(),
    },
    "robarch": _robarch,
    "revisiting_at": _revisiting_at,
    "easyrobust": _easyrobust,
    "robustvlm": lambda state, *_: {"vision_encoder_state_dict": state, "epoch": 1},
}  # fmt: skip


def as_before_timm_0_9(swin: nn.Module) -> State:
    """A Swin's tensors by the names of timm 0.6, with the buffers that files had then."""
    out = {}
    for key, tensor in {**swin.state_dict(), **dict(swin.named_buffers())}.items():
        part = key.split(".")
        if part[2:3] == ["downsample"]:
            part[1] = str(int(part[1]) - 1)
        if part[:2] == ["head", "fc"]:
            del part[1]
        out[".".join(part)] = tensor
    return out


def with_conv_stem(model: nn.Module) -> State:
    """By the names of Singh et al., whose stem is a module inside timm's."""
    stems = {"stem.": "stem.stem.", "patch_embed.proj.": "patch_embed.proj.stem."}
    stem = next(stem for stem in stems if any(key.startswith(stem) for key in model.state_dict()))
    return {
        stems[stem] + key.removeprefix(stem) if key.startswith(stem) else key: tensor
        for key, tensor in model.state_dict().items()
    }


def of_peng(raresnet: nn.Module) -> State:
    """By the names of Peng et al."""
    inside = {
        "conv1": "F.a.0", "conv2": "F.b.0", "bn2": "F.b.1", "se": "F.se", "conv3": "F.c.0", "bn3": "F.c.1",
        "downsample": "proj",
    }  # fmt: skip
    out = {}
    for key, tensor in raresnet.state_dict().items():
        match key.split("."):
            case "stages", stage, block, layer, *leaf:
                name = f"stage{int(stage) + 1}"
                key = ".".join(["stages", name, f"{name}-block{block}", inside[layer], *leaf])
            case "conv1" | "bn1" as layer, *leaf:
                key = ".".join(["stem.stem.stem", "0" if layer == "conv1" else "1", *leaf])
        out[key] = tensor
    return out


def of_openai(clip: State) -> State:
    """By the names of CLIP's visual tower, where the last matrix is transposed and has no bias."""
    names = {
        "cls_token": "class_embedding", "pos_embed": "positional_embedding", "head.weight": "proj",
        "patch_embed.proj.": "conv1.", "norm_pre.": "ln_pre.", "norm.": "ln_post.", "blocks.": "transformer.resblocks.",
        ".norm1.": ".ln_1.", ".norm2.": ".ln_2.", ".qkv.": ".in_proj_", "attn.proj.": "attn.out_proj.",
        ".fc1.": ".c_fc.", ".fc2.": ".c_proj.",
    }  # fmt: skip
    shaped = {"cls_token": lambda t: t[0, 0], "pos_embed": lambda t: t[0], "head.weight": lambda t: t.t().contiguous()}
    out = {}
    for key, tensor in clip.items():
        theirs = key
        for ours, name in names.items():
            theirs = theirs.replace(ours, name) if ours.startswith((".", "attn")) else re.sub(f"^{ours}", name, theirs)
        if key != "head.bias":
            out[theirs] = shaped.get(key, lambda t: t)(tensor)
    return out


# An architecture's rule for keys -> its network's tensors, as its source names them.
NAMED: dict[str, Callable[[nn.Module], State]] = {
    "swin": as_before_timm_0_9,
    "convstem": with_conv_stem,
    "raresnet": of_peng,
    "openai_clip": lambda model: of_openai(model.state_dict()),
    **dict.fromkeys(("same", "in_order", "vgg"), lambda model: dict(model.state_dict())),
}
FROM_TORCHVISION = ("in_order", "vgg")  # whose source is torchvision's network


def original(row: Checkpoint, seed: int = 0) -> nn.Module:
    """The network of a row as its source has it, with random weights, statistics, scales and shifts, in eval mode."""
    if row.network.keys in FROM_TORCHVISION:
        return checkpoints.network(row.architecture, seed)
    torch.manual_seed(seed)
    model = build(row.network.timm, **{"num_classes": row.preprocessing.num_classes, **row.network.arguments}).eval()
    for key, tensor in model.state_dict().items():  # scales and shifts start as ones and zeros, or tiny
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5) if key.endswith(("weight", "var")) else tensor.normal_(0, 0.1)
    for key in getattr(load_registry().keys.get(row.network.keys), "zeros", ()):
        model.state_dict()[key].zero_()
    return model


def file_of(row: Checkpoint, model: nn.Module) -> dict[str, Any]:
    """What torch.save gets of a row whose network is `model`; where a training keeps two networks, the other is 0."""
    state = NAMED[row.network.keys](model)
    other = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
    return WRITERS[row.format.name](state, other, row.preprocessing.mean, row.preprocessing.std)
