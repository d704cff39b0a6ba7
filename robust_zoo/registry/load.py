"""checkpoints.toml, published.toml, measured.json -> rows. What names a row that is not there fails here. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from robust_zoo.errors import Refused, UsageError, ZooError, closest
from robust_zoo.files import is_sha256
from robust_zoo.readers import SMALL, read_json, read_toml
from robust_zoo.registry.corruptions import Corruptions
from robust_zoo.registry.families import KINDS, Collection, Preprocessing, SourceDataset
from robust_zoo.registry.fingerprint import Fingerprint
from robust_zoo.registry.formats import NORMALIZER, Architecture, Format, KeyTable
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.places import Place, place
from robust_zoo.registry.published import Published, rows_of
from robust_zoo.registry.reported import NORM_TITLES, Reported
from robust_zoo.registry.rows import Checkpoint, checkpoint_name
from robust_zoo.threat import NORMS, ThreatModel, is_fraction, norm_of, parse_eps

TOML = Path(__file__).with_name("checkpoints.toml")
PUBLISHED = Path(__file__).with_name("published.toml")  # `robust-zoo publish` prints its rows
MEASURED = Path(__file__).with_name("measured.json")  # `make results` writes it: a name -> its measurements
KEY_RULES = ("same", "in_order")  # what `keys` may be besides a [keys.X]; see weights/key_rules.py


@dataclass(frozen=True)
class Registry:
    """All rows by name, in the file's order.

    Attributes:
        datasets: What checkpoints are trained on.
        keys: Maps from a source's state-dict keys to timm's.
        formats: How files are laid out.
        architectures: The networks.
        recipes: Fields of training.recipes.Recipe, and a `note`.
        collections: What families of checkpoints share.
        checkpoints: The sets of weights.
    """

    datasets: Mapping[str, SourceDataset]
    keys: Mapping[str, KeyTable]
    formats: Mapping[str, Format]
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
        data, published, measured = read_toml(TOML, limit=SMALL), rows_of(PUBLISHED), read_json(MEASURED)
        by_name = {row["name"]: row for row in data["checkpoint"]}
        for key, path, told in (("published", PUBLISHED, published), ("measured", MEASURED, measured)):
            for name, values in told.items():
                _row(by_name, "checkpoint", name, path.name)[key] = values
        return parse(data)
    except (ValueError, KeyError, TypeError) as error:  # not TOML, not JSON, not UTF-8, no rows
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
    keys = {name: _keys(name, row) for name, row in data["keys"].items()}
    formats = {name: _format(name, row) for name, row in data["format"].items()}
    architectures = {name: _architecture(name, row, keys) for name, row in data["architecture"].items()}
    recipes = {name: MappingProxyType(row) for name, row in data["recipe"].items()}
    collections = {name: _collection(name, row, datasets, formats, recipes) for name, row in data["collection"].items()}
    rows = [_checkpoint(row, architectures, formats, collections, data["reporter"]) for row in data["checkpoint"]]
    checkpoints = {row.name: row for row in rows}
    tables: list[Mapping[str, Any]] = [datasets, keys, formats, architectures, recipes, collections, checkpoints]
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


def _lists(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values with tuples for lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def _keys(name: str, row: dict[str, Any]) -> KeyTable:
    """Its patterns are compiled by whoever renames keys: `list` has no use for them."""
    return KeyTable(name, **_lists(row) | {"rename": tuple((old, new) for old, new in row["rename"])})


def _format(name: str, row: dict[str, Any]) -> Format:
    found = Format(name, **_lists(row))
    if found.normalizer not in NORMALIZER:
        raise ValueError(f"format.{name}: normalizer {found.normalizer!r} is not one of {', '.join(NORMALIZER)}")
    if not found.payload or "" in (*found.strip, *found.mean, *found.std) or bool(found.mean) != bool(found.std):
        raise ValueError(f"format.{name}: no payload, an empty name, or a mean without a std")
    return found


def _architecture(name: str, row: dict[str, Any], keys: Mapping[str, KeyTable]) -> Architecture:
    if row["keys"] not in (*KEY_RULES, *keys):
        raise ValueError(f"architecture.{name}: keys {row['keys']!r} is not one of {', '.join((*KEY_RULES, *keys))}")
    plain = {"plain_timm": row["timm"], "plain_arguments": row.get("arguments", {})}
    if "plain_arguments" in row and not row.get("plain_timm"):
        raise ValueError(f"architecture.{name}: plain_arguments of no plain_timm")
    return Architecture(name, **{"label": name, "torchvision": ""} | ({} if "plain_timm" in row else plain) | row)


def _collection(
    name: str,
    row: dict[str, Any],
    datasets: Mapping[str, SourceDataset],
    formats: Mapping[str, Format],
    recipes: Mapping[str, Any],
) -> Collection:
    if row["recipe"]:
        _row(recipes, "recipe", row["recipe"], f"collection.{name}")
    fixed: dict[str, Any] = {
        "dataset": _row(datasets, "dataset", row["dataset"], f"collection.{name}"),
        "format": _row(formats, "format", row["format"], f"collection.{name}"),
        "preprocessing": Preprocessing(**_lists(row["preprocessing"])),
    }
    found = Collection(name, **_lists(row) | fixed)
    if found.kind not in KINDS:
        raise ValueError(f"collection.{name}: kind {found.kind!r} is not one of {', '.join(KINDS)}")
    return found


def _checkpoint(
    row: dict[str, Any],
    architectures: Mapping[str, Architecture],
    formats: Mapping[str, Format],
    collections: Mapping[str, Collection],
    reporters: Mapping[str, Any],
) -> Checkpoint:
    values, name = dict(row), row["name"]
    for key in ("sha256", "converted_sha256"):
        if key in values and not is_sha256(values[key]):
            raise ValueError(f"{name}: {key} is not 64 hexadecimal digits")
    home: Collection = _row(collections, "collection", values.pop("collection"), name)
    network: Architecture = _row(architectures, "architecture", values.pop("architecture"), name)
    threat = _threat(name, values.pop("norm"), values.pop("eps"))
    labels = {"collection": home.in_names, "variant": values.get("variant", "")}
    if name != (usual := checkpoint_name(network.label, home.dataset, threat, **labels)):
        raise ValueError(f"{name}: a row of this kind is called {usual}")
    own, measured = values.pop("preprocessing", {}), values.pop("measured", ())
    behaviour, published = values.pop("fingerprint", None), values.pop("published", None)
    licence = {key: values.pop(key, getattr(home, key)) for key in ("licence", "licence_from")}
    found = Checkpoint(
        collection=home,
        network=network,
        threat=threat,
        sources=tuple(_place(entry, values["file"]) for entry in values.pop("sources", home.sources)),
        format=_row(formats, "format", values.pop("format", home.format.name), name),
        preprocessing=replace(home.preprocessing, **_lists(own)) if own else home.preprocessing,
        reported=tuple(_reported(name, figure, reporters) for figure in values.pop("reported", ())),
        measured=tuple(_measurement(name, m) for m in measured if "table" not in m),
        corruptions=tuple(Corruptions.parse(m) for m in measured if "table" in m),
        fingerprint=None if behaviour is None else Fingerprint.parse(behaviour),
        **licence,
        **values,
    )
    return found if published is None else found.as_published(Published.parse(name, published))


def _place(entry: str | dict[str, str], file: str) -> Place:
    """An address, or one with the hash of a file of its own."""
    row = {"at": entry} if isinstance(entry, str) else entry
    return place(row["at"].replace("{file}", file), row.get("sha256"))


def _reported(name: str, row: dict[str, Any], reporters: Mapping[str, Any]) -> Reported:
    values = {**row, "by": _row(reporters, "reporter", row["by"], name)["title"]}
    values["n"] = row.get("n", reporters[row["by"]].get("n"))
    if ("norm" in row) != ("eps" in row) or ("norm" in row) != ("attack" in row):
        raise ValueError(f"{name}: a reported figure has attack, norm and eps, or none of them")
    if "norm" in row:
        if row["norm"] not in NORM_TITLES:
            raise ValueError(f"{name}: a reported figure in the norm {row['norm']!r}")
        values["eps"] = parse_eps(row["eps"], None)
    return Reported(**values)


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
