"""A model that robust-zoo train made, as a checkpoint: its file says all that a row holds. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robust_zoo.errors import UnknownCheckpoint, cannot_read
from robust_zoo.files import sha256_of
from robust_zoo.names import is_name
from robust_zoo.readers import read_json
from robust_zoo.registry.lookup import get_architecture, get_dataset
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.rows import Architecture, Checkpoint, Collection, Preprocessing
from robust_zoo.threat import ThreatModel
from robust_zoo.weights.safetensors_file import read_header


def network_of(architecture: str) -> Architecture:
    """The registry's architecture of that name, else one of timm's or of robust_zoo.architectures.build."""
    try:
        return get_architecture(architecture)
    except UnknownCheckpoint:
        if not is_name(architecture):  # timm would take "hf-hub:..." and "local-dir:..." for what to fetch and read
            raise
        return Architecture(architecture, architecture, "", "same", 0.0)


def exported(path: Path) -> Checkpoint:
    """The checkpoint of a file that `robust-zoo train` wrote; it can be evaluated and transferred.

    Args:
        path: Of the safetensors file.

    Returns:
        The checkpoint, `bundled`, with the collection "custom".

    Raises:
        UsageError: A file that does not say how it was made.
        Refused: A damaged file, or no safetensors file.
        OSError: The file cannot be read.
    """
    header, sha256 = read_header(path), sha256_of(path)
    try:
        if not is_name(header["name"]):
            raise ValueError(f"the name {header['name']!r}")
        values: dict[str, Any] = read_json(header["preprocessing"])
        preprocessing = Preprocessing(**values | {k: tuple(v) for k, v in values.items() if isinstance(v, list)})
        measured = tuple(Measurement(weights_sha256=sha256, **m) for m in read_json(header["metrics"], list))
        home = Collection(
            name="custom",
            title=header["training"],
            paper="",
            citation="",
            dataset=get_dataset(header["dataset"]),
            repo="",
            revision="",
            mirrors=(),
            recipe="custom",
            licence=header["licence"],
            origin=str(path),
            reported_by="",
            preprocessing=preprocessing,
        )
        return Checkpoint(
            name=header["name"],
            collection=home,
            network=network_of(header["architecture"]),
            threat=ThreatModel(header["norm"], float(header["eps"])),
            file=str(path.absolute()),
            clean_accuracy=measured[0].accuracy,
            sha256=sha256,
            size=path.stat().st_size,
            bundled=True,
            training=header["training"],
            measured=measured,
        )
    except (KeyError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        others = f'robust_zoo.create_model(ARCHITECTURE, checkpoint_path="{path}")   loads files of others'
        expected = "a file that robust-zoo train wrote"
        raise cannot_read(f"how {path.name} was made", path, expected, error, others) from None
