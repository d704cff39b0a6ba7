"""Rows whose files lie on hosts that are no hub: added to the registry for a test."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from robust_zoo.registry import load, lookup
from robust_zoo.registry.load import load_registry

DRIVE_ID = "1-4mtxQCkThJUVdS3wvQ6NnmMZuySqR3c"
DRIVE = f"gdrive:{DRIVE_ID}"
FILE = "shufflenet_shares.pt"
ORIGIN = "https://authors.example/shares"


def collection(name: str, **more: object) -> str:
    """A collection of ImageNet models as TOML; `more`: what differs, in its preprocessing too."""
    values = {
        "title": name, "paper": "", "citation": "", "dataset": "imagenet", "in_names": name, "sources": [],
        "format": "bare", "recipe": "", "licence": "unknown", "licence_from": "", "origin": "a test",
    }  # fmt: skip
    prepared = {
        "input_size": [3, 224, 224], "interpolation": "bilinear", "crop_pct": 0.875, "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "num_classes": 1000,
    }  # fmt: skip
    lines = ["", f"[collection.{name}]"]
    for table, heading in ((values, f"[collection.{name}.preprocessing]"), (prepared, "")):
        lines += [*(f"{key} = {json.dumps(more.get(key, value))}" for key, value in table.items()), "", heading]
    return "\n".join(lines)


COLLECTION = collection("shares2026", title="Shares (Sharer 2026)", format="robustness", origin=ORIGIN)


def name_of(variant: str) -> str:
    return f"shufflenet_shares2026_{variant}_linf_eps4"


def row(variant: str, sources: str, **more: object) -> str:
    """A row of TOML; `sources` as it is written there, `more` numbers and texts."""
    values = {
        "name": name_of(variant), "collection": "shares2026", "architecture": "shufflenet", "variant": variant,
        "norm": "linf", "eps": "4/255", "file": FILE,
    }  # fmt: skip
    lines = [f"{key} = {value!r}" for key, value in (values | more).items()]
    return "\n".join(["", "[[checkpoint]]", *lines, f"sources = {sources}", ""]).replace("'", '"')


@contextmanager
def added(directory: Path, *rows: str) -> Iterator[None]:
    """The registry with these rows too."""
    path = directory / "checkpoints.toml"
    text = load.TOML.read_text(encoding="utf-8")
    path.write_text("".join([text, COLLECTION, *rows]), encoding="utf-8")
    with changed("TOML", path):
        yield


@contextmanager
def changed(name: str, value: object) -> Iterator[None]:
    """The registry as it is read with another value of a name in robust_zoo.registry.load."""
    remembered = (load_registry, lookup._robustbench_ids)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(load, name, value)
            for function in remembered:
                function.cache_clear()
            yield
    finally:
        for function in remembered:
            function.cache_clear()
