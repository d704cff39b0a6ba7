"""The files of every format that the registry knows, written by hand as their authors' code writes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import checkpoints
import torch
from torch import Tensor, nn

State = dict[str, Tensor]
Writer = Callable[[State, State, Any, Any], dict[str, Any]]


def under(prefix: str, state: State) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def _momentum(state: State, *moments: str) -> dict[str, Any]:
    """An optimizer's state dict."""
    kept = {
        i: {name: torch.zeros_like(v) for name in moments}
        for i, v in enumerate(state.values())
        if v.is_floating_point()
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
