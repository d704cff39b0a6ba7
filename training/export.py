"""A trained model -> a safetensors file with its provenance in the header, and the registry row to paste."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_zoo import __version__
from robust_zoo.normalize import PixelModel
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


def measure(model: nn.Module, checkpoint: Checkpoint, data: Images, sha256: str) -> tuple[Measurement, ...]:
    """Clean and PGD-20 accuracy on `data`, at the trained radius (for eps 0: at the norm's usual one)."""
    threat = checkpoint.threat if checkpoint.eps else ThreatModel(checkpoint.norm, _USUAL_EPS[checkpoint.norm])
    pixels = PixelModel(model, checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
    common: dict[str, Any] = {
        "n": len(data),
        "data": f"{checkpoint.dataset} test",
        "weights_sha256": sha256,
        "code": code_version(),
    }
    clean = pgd_accuracy(pixels, data, threat, steps=0, progress="clean accuracy")
    step_size = 2.5 * threat.eps / PGD_STEPS
    robust = pgd_accuracy(
        pixels, data, threat, steps=PGD_STEPS, step_size=step_size, progress=f"PGD-{PGD_STEPS} {threat}"
    )
    return (
        Measurement(attack="none", correct=clean.correct, **common),
        Measurement(
            attack=f"pgd-{PGD_STEPS}",
            correct=robust.correct,
            norm=threat.norm,
            eps=threat.eps,
            settings=f"{PGD_STEPS} steps of 2.5 eps / {PGD_STEPS}, cross-entropy, from the image itself, last iterate",
            **common,
        ),
    )


def row_toml(checkpoint: Checkpoint, path: Path, sha256: str, how: str, measured: tuple[Measurement, ...]) -> str:
    """The row of checkpoints.toml that describes exactly this file."""
    values = {
        "name": checkpoint.name,
        "collection": checkpoint.collection.name,
        "architecture": checkpoint.architecture,
        "norm": checkpoint.norm,
        "eps": _toml_eps(checkpoint.threat),
        "file": path.name,
        "sha256": sha256,
        "size": path.stat().st_size,
        "bundled": True,
        "clean_accuracy": round(measured[0].accuracy, 2),
        "training": how,
    }
    lines = ["[[checkpoint]]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    for m in measured:
        fields = {k: v for k, v in asdict(m).items() if v not in (None, "")}
        if m.norm is not None and m.eps is not None:
            fields["eps"] = _toml_eps(ThreatModel(m.norm, m.eps))
        lines += ["", "[[checkpoint.measured]]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]
    return "\n".join(lines) + "\n"


def _toml_eps(threat: ThreatModel) -> float | str:
    written = written_eps(threat.norm, threat.eps)
    return f"{written}/255" if threat.norm == "linf" and threat.eps else float(written)
