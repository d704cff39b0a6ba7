"""A file that robust-zoo wrote, as a checkpoint: it says all that a row holds. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from robust_zoo.errors import UnknownCheckpoint, UsageError, cannot_read, missing_file
from robust_zoo.files import sha256_of
from robust_zoo.names import is_name
from robust_zoo.readers import read_json
from robust_zoo.registry.families import Collection, Preprocessing, SourceDataset
from robust_zoo.registry.formats import Architecture
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import canonical_name, get, get_architecture, get_dataset
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.threat import ThreatModel
from robust_zoo.weights.safetensors_file import read_table

_WEIGHTS = {".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".bin"}  # endings: no checkpoint's name has one
# What a header needs beside the name -> the option of robust-zoo convert that says it.
_NEEDED = {
    "architecture": "--architecture ARCHITECTURE",
    "dataset": "--dataset DATASET",
    "norm": "--norm NORM",
    "eps": "--eps EPS",
    "mean": "--mean R,G,B",
    "std": "--std R,G,B",
}


def network_of(architecture: str) -> Architecture:
    """The registry's architecture of that name, else one of timm's or of robust_zoo.architectures.build."""
    try:
        return get_architecture(architecture)
    except UnknownCheckpoint:
        if not is_name(architecture):  # timm would take "hf-hub:..." and "local-dir:..." for what to fetch and read
            raise
        return Architecture(architecture, architecture, "", "same", 0, architecture)


def checkpoint_of(name: str | Path | Checkpoint) -> Checkpoint:
    """A checkpoint of the registry, or of a file of one's own: what every command and function takes.

    Args:
        name: A name in any spelling that `get` accepts; the path of a safetensors file that `robust-zoo train` or
            `robust-zoo convert` wrote; or a checkpoint, which comes back as it is. A file is taken before a name.

    Returns:
        The checkpoint.

    Raises:
        UnknownCheckpoint: No checkpoint or file of that name.
        UsageError: The file is none of ours.
        Refused: A damaged file.
    """
    if isinstance(name, Checkpoint):
        return name
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" and path.is_file():
        return exported(path)
    if isinstance(name, str) and canonical_name(name) in load_registry().checkpoints:
        return get(name)
    if path.suffix.lower() not in _WEIGHTS:
        return get(str(name))
    expected = "a file that robust-zoo wrote, or a checkpoint's name"
    if not path.is_file():
        next = "give the path of a file that is there; robust-zoo list shows the names"
        raise missing_file(path, expected, next, error=UnknownCheckpoint)
    raise UsageError(
        f"{path.name} does not say what it is",
        source=str(path),
        expected=expected,
        actual="a file of another kind",
        next=f"robust-zoo convert {path} -a ARCHITECTURE --dataset DATASET --norm NORM --eps EPS -o mine.safetensors",
    )


def exported(path: Path) -> Checkpoint:
    """The checkpoint of a file that `robust-zoo train` or `convert` wrote; it can be evaluated and transferred.

    Args:
        path: Of the safetensors file.

    Returns:
        The checkpoint, `bundled`, with the collection "custom".

    Raises:
        UsageError: A file that does not say how it was made.
        Refused: A damaged file, or no safetensors file.
        OSError: The file cannot be read.
    """
    table, sha256 = read_table(path), sha256_of(path)
    header = table.get("__metadata__", {})
    whole = "preprocessing" in header  # robust-zoo train wrote it
    if missing := [option for key, option in _NEEDED.items() if key not in header and not whole]:
        raise cannot_read(
            f"what {path.name} is",
            path,
            "a file that robust-zoo train wrote, or convert with all it was asked for",
            f"not said: {', '.join(key for key in _NEEDED if key not in header)}",
            f"robust-zoo convert {path} {' '.join(missing)} -o mine.safetensors",
        )
    try:
        if not is_name(header["name"]):
            raise ValueError(f"the name {header['name']!r}")
        preprocessing, network = preprocessing_of(header), network_of(header["architecture"])
        if not network.parameters:  # no row counts them
            network = replace(network, parameters=_parameters(table))
        measured = [Measurement(weights_sha256=sha256, **m) for m in read_json(header.get("metrics", "[]"), list)]
        clean, attacked = ([m for m in measured if bool(m.threat) == under] for under in (False, True))
        home = Collection(
            name="custom",
            title=header.get("training", ""),
            paper="",
            citation="",
            dataset=_dataset_of(header, preprocessing),
            in_names="",
            sources=(),
            format=load_registry().formats["bare"],
            recipe="custom",
            licence=header.get("licence", "unknown"),
            licence_from="",
            origin=str(path),
            preprocessing=preprocessing,
        )
        return Checkpoint(
            name=header["name"],
            collection=home,
            network=network,
            threat=ThreatModel(header["norm"], float(header["eps"])),
            file=str(path.absolute()),
            sources=(),
            format=home.format,
            preprocessing=preprocessing,
            licence=home.licence,
            sha256=sha256,
            note=header.get("note", ""),
            size=path.stat().st_size,
            bundled=True,
            training=header.get("training", ""),
            tuned_from=str(read_json(header.get("source", "{}")).get("name", "")),
            measured=(*clean, *attacked),
        )
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        others = f'robust_zoo.create_model(ARCHITECTURE, checkpoint_path="{path}")   loads files of others'
        expected = "a file that robust-zoo wrote"
        raise cannot_read(f"how {path.name} was made", path, expected, error, others) from None


def _parameters(table: Mapping[str, Mapping[str, Any]]) -> int:
    """How many the tensors of a header hold: all floats but for BatchNorm's statistics."""
    weights = (row for name, row in table.items() if name != "__metadata__" and ".running_" not in name)
    return sum(math.prod(row["shape"]) for row in weights if row["dtype"].startswith(("F", "BF")))


def _dataset_of(header: Mapping[str, str], preprocessing: Preprocessing) -> SourceDataset:
    """The registry's dataset of that name; of a file with classes of its own, as fine-tuning writes it, these.

    Raises ValueError, KeyError or TypeError for a header that makes no sense.
    """
    if "classes" not in header:
        return get_dataset(header["dataset"])
    names: list[Any] = read_json(header["classes"], list)
    radii: dict[str, Any] = read_json(header["radii"])
    if not is_name(header["dataset"]) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"the dataset {header['dataset']!r} of the classes {names!r:.80}")
    if len(names) != preprocessing.num_classes:
        raise ValueError(f"{len(names)} names of {preprocessing.num_classes} classes")
    usual = {norm: ThreatModel(norm, eps).eps for norm, eps in radii["usual"].items()}
    curve = {norm: tuple(ThreatModel(norm, eps).eps for eps in found) for norm, found in radii["curve"].items()}
    return SourceDataset(
        name=header["dataset"],
        title=header["dataset"],
        hub_id="",
        in_names=header["dataset"],
        train_images=int(header["train_images"]),
        split="test",
        class_names=tuple(names),
        timm_classes="",
        usual_eps=usual,
        curve_eps=curve,
    )


def preprocessing_of(header: Mapping[str, str]) -> Preprocessing:
    """How images are prepared, as the header of a file that was trained or converted here says it.

    Args:
        header: The metadata of a safetensors file.

    Returns:
        The preprocessing, checked.

    Raises:
        KeyError: It is not said.
        ValueError, TypeError: It makes no sense.
    """
    if "preprocessing" in header:
        values: dict[str, Any] = read_json(header["preprocessing"])
    else:
        told: dict[str, Any] = {key: read_json(header[key], list) for key in ("mean", "std", "input_size")}
        told |= {"num_classes": int(header["num_classes"]), "crop_pct": float(header["crop_pct"])}
        values = told | {"interpolation": header["interpolation"], "crop_mode": header["crop_mode"]}
    found = Preprocessing(**values | {k: tuple(v) for k, v in values.items() if isinstance(v, list)})
    numbers = (*found.mean, *found.std, found.crop_pct)
    sound = (
        all(type(n) is int and 0 < n < 100_000 for n in found.input_size)
        and len(found.input_size) == len(found.mean) == len(found.std) == 3
        and all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
        and min(*found.std, found.crop_pct) > 0
        and type(found.num_classes) is int
    )
    if not sound:
        raise ValueError(f"preprocessing that makes no sense: {values}")
    return found
