"""What the rows of `checkpoints.toml` are: frozen values, one class for each kind of table. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from robust_zoo.counts import Count
from robust_zoo.threat import ThreatModel

DATA = Path(__file__).parents[1] / "bundled"


@dataclass(frozen=True)
class Architecture:
    """A network: `timm` names its builder, `keys` the rule from the source's state-dict keys to timm's."""

    name: str
    timm: str
    torchvision: str
    keys: str
    approximate_mb: float


@dataclass(frozen=True)
class SourceDataset:
    """A dataset that checkpoints are trained on.

    Attributes:
        title: As the field writes it.
        hub_id: On the Hugging Face hub.
        in_names: Its part of a checkpoint's name, "" for the one that goes without saying.
        train_images: How many there are.
        split: Of which accuracies are, in words: "validation", "test".
        class_names: By label; empty where timm has them, under the name `timm_classes`.
        usual_eps: Norm -> the radius that the field reports, for models that were trained for none.
        curve_eps: Norm -> the radii of an accuracy curve.
    """

    name: str
    title: str
    hub_id: str
    in_names: str
    train_images: int
    split: str
    class_names: tuple[str, ...]
    timm_classes: str
    usual_eps: Mapping[str, float] = field(hash=False)
    curve_eps: Mapping[str, tuple[float, ...]] = field(hash=False)

    def usual_threat(self, norm: str) -> ThreatModel:
        """What a model without a radius of its own is measured at."""
        return ThreatModel(norm, self.usual_eps[norm])


@dataclass(frozen=True)
class Preprocessing:
    """How images reach the network, in the terms of timm's `pretrained_cfg`.

    input_size: (C, H, W). mean, std: one number a channel, of images in [0, 1].
    """

    input_size: tuple[int, int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_classes: int


@dataclass(frozen=True)
class Collection:
    """What a family of checkpoints shares: where it is hosted, how it was made, how its images are prepared.

    paper: "arXiv:NUMBER" or "". citation: BibTeX or "". recipe: a name of [recipe.X], "" where none is known.
    """

    name: str
    title: str
    paper: str
    citation: str
    dataset: SourceDataset
    repo: str
    revision: str
    mirrors: tuple[str, ...]
    recipe: str
    licence: str
    origin: str
    reported_by: str
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Measurement:
    """One accuracy measured by this project: `correct` of `n` images, with everything needed to repeat it.

    attack: "none" (clean) or e.g. "pgd-20"; norm and eps in [0, 1] units, None for clean.
    """

    attack: str
    correct: int
    n: int
    data: str
    weights_sha256: str
    code: str
    norm: str | None = None
    eps: float | None = None
    settings: str = ""

    @property
    def count(self) -> Count:
        return Count(self.correct, self.n)

    @property
    def accuracy(self) -> float:
        """In percent."""
        return self.count.accuracy


@dataclass(frozen=True)
class Checkpoint:
    """One row: a named set of weights.

    file: the file's exact name at its sources (in the package's data folder when `bundled`).
    sha256: of that file, None when only the hub declares one. size: its bytes, None when unknown.
    clean_accuracy: top-1 in percent on the dataset's test (ImageNet: validation) images.
    reported_by: who reported it; "" when it was measured here, with the evidence in `measured`.
    """

    name: str
    collection: Collection
    network: Architecture
    threat: ThreatModel
    file: str
    clean_accuracy: float
    sha256: str | None = None
    size: int | None = None
    bundled: bool = False
    training: str = ""
    measured: tuple[Measurement, ...] = ()

    @property
    def architecture(self) -> str:
        return self.network.name

    @property
    def dataset(self) -> str:
        """The name of the dataset it was trained on."""
        return self.collection.dataset.name

    @property
    def norm(self) -> str:
        return self.threat.norm

    @property
    def eps(self) -> float:
        """Radius in [0, 1] image units."""
        return self.threat.eps

    @property
    def recipe(self) -> str:
        return self.collection.recipe

    @property
    def licence(self) -> str:
        return self.collection.licence

    @property
    def reported_by(self) -> str:
        return self.collection.reported_by

    @property
    def evidence(self) -> str:
        """Where clean_accuracy comes from; a reported and a measured figure never read alike."""
        if self.reported_by:
            return f"reported by {self.reported_by}"
        return f"measured on {self.measured[0].n:,} images by robust_zoo"

    @property
    def preprocessing(self) -> Preprocessing:
        return self.collection.preprocessing

    @property
    def approximate_size(self) -> int:
        """Bytes at the source: exact when the row knows, else what files of this architecture weigh."""
        return self.size or int(self.network.approximate_mb * 1e6)


def checkpoint_name(architecture: str, dataset: SourceDataset, threat: ThreatModel, variant: str = "") -> str:
    """What a checkpoint is called: ("resnet18", CIFAR-10, L2 0.5) -> "resnet18_cifar10_l2_eps0_5"."""
    return "_".join(filter(None, [architecture, dataset.in_names, threat.tag, variant]))
