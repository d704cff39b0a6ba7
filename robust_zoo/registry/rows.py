"""What a row of `checkpoints.toml` is: a checkpoint, a frozen value. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from robust_zoo.registry.corruptions import Corruptions
from robust_zoo.registry.families import Collection, Preprocessing, SourceDataset
from robust_zoo.registry.fingerprint import Fingerprint
from robust_zoo.registry.formats import Architecture, Format
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.places import Place
from robust_zoo.registry.published import Published
from robust_zoo.registry.reported import Reported
from robust_zoo.threat import ThreatModel

DATA = Path(__file__).parents[1] / "bundled"


@dataclass(frozen=True)
class Checkpoint:
    """A named set of weights, and what is known of it. `get(name)` gives one.

    Attributes:
        name: The identifier: `checkpoint_name` of the row.
        collection: What it shares with its family.
        network: Its architecture.
        threat: What it was trained to withstand.
        file: The file's exact name at its sources (in the package's data folder when `bundled`).
        sources: Where it is, in the order in which they are asked.
        format: How it is laid out.
        preprocessing: How its images are prepared.
        licence: Of the weights.
        licence_from: Who says so.
        sha256: Of that file, None when only the hub declares one, or nobody.
        sha256_from: Who says so, "" where it was computed from the file itself.
        size: Its bytes, None when unknown.
        converted_sha256: Of the safetensors file that it converts to, None when not known.
        published: Where that file is published, None where it is not.
        robustbench: Its id at RobustBench, "" where it has none.
        variant: What tells it from others of the same architecture, collection and threat.
        note: What else its user should know, in a sentence.
        bundled: Whether the file lies on this disk already: in the package, or where `robust-zoo train` put it.
        training: How it was trained, in words, where it was trained here.
        tuned_from: The name of the checkpoint that it was fine-tuned or transferred from, "" for none.
        reported: The accuracies reported by others.
        measured: The accuracies measured by this project.
        corruptions: The same under corruptions.
        fingerprint: What its network says of the bundled images; None where its behaviour was not verified yet.
    """

    name: str
    collection: Collection
    network: Architecture
    threat: ThreatModel
    file: str
    sources: tuple[Place, ...]
    format: Format
    preprocessing: Preprocessing
    licence: str
    licence_from: str = ""
    sha256: str | None = None
    sha256_from: str = ""
    size: int | None = None
    converted_sha256: str | None = None
    published: Published | None = None
    robustbench: str = ""
    variant: str = ""
    note: str = ""
    bundled: bool = False
    training: str = ""
    tuned_from: str = ""
    reported: tuple[Reported, ...] = ()
    measured: tuple[Measurement, ...] = ()
    corruptions: tuple[Corruptions, ...] = ()
    fingerprint: Fingerprint | None = None

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
    def clean(self) -> Measurement | Reported | None:
        """Its clean accuracy on the dataset's test (ImageNet: validation) images, measured here before reported."""
        figures: tuple[Measurement | Reported, ...] = (*self.measured, *self.reported)
        return next((figure for figure in figures if figure.attack == "none"), None)

    @property
    def clean_accuracy(self) -> float | None:
        """Top-1 in percent of `clean`; None for a file of a user's own that was not measured yet."""
        if isinstance(self.clean, Measurement):
            return round(self.clean.accuracy, 2)
        return self.clean.value if self.clean else None

    @property
    def reported_by(self) -> str:
        """Who reported clean_accuracy; "" when it was measured here, with the evidence in `measured`."""
        return self.clean.by if isinstance(self.clean, Reported) else ""

    @property
    def evidence(self) -> str:
        """Where clean_accuracy comes from; a reported and a measured figure never read alike."""
        if self.is_encoder:
            return "none: an encoder gives embeddings, no classes"
        if self.clean is None:
            return "not measured yet"
        if self.reported_by:
            return f"reported by {self.reported_by}"
        return f"measured on {self.clean.n:,} images by robust_zoo"

    @property
    def timm_cfg(self) -> dict[str, Any]:
        """Its part of timm's `pretrained_cfg`: preprocessing, threat, licence, origin; the rest is its network's."""
        return asdict(self.preprocessing) | {
            "tag": self.threat.tag,
            "license": self.licence,
            "origin_url": self.collection.origin,
            "paper_ids": self.collection.paper,
        }

    @property
    def hub(self) -> Place | None:
        """Its place on the Hugging Face hub."""
        return next((place for place in self.sources if place.kind == "hub"), None)

    @property
    def has_public_hash(self) -> bool:
        """Whether a hash is public: of its file, or of what that converts to; in the registry, or by the hub."""
        return bool(self.sha256 or self.converted_sha256 or self.hub)

    @property
    def can_be_proven(self) -> bool:
        """Whether its weights are in the package, or a hash of them is public."""
        return self.bundled or self.has_public_hash

    @property
    def may_be_passed_on(self) -> bool:
        """Whether a licence is known: without one its weights are loaded, and never bundled or published."""
        return self.licence.lower() not in ("", "unknown")

    @property
    def is_encoder(self) -> bool:
        """Whether its network gives embeddings, which have no classes and no accuracy of their own."""
        return self.collection.kind == "encoder"

    @property
    def gives(self) -> str:
        """What its network gives, in a word."""
        return "embeddings" if self.is_encoder else "logits"

    @property
    def is_own_file(self) -> bool:
        """Whether it is a file of a user's own, whose path is `file`, and no row of the registry."""
        return Path(self.file).is_absolute()

    @property
    def handle(self) -> str:
        """What `create_model` and every command take for it: its name, or the path of a file of one's own."""
        return self.file if self.is_own_file else self.name

    @property
    def hashes(self) -> frozenset[str]:
        """The sha256 that its file may have: the row's, and those of sources with a file of their own."""
        return frozenset(filter(None, (self.sha256, *(place.sha256 for place in self.sources))))

    @property
    def download_size(self) -> int:
        """Bytes that are fetched: of the published file, else `approximate_size`."""
        return self.published.size if self.published else self.approximate_size

    @property
    def approximate_size(self) -> int:
        """Bytes at the source: exact when `size` is known, else what such a file of this architecture weighs."""
        return self.size or int(4 * self.network.parameters * self.format.copies)

    def as_published(self, published: Published) -> Checkpoint:
        """The same checkpoint, published: the file there is what its own converts to (where bundled: its own).

        Args:
            published: Where and what.

        Returns:
            The checkpoint, with that file's sha256 as its `converted_sha256`.

        Raises:
            ValueError: It must not be published, or is another file.
        """
        known = self.sha256 if self.bundled else self.converted_sha256
        if not self.may_be_passed_on:
            raise ValueError(f"{self.name} is published, and under which licence is not known")
        if known not in (None, published.sha256):
            raise ValueError(f"{self.name} is published with sha256 {published.sha256}, and its row says {known}")
        if self.bundled:
            return replace(self, published=published)
        if not published.header:
            raise ValueError(f"{self.name} is published without the digest of its header")
        return replace(self, published=published, converted_sha256=published.sha256)


def checkpoint_name(
    architecture: str, dataset: SourceDataset, threat: ThreatModel, *, collection: str = "", variant: str = ""
) -> str:
    """What a checkpoint is called, as a function of its row.

    Args:
        architecture: The architecture's `label`.
        dataset: What it was trained on.
        threat: What it was trained to withstand.
        collection: The collection's `in_names`.
        variant: What tells it from others of the same.

    Returns:
        ("resnet18", CIFAR-10, L2 0.5) -> "resnet18_cifar10_l2_eps0_5".
    """
    return "_".join(filter(None, [architecture, collection, dataset.in_names, variant, threat.tag]))
