"""What a kept network's file and card say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from robust_zoo.registry.rows import Checkpoint, checkpoint_name
from robust_zoo.threat import ThreatModel
from robust_zoo.training.version import code_version


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
        note: For the card: which images are for what.
        chosen: For the card: what was chosen on validation images, from what; a sentence or "".
        tested: For the card: of which images the figures are.
        unmeasured: For the card: why a figure that one may look for is not there; a sentence or "".
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
    metrics: Sequence[dict[str, Any]] = ()
    note: str = ""
    chosen: str = ""
    tested: str = "Test images, which nothing was chosen by"
    unmeasured: str = ""

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
            "classes": [name.encode(errors="backslashreplace").decode() for name in self.classes],  # folders' are bytes
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
