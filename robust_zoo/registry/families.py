"""What checkpoints share: the dataset they were trained on, how images are prepared, a collection. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robust_zoo.registry.formats import Format
from robust_zoo.threat import ThreatModel

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")  # Pillow's, as timm calls them
CROP_MODES = ("center", "squash")
KINDS = ("classifier", "encoder")


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
        num_classes: Of the head: classes, or the numbers of an encoder's embedding.
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
    """What a family of checkpoints shares: where it is from, how it was made. A row may say otherwise of itself.

    Attributes:
        name: As the zoo has it: first author and year.
        title: In sentences.
        paper: "arXiv:NUMBER" or "".
        citation: BibTeX or "".
        dataset: What they were trained on.
        in_names: Its part of a checkpoint's name, "" for the one that goes without saying.
        sources: Where a row's file is, as registry/places.py has it, with {file} for its name.
        format: How their files are laid out.
        recipe: A name of [recipe.X], "" where none is known.
        licence: Of the weights; "unknown" is a value: they are loaded from their authors' host and never passed on.
        licence_from: Who says so.
        origin: A page about them.
        preprocessing: How their images are prepared.
        kind: One of KINDS. An encoder gives an embedding: `preprocessing.num_classes` numbers, and no classes.
    """

    name: str
    title: str
    paper: str
    citation: str
    dataset: SourceDataset
    in_names: str
    sources: tuple[str, ...]
    format: Format
    recipe: str
    licence: str
    licence_from: str
    origin: str
    preprocessing: Preprocessing
    kind: str = "classifier"
