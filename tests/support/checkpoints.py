"""Files in the format of robustness' train.py, for the tests: synthetic, small, and wrong in chosen ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from robust_zoo.registry.formats import Architecture, KeyTable
from robust_zoo.registry.load import load_registry

ROBUSTNESS = load_registry().formats["robustness"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The registry's architectures as torchvision builds them, which is how upstream's files name their tensors.
TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
    "resnext50_32x4d": torchvision.models.resnext50_32x4d,
    "wide_resnet50_2": torchvision.models.wide_resnet50_2,
    "wide_resnet50_4": lambda: torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [3, 4, 6, 3], width_per_group=256
    ),
    "densenet": torchvision.models.densenet161,
    "mnasnet": torchvision.models.mnasnet1_0,
    "mobilenet": torchvision.models.mobilenet_v2,
    "shufflenet": torchvision.models.shufflenet_v2_x1_0,
    "vgg16_bn": torchvision.models.vgg16_bn,
}


def rule_of(architecture: Architecture) -> str | KeyTable:
    """Its rule from the source's keys to timm's: a name, or the table of that name."""
    return load_registry().keys.get(architecture.keys, architecture.keys)


def network(architecture: str, seed: int = 0) -> nn.Module:
    """torchvision's network with random weights and random BatchNorm statistics, in eval mode."""
    torch.manual_seed(seed)
    model = TORCHVISION[architecture]().eval()
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return model


def robustness_state(state: dict[str, Tensor], *, extra: str = "") -> dict[str, Tensor]:
    """A network's state as DataParallel(AttackerModel(network)) has it; `extra` is a further wrapper's prefix."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    out = {"module.normalizer.new_mean": mean, "module.normalizer.new_std": std}
    out |= {f"module.model.{extra}{k}": v for k, v in state.items()}
    out |= {"module.attacker.normalize.new_mean": mean, "module.attacker.normalize.new_std": std}
    return out | {f"module.attacker.model.{extra}{k}": v for k, v in state.items()}


def checkpoint(state: dict[str, Tensor], **extra: Any) -> dict[str, Any]:
    """The whole dict that train.py saves, with SGD momentum of every weight."""
    momentum = {i: {"momentum_buffer": torch.zeros_like(v)} for i, v in enumerate(state.values())}
    optimizer = {"state": momentum, "param_groups": [{"lr": 0.1, "momentum": 0.9, "params": list(momentum)}]}
    schedule = {"step_size": 30, "gamma": 0.1, "base_lrs": [0.1], "last_epoch": 90}
    model = robustness_state(state)
    return {"model": model, "optimizer": optimizer, "schedule": schedule, "epoch": 90, "amp": None, **extra}


def save(path: Path, architecture: str = "resnet18", *, seed: int = 0) -> nn.Module:
    """Writes a sound checkpoint; returns the network in it."""
    model = network(architecture, seed)
    torch.save(checkpoint(dict(model.state_dict())), path)
    return model
