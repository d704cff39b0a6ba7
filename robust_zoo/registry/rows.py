"""The rows of `checkpoints.toml` as frozen values. No torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from robust_zoo.errors import Refused, UsageError
from robust_zoo.threat import ThreatModel, is_fraction, parse_eps

DATA = Path(__file__).parents[1] / "bundled"
TOML = Path(__file__).with_name("checkpoints.toml")


@dataclass(frozen=True)
class Architecture:
    """A network: `timm` names its builder, `keys` the rule from the source's state-dict keys to timm's."""

    name: str
    timm: str
    torchvision: str
    keys: str
    approximate_mb: float


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
    """What a family of checkpoints shares: where it is hosted, how it was made, how its images are prepared."""

    name: str
    title: str
    paper: str
    dataset: str
    format: str
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
    def accuracy(self) -> float:
        """In percent."""
        return 100 * self.correct / self.n


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
        return self.collection.dataset

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


@cache
def _file() -> dict[str, Any]:
    try:
        return tomllib.loads(TOML.read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, not UTF-8
        raise _damaged(error) from None


def load_recipes() -> Mapping[str, Mapping[str, Any]]:
    """The named recipes as plain values (fields of training.recipes.Recipe, and a `note`)."""
    return MappingProxyType(_file()["recipe"])


@cache
def load_rows() -> tuple[Mapping[str, Architecture], Mapping[str, Checkpoint]]:
    """All architectures and all checkpoints by name, in the file's order; read once."""
    return parse(_file())


def parse(data: dict[str, Any]) -> tuple[Mapping[str, Architecture], Mapping[str, Checkpoint]]:
    """The tables of a checkpoints.toml as rows. Raises Refused when they are not."""
    try:
        return _parse(data)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise _damaged(error) from None


def _parse(data: dict[str, Any]) -> tuple[Mapping[str, Architecture], Mapping[str, Checkpoint]]:
    architectures = {name: Architecture(name, **row) for name, row in data["architecture"].items()}
    collections = {name: _collection(name, row) for name, row in data["collection"].items()}
    checkpoints = {row["name"]: _checkpoint(row, architectures, collections) for row in data["checkpoint"]}
    return MappingProxyType(architectures), MappingProxyType(checkpoints)


def _collection(name: str, row: dict[str, Any]) -> Collection:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row["preprocessing"].items()}
    fixed: dict[str, Any] = {"mirrors": tuple(row["mirrors"]), "preprocessing": Preprocessing(**values)}
    return Collection(name, **row | fixed)


def _checkpoint(
    row: dict[str, Any], architectures: dict[str, Architecture], collections: dict[str, Collection]
) -> Checkpoint:
    values = dict(row)
    norm, eps = values.pop("norm"), values.pop("eps")
    if norm == "linf" and eps and not is_fraction(eps):
        raise UsageError(f"{row['name']}: an Linf eps is written as a fraction", expected='"4/255"', actual=repr(eps))
    return Checkpoint(
        network=architectures[values.pop("architecture")],
        collection=collections[values.pop("collection")],
        threat=ThreatModel(norm, parse_eps(eps, None)),
        measured=tuple(_measurement(m) for m in values.pop("measured", ())),
        **values,
    )


def _measurement(row: dict[str, Any]) -> Measurement:
    return Measurement(**row | ({"eps": parse_eps(row["eps"], None)} if "eps" in row else {}))


def _damaged(error: Exception) -> Refused:
    return Refused(
        "the registry cannot be read", model=TOML.name, source=str(TOML), expected="rows as registry/rows has them",
        actual=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        next="pip install --force-reinstall robust-zoo",
    )  # fmt: skip
