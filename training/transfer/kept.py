"""A transferred network as files: its weights, which say all that a row holds; config.json, by which timm loads it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from robust_zoo.architectures.config import config_of, in_repository
from robust_zoo.files import GO_ON, replace_file, storage
from robust_zoo.registry.published import FILE
from robust_zoo.registry.rows import Checkpoint, checkpoint_name
from robust_zoo.threat import ThreatModel
from robust_zoo.training.version import code_version
from robust_zoo.weights.exported import exported
from robust_zoo.weights.safetensors_file import write_safetensors


@dataclass(frozen=True)
class About:
    """What a kept network's file says of it.

    Attributes:
        source: What it was made of.
        source_sha256: Of those weights.
        dataset: What its images are called.
        classes: Their names, by label.
        train_images: How many it was trained on.
        data_sha256: Of all images, split by split.
        variant: How it was made, in a word of its name.
        threat: What it was trained to withstand; eps 0 for nothing.
        training: How it was made, in words.
        recipe: The same as JSON values.
        metrics: What was measured of it, the fields of Measurements but for the weights' hash.
    """

    source: Checkpoint
    source_sha256: str
    dataset: str
    classes: Sequence[str]
    train_images: int
    data_sha256: str
    variant: str
    threat: ThreatModel
    training: str
    recipe: dict[str, Any]
    metrics: Sequence[dict[str, Any]] = field(default=())

    @property
    def dataset_name(self) -> str:
        """The images' name, in letters that names have."""
        return re.sub(r"[^a-z0-9]+", "_", self.dataset.lower()).strip("_")[:60] or "images"

    @property
    def name(self) -> str:
        """What the network is called."""
        home = replace(self.source.collection.dataset, in_names=self.dataset_name)
        return checkpoint_name(self.source.network.label, home, self.threat, variant=self.variant.replace("-", "_"))

    @property
    def header(self) -> dict[str, str]:
        """Of the weights' file: nothing in it depends on when or where it was made."""
        home = self.source.collection.dataset
        preprocessing = replace(self.source.preprocessing, num_classes=len(self.classes))
        radii = {"usual": dict(home.usual_eps), "curve": {norm: list(found) for norm, found in home.curve_eps.items()}}
        tables = {
            "preprocessing": asdict(preprocessing),
            "classes": list(self.classes),
            "radii": radii,
            "source": {"name": self.source.name, "sha256": self.source_sha256},
            "recipe": self.recipe,
            "metrics": list(self.metrics),
        }
        return {
            "name": self.name,
            "architecture": self.source.architecture,
            "dataset": self.dataset_name,
            "norm": self.threat.norm,
            "eps": repr(self.threat.eps),
            "licence": self.source.licence,
            "training_data_sha256": self.data_sha256,
            "train_images": str(self.train_images),
            "training": self.training,
            "code": code_version(),
            **{key: json.dumps(value, sort_keys=True) for key, value in tables.items()},
        }


def keep(folder: Path, network: nn.Module, about: About) -> Checkpoint:
    """Writes ``model.safetensors`` and ``config.json``.

    Args:
        folder: Where; made where it is not there.
        network: Normalised images -> logits, on the CPU; its tensors are written in fp32.
        about: What the file says.

    Returns:
        The checkpoint that the file is.

    Raises:
        StorageError: The disk refuses.
    """
    with storage(folder, GO_ON):
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.float() if v.is_floating_point() else v for k, v in network.state_dict().items()}
        write_safetensors(folder / FILE, state, about.header)
    kept = exported(folder / FILE)
    told = in_repository(kept, "" if about.source.is_own_file else about.source.collection.origin)
    text = json.dumps(config_of(told), indent=2, ensure_ascii=False) + "\n"
    replace_file(folder / "config.json", text.encode(), GO_ON)
    return kept
