"""checkpoints.toml -> rows, read once. A row that names what has no row of its own fails here. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from robust_zoo.errors import Refused, UsageError, ZooError, closest
from robust_zoo.files import is_sha256
from robust_zoo.readers import SMALL, read_toml
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.rows import Architecture, Checkpoint, Collection, Preprocessing, SourceDataset
from robust_zoo.threat import NORMS, ThreatModel, is_fraction, norm_of, parse_eps

TOML = Path(__file__).with_name("checkpoints.toml")
KEY_RULES = ("same", "in_order", "vgg")  # what `keys` of an architecture may be; see weights/state_dict.py


@dataclass(frozen=True)
class Registry:
    """All rows by name, in the file's order.

    Attributes:
        datasets: What checkpoints are trained on.
        architectures: The networks.
        recipes: Fields of training.recipes.Recipe, and a `note`.
        collections: What families of checkpoints share.
        checkpoints: The sets of weights.
    """

    datasets: Mapping[str, SourceDataset]
    architectures: Mapping[str, Architecture]
    recipes: Mapping[str, Mapping[str, Any]]
    collections: Mapping[str, Collection]
    checkpoints: Mapping[str, Checkpoint]


@cache
def load_registry() -> Registry:
    """The rows of the package.

    Returns:
        The registry, the same object every time.

    Raises:
        Refused: The file is damaged.
    """
    try:
        return parse(read_toml(TOML, limit=SMALL))
    except ValueError as error:  # not TOML, not UTF-8
        raise _damaged(error) from None


def parse(data: dict[str, Any]) -> Registry:
    """The tables of a checkpoints.toml as rows.

    Args:
        data: What tomllib made of the file.

    Returns:
        The registry.

    Raises:
        Refused: They are no rows, or one names what has no row of its own.
    """
    try:
        return _parse(data)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise _damaged(error) from None


def _parse(data: dict[str, Any]) -> Registry:
    datasets = {name: _dataset(name, row) for name, row in data["dataset"].items()}
    architectures = {name: _architecture(name, row) for name, row in data["architecture"].items()}
    recipes = {name: MappingProxyType(row) for name, row in data["recipe"].items()}
    collections = {name: _collection(name, row, datasets, recipes) for name, row in data["collection"].items()}
    checkpoints = {row["name"]: _checkpoint(row, architectures, collections) for row in data["checkpoint"]}
    tables: list[Mapping[str, Any]] = [datasets, architectures, recipes, collections, checkpoints]
    return Registry(*(MappingProxyType(table) for table in tables))


def _row(table: Mapping[str, Any], kind: str, name: str, of: str) -> Any:
    """The row that another one names. Raises ValueError where there is none."""
    if name not in table:
        raise ValueError(
            f"{of} names the {kind} {name!r}, which has no row; closest: {', '.join(closest(name, table))}"
        )
    return table[name]


def _dataset(name: str, row: dict[str, Any]) -> SourceDataset:
    eps = {norm: parse_eps(value, norm) for norm, value in row["usual_eps"].items()}
    curve = {norm: tuple(parse_eps(value, norm) for value in values) for norm, values in row["curve_eps"].items()}
    for table in (eps, curve):
        if table.keys() != NORMS.keys():
            raise ValueError(f"dataset.{name} has radii for {sorted(table)}, not for each of {sorted(NORMS)}")
    fixed: dict[str, Any] = {"class_names": tuple(row["class_names"]), "usual_eps": eps, "curve_eps": curve}
    return SourceDataset(name, **row | fixed)


def _architecture(name: str, row: dict[str, Any]) -> Architecture:
    if row["keys"] not in KEY_RULES:
        raise ValueError(f"architecture.{name}: keys {row['keys']!r} is not one of {', '.join(KEY_RULES)}")
    return Architecture(name, **row)


def _collection(
    name: str, row: dict[str, Any], datasets: Mapping[str, SourceDataset], recipes: Mapping[str, Any]
) -> Collection:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row["preprocessing"].items()}
    if row["recipe"]:
        _row(recipes, "recipe", row["recipe"], f"collection.{name}")
    fixed: dict[str, Any] = {
        "dataset": _row(datasets, "dataset", row["dataset"], f"collection.{name}"),
        "mirrors": tuple(row["mirrors"]),
        "preprocessing": Preprocessing(**values),
    }
    return Collection(name, **row | fixed)


def _checkpoint(
    row: dict[str, Any], architectures: Mapping[str, Architecture], collections: Mapping[str, Collection]
) -> Checkpoint:
    values, name = dict(row), row["name"]
    for key in ("sha256", "converted_sha256"):
        if key in values and not is_sha256(values[key]):
            raise ValueError(f"{name}: {key} is not 64 hexadecimal digits")
    return Checkpoint(
        network=_row(architectures, "architecture", values.pop("architecture"), name),
        collection=_row(collections, "collection", values.pop("collection"), name),
        threat=_threat(name, values.pop("norm"), values.pop("eps")),
        measured=tuple(_measurement(name, m) for m in values.pop("measured", ())),
        **values,
    )


def _threat(name: str, norm: str, eps: float | str) -> ThreatModel:
    if norm_of(norm).unit > 1 and eps and not is_fraction(eps):
        raise UsageError(f"{name}: an eps of {norm} is written as a fraction", expected='"4/255"', actual=repr(eps))
    return ThreatModel(norm, parse_eps(eps, None))


def _measurement(name: str, row: dict[str, Any]) -> Measurement:
    attacked = "norm" in row or "eps" in row
    return Measurement(**row | ({"eps": _threat(name, row["norm"], row["eps"]).eps} if attacked else {}))


def _damaged(error: Exception) -> ZooError:
    return Refused(
        "the registry cannot be read",
        model=TOML.name,
        source=str(TOML),
        expected="rows as registry/rows.py has them",
        actual=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        next="pip install --force-reinstall robust-zoo",
    )
