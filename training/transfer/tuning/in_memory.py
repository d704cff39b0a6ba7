"""A model in memory as a checkpoint: written as a file that says what it is, so that all else is as for any file."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_zoo.architectures.build import build
from robust_zoo.errors import UsageError
from robust_zoo.files import GO_ON, storage
from robust_zoo.normalisation import cfg_of, layers_of
from robust_zoo.pixels import PixelModel
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.views import preprocessing_of
from robust_zoo.weights.exported import checkpoint_of, network_of
from robust_zoo.weights.safetensors_file import write_safetensors

SOURCE = "source.safetensors"


def source_of(name_or_model: str | Path | Checkpoint | nn.Module, out: Path) -> Checkpoint:
    """The checkpoint that a fine-tuning starts from.

    Args:
        name_or_model: As `checkpoint_of` takes it; or a timm model, also behind `pixel_model`.
        out: Where a model's weights are written; made where it is not there.

    Returns:
        The checkpoint; of a model that of its file.

    Raises:
        UnknownCheckpoint: No checkpoint has that name.
        UsageError: The model is none that timm or this package builds under the name that it has.
        StorageError: The disk refuses.
    """
    if not isinstance(name_or_model, nn.Module):
        return checkpoint_of(name_or_model)
    model: Any = name_or_model.model if isinstance(name_or_model, PixelModel) else name_or_model
    model = next(iter(layers_of(model)), model)
    cfg = cfg_of(model)
    if not cfg.get("architecture") or not hasattr(model, "reset_classifier"):
        raise _unknown(name_or_model, "without a pretrained_cfg that names its architecture")
    architecture, state = str(cfg["architecture"]), {name: value.cpu() for name, value in model.state_dict().items()}
    preprocessing = preprocessing_of(cfg, model.num_classes)
    network = network_of(architecture)
    with torch.device("meta"):
        like = build(network.timm, num_classes=model.num_classes, **network.arguments).state_dict()
    if {k: v.shape for k, v in like.items()} != {k: v.shape for k, v in state.items()}:
        raise _unknown(name_or_model, f"other tensors than those of {architecture}")
    header = {
        "name": re.sub(r"[^a-z0-9_.-]+", "_", architecture.lower()),
        "architecture": architecture,
        "dataset": "unknown",
        "norm": "l2",
        "eps": "0.0",
        "licence": str(cfg.get("license") or "unknown"),
        "preprocessing": json.dumps(asdict(preprocessing), sort_keys=True),
        "classes": json.dumps([str(i) for i in range(model.num_classes)]),
        "radii": json.dumps({"usual": {}, "curve": {}}),
        "train_images": "0",
        "training": "a model in memory",
    }
    with storage(out, GO_ON):
        out.mkdir(parents=True, exist_ok=True)
        write_safetensors(out / SOURCE, state, header)
    return checkpoint_of(out / SOURCE)


def _unknown(model: nn.Module, actual: str) -> UsageError:
    return UsageError(
        f"which network is this {type(model).__name__}?",
        expected="a checkpoint's name, a file, or a model of timm.create_model or robust_zoo.create_model",
        actual=actual,
        next='robust_zoo.create_model("ARCHITECTURE", checkpoint_path="FILE")   makes such a model of a file',
    )
