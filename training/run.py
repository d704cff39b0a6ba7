"""One training from a name to an exported row: recipe -> loop -> measured -> safetensors + row."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from robust_zoo import architectures
from robust_zoo.errors import UsageError
from robust_zoo.normalize import PixelModel
from robust_zoo.registry import get
from robust_zoo.training.data import load_npz
from robust_zoo.training.export import code_version, export
from robust_zoo.training.loop import has_native_bf16, train
from robust_zoo.training.recipes import recipe_for


def run(name: str, data: Path, out: Path, *, precision: str = "auto") -> Path:
    """Trains the checkpoint `name` by its recipe, measures it and exports it; returns the weights' path.

    data: an .npz with x_train, y_train, x_test, y_test (see training.data.load_npz).
    out: the run's directory; a run that was cut off goes on from its last whole epoch.
    precision: "fp32", "bf16", or "auto" (bf16 where the CPU multiplies it natively).

    Raises UsageError for datasets that do not fit into memory this way.
    """
    checkpoint = get(name)
    if checkpoint.dataset != "cifar10":
        raise UsageError(
            f"{checkpoint.name} is trained on {checkpoint.dataset}, which this version cannot read",
            model=checkpoint.name,
            expected="a checkpoint of a dataset held in memory (cifar10)",
            actual=checkpoint.dataset,
            next="robust-zoo list --dataset cifar10",
        )
    recipe, preprocessing = recipe_for(checkpoint), checkpoint.preprocessing
    torch.manual_seed(recipe.seed)
    network = architectures.build(checkpoint.network.timm, num_classes=preprocessing.num_classes)
    train_data, test_data = load_npz(data, "train"), load_npz(data, "test")
    bf16 = has_native_bf16() if precision == "auto" else precision == "bf16"
    pixels = PixelModel(network, preprocessing.mean, preprocessing.std)
    train(pixels, recipe, train_data, out, bf16=bf16)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    hours = sum(entry["seconds"] for entry in log) / 3600
    how = (
        f"{recipe.epochs} epochs on {len(train_data):,} {checkpoint.dataset} training images, {hours:.2f} hours on "
        f"{torch.get_num_threads()} CPU threads in {'bf16 autocast' if bf16 else 'fp32'}, {code_version()}"
    )
    network.to(memory_format=torch.contiguous_format)
    return export(network, checkpoint, recipe, train_data, test_data, out, how=how)
