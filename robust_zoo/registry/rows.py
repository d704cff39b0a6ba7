"""What the rows of `checkpoints.toml` are: frozen values, one class for each kind of table. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from robust_zoo.registry.measurement import Measurement
from robust_zoo.threat import ThreatModel

DATA = Path(__file__).parents[1] / "bundled"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")  # Pillow's, as timm calls them
CROP_MODES = ("center", "squash")


@dataclass(frozen=True)
class Architecture:
    """A network.

    Attributes:
        name: As the zoo has it.
        timm: timm's name of its builder.
        torchvision: torchvision's name, "" where it has none.
        keys: The rule from the source's state-dict keys to timm's; see weights/state_dict.py.
        approximate_mb: What a file of it weighs at the source, in MB.
    """

    name: str
    timm: str
    torchvision: str
    keys: str
    approximate_mb: float


@dataclass(frozen=True)
class SourceDataset:
    """A dataset that checkpoints are trained on.

    Attributes:
        name: As the zoo has it.
        title: As the field writes it.
        hub_id: On the Hugging Face hub.
        in_names: Its part of a checkpoint's name, "" for the one that goes without saying.
        train_images: How many there are.
        split: Of which accuracies are, in words: "validation", "test".
        class_names: By label; empty where timm has them.
        timm_classes: timm's name of them, "" where `class_names` has them.
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

    Attributes:
        input_size: (C, H, W).
        interpolation: Of the resizing, one of INTERPOLATIONS.
        crop_pct: The crop over the resized image's shorter side.
        crop_mode: One of CROP_MODES: whether the resizing keeps the image's proportions ("center") or not ("squash").
        mean: One number per channel, of images in [0, 1].
        std: As mean.
        num_classes: Of the head.
    """

    input_size: tuple[int, int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_classes: int

    def __post_init__(self) -> None:
        for word, known in ((self.interpolation, INTERPOLATIONS), (self.crop_mode, CROP_MODES)):
            if word not in known:
                raise ValueError(f"{word!r:.80} is none of {', '.join(known)}")

    @property
    def resize(self) -> int:
        """The shorter side before the crop, rounded down as timm and the authors' code do."""
        return int(self.input_size[-1] / self.crop_pct)


@dataclass(frozen=True)
class Collection:
    """What a family of checkpoints shares: where it is hosted, how it was made, how its images are prepared.

    Attributes:
        name: As the zoo has it.
        title: In sentences.
        paper: "arXiv:NUMBER" or "".
        citation: BibTeX or "".
        dataset: What they were trained on.
        repo: On the Hugging Face hub, "" when the files are not there.
        revision: The commit of `repo` that is pinned.
        mirrors: Base addresses of other copies.
        recipe: A name of [recipe.X], "" where none is known.
        licence: Of the weights.
        origin: A page about them.
        reported_by: Who reported the figures; "" when they were measured here.
        preprocessing: How their images are prepared.
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
class Checkpoint:
    """A named set of weights, and what is known of it. `get(name)` gives one.

    Attributes:
        name: The identifier: `{architecture}_{norm}_eps{eps}`, and more where that is not enough.
        collection: What it shares with its family.
        network: Its architecture.
        threat: What it was trained to withstand.
        file: The file's exact name at its sources (in the package's data folder when `bundled`).
        clean_accuracy: Top-1 in percent on the dataset's test (ImageNet: validation) images; None for a file of a
            user's own that was not measured yet.
        sha256: Of that file, None when only the hub declares one.
        size: Its bytes, None when unknown.
        converted_sha256: Of the safetensors file that it converts to, None when not known.
        bundled: Whether the file lies on this disk already: in the package, or where `robust-zoo train` put it.
        training: How it was trained, in words, where it was trained here.
        measured: The accuracies measured by this project.
    """

    name: str
    collection: Collection
    network: Architecture
    threat: ThreatModel
    file: str
    clean_accuracy: float | None
    sha256: str | None = None
    size: int | None = None
    converted_sha256: str | None = None
    bundled: bool = False
    training: str = ""
    measured: tuple[Measurement, ...] = ()

    @property
    def architecture(self) -> str:
        """The name of its network."""
        return self.network.name

    @property
    def dataset(self) -> str:
        """The name of the dataset it was trained on."""
        return self.collection.dataset.name

    @property
    def norm(self) -> str:
        """The threat model's: "l2" or "linf"."""
        return self.threat.norm

    @property
    def eps(self) -> float:
        """Radius in [0, 1] image units."""
        return self.threat.eps

    @property
    def recipe(self) -> str:
        """The name of the recipe it was trained by, "" where none is known."""
        return self.collection.recipe

    @property
    def licence(self) -> str:
        """Of the weights."""
        return self.collection.licence

    @property
    def reported_by(self) -> str:
        """Who reported clean_accuracy; "" when it was measured here, with the evidence in `measured`."""
        return self.collection.reported_by

    @property
    def evidence(self) -> str:
        """Where clean_accuracy comes from; a reported and a measured figure never read alike."""
        if self.clean_accuracy is None:
            return "not measured yet"
        if self.reported_by:
            return f"reported by {self.reported_by}"
        return f"measured on {self.measured[0].n:,} images by robust_zoo"

    @property
    def is_own_file(self) -> bool:
        """Whether it is a file of a user's own, whose path is `file`, and no row of the registry."""
        return Path(self.file).is_absolute()

    @property
    def handle(self) -> str:
        """What `create_model` and every command take for it: its name, or the path of a file of one's own."""
        return self.file if self.is_own_file else self.name

    @property
    def preprocessing(self) -> Preprocessing:
        """How its images are prepared."""
        return self.collection.preprocessing

    @property
    def approximate_size(self) -> int:
        """Bytes at the source: exact when `size` is known, else what files of this architecture weigh."""
        return self.size or int(self.network.approximate_mb * 1e6)


def checkpoint_name(architecture: str, dataset: SourceDataset, threat: ThreatModel, variant: str = "") -> str:
    """("resnet18", CIFAR-10, L2 0.5) -> "resnet18_cifar10_l2_eps0_5"; `variant` tells it from others of the same."""
    return "_".join(filter(None, [architecture, dataset.in_names, threat.tag, variant]))
