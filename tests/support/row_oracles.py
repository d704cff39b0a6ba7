"""What every field of a row must be, from elsewhere: upstream's table, the bundled files' own headers, the ledger."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

import second_generation

from robust_zoo.files import sha256_of
from robust_zoo.registry.corruptions import Corruptions
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.rows import DATA, Checkpoint
from robust_zoo.threat import parse_eps
from robust_zoo.training.evaluation import entries, report, table_report, tables
from robust_zoo.weights.safetensors_file import read_header

ROOT = Path(__file__).parents[2]
UPSTREAM = {
    row["name"]: row
    for row in csv.DictReader((ROOT / "tests" / "reference" / "salman2020.csv").read_text("utf-8").splitlines())
}
SIZES = {"resnet50_linf_eps4": 204_818_947}  # bytes, where a host tells them; the others show rounded megabytes


@cache
def evidence() -> frozenset[Measurement]:
    """What was measured, of all models."""
    found = set()
    for entry in entries.read_ledger(ROOT / "results"):
        fields = report.measurement(entry)
        found.add(Measurement(**fields | ({"eps": parse_eps(fields["eps"], None)} if "eps" in fields else {})))
    return frozenset(found)


@cache
def corrupted() -> tuple[Corruptions, ...]:
    """The same under corruptions."""
    claimed = (table_report.claim(entry) for entry in tables.read_tables(ROOT / "results"))
    return tuple(Corruptions.parse(row) for row in claimed if row)


def differences(row: Checkpoint) -> list[str]:
    """Fields of a row that are not what its oracle says; all of them are compared."""
    if row.name in second_generation.ROWS:
        return second_generation.differences(row)
    expected = _upstream(row) if row.name in UPSTREAM else _bundled(row.name)
    if expected is None:
        return ["name"]
    found = {
        "collection": row.collection.name, "architecture": row.architecture, "norm": row.norm, "eps": row.eps,
        "file": row.file, "sha256": row.sha256, "size": row.size,
        "converted_sha256": row.converted_sha256, "bundled": row.bundled, "training": row.training,
        "robustbench": row.robustbench, "reported": [(f.value, f.attack) for f in row.reported],
        "clean_accuracy": row.clean_accuracy, "measured": set(row.measured) <= evidence() and len(row.measured),
        "corruptions": [*row.corruptions],
    }  # fmt: skip
    wrong = [field for field in found if not _same(found[field], expected[field])]
    return wrong + ["measured"] * any(m.weights_sha256 != row.sha256 for m in row.measured)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return abs(found - expected) < 1e-12
    return type(found) is type(expected) and found == expected


def _upstream(row: Checkpoint) -> dict[str, Any]:
    told = UPSTREAM[row.name]
    board, figures = second_generation.salman2020(row.name)
    return {
        "collection": "salman2020", "architecture": told["upstream_arch"], "norm": told["norm"],
        "eps": float(told["eps"]) / (255 if told["norm"] == "linf" else 1), "file": told["upstream_file"],
        "sha256": told["sha256"] or None, "size": SIZES.get(row.name), "bundled": False, "training": "",
        "converted_sha256": None,  # until someone online has given `robust-zoo pin`
        "robustbench": board, "reported": [(float(told["imagenet_top1"]), "none"), *figures],
        "clean_accuracy": float(told["imagenet_top1"]), "measured": 0, "corruptions": [],
    }  # fmt: skip


@cache
def _bundled(name: str) -> dict[str, Any] | None:
    path = DATA / f"{name}.safetensors"
    if not path.is_file():
        return None
    header, sha256 = read_header(path), sha256_of(path)
    mine = [m for m in evidence() if m.weights_sha256 == sha256]
    clean = {round(m.accuracy, 2) for m in mine if m.attack == "none" and m.n == 10_000}
    return {
        "collection": "robust_zoo_cifar10", "architecture": header["architecture"], "norm": header["norm"],
        "eps": float(header["eps"]), "file": path.name, "sha256": sha256, "size": path.stat().st_size, "bundled": True,
        "converted_sha256": None,
        "training": header["training"].replace("on 1 CPU threads", "on 1 CPU thread"),
        "robustbench": "", "reported": [], "clean_accuracy": clean.pop(), "measured": len(mine),
        "corruptions": [c for c in corrupted() if c.weights_sha256 == sha256],
    }  # fmt: skip
