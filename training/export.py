"""A trained model -> a safetensors file with its provenance in the header, and the registry row to paste."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from robust_zoo import __version__
from robust_zoo.rows import Checkpoint, Measurement
from robust_zoo.safetensors_file import write_safetensors
from robust_zoo.threat import ThreatModel, written_eps
from robust_zoo.training.data import Images
from robust_zoo.training.evaluate import pgd_accuracy
from robust_zoo.training.recipes import Recipe

PGD_STEPS = 20
# A standard model is measured at the radius the field reports for CIFAR-10 (RobustBench).
_USUAL_EPS = {"l2": 0.5, "linf": 8 / 255}


def code_version() -> str:
    return f"robust_zoo {__version__}, torch {torch.__version__.split('+')[0]}"


def export(
    model: nn.Module, checkpoint: Checkpoint, recipe: Recipe, train: Images, test: Images, out: Path, *, how: str
) -> Path:
    """Writes `<name>.safetensors` and `row.toml` under `out`; returns the weights' path.

    model: the bare network (not the pixel-space wrapper), on the CPU. how: in words, on what and how long it was
    trained. The accuracies in the row are measured on `test` by the caller's code version (see `measure`).
    """
    header = {
        "name": checkpoint.name,
        "architecture": checkpoint.architecture,
        "dataset": checkpoint.dataset,
        "norm": checkpoint.norm,
        "eps": repr(checkpoint.eps),
        "licence": checkpoint.licence,
        "preprocessing": json.dumps(asdict(checkpoint.preprocessing), sort_keys=True),
        "recipe": json.dumps(asdict(recipe), sort_keys=True),
        "training_data_sha256": train.sha256,
        "code": code_version(),
        "training": how,
    }
    path = out / f"{checkpoint.name}.safetensors"
    sha256 = write_safetensors(path, model.state_dict(), header)
    row = row_toml(checkpoint, path, sha256, how, measure(model, checkpoint, test, sha256))
    (out / "row.toml").write_text(row, encoding="utf-8")
    return path
