"""Everything as three tables, packed: as CSV, and as JSON of the same columns; and the page that explains them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robust_zoo.describe import all_of
from robust_zoo.registry.robustness import figures
from robust_zoo.site.pages import Contents, Page, Raw, packed

Record = dict[str, Any]  # a column's name -> text, number, bool or None; nothing nested

_MODELS = {
    "name": "What create_model and every command take.",
    "kind": "classifier; or encoder, which gives embeddings and has no accuracy of its own.",
    "architecture": "The zoo's name of the network.",
    "timm_architecture": "timm's name of it; empty where timm has no such network.",
    "parameters": "How many numbers the network learns.",
    "collection": "First author and year: what it shares with others.",
    "paper": "Of the collection.",
    "dataset": "What it was trained on.",
    "norm": "Of the threat model it was trained for.",
    "eps": "Its radius, of images in [0, 1]: 4/255 is 0.01569. 0 is standard training.",
    "clean_accuracy": "Percent, measured here before reported; empty where it is not known.",
    "evidence": "Who says so.",
    "robust_accuracy": "Percent, the best known at norm and eps: AutoAttack before other attacks, measured before "
    "reported, more images before fewer.",
    "robust_attack": "The attack.",
    "robust_n": "Of how many images; empty where its reporter does not say.",
    "robust_by": "Who says so: robust_zoo where it was measured here.",
    "input_size": "Channels, height and width.",
    "interpolation": "Of the resizing before the crop.",
    "crop_pct": "The crop over the resized image's shorter side.",
    "crop_mode": "center keeps the image's proportions in resizing, squash does not.",
    "mean": "Of the normalisation, a number for each channel.",
    "std": "Of the normalisation.",
    "num_classes": "Of the head; for an encoder the numbers of an embedding.",
    "file": "At its source.",
    "size": "Bytes of that file; empty where they are not known.",
    "sha256": "Of that file; empty where only the hub declares one, or nobody.",
    "status": "How far the file can be proven: bundled, pinned, hub-declared, unverified.",
    "licence": "Of the weights; unknown ones are loaded from their authors' host and never passed on.",
    "repo": "On the Hugging Face hub.",
    "revision": "The commit there.",
    "robustbench": "Its id at RobustBench.",
    "recipe": "Of robust-zoo recipe; empty where none is known.",
    "note": "What else its user should know.",
}
_FIGURES = {
    "model": "The name in models.",
    "accuracy": "Percent.",
    "measured": "true: measured by this project, with its entry in the ledger. false: reported by others.",
    "by": "Who says so.",
    "attack": "none for clean accuracy; else the attack.",
    "norm": "Of the attack; empty for clean accuracy.",
    "eps": "Its radius, of images in [0, 1].",
    "n": "Of how many images; empty where its reporter does not say.",
    "images": "Which; empty where they were not measured on here.",
    "low": "Percent: the 95 % Wilson interval, of measured figures.",
    "high": "Its upper end.",
    "size": "The side of the images in pixels, where it is another than the model's.",
    "file": "The entry in the ledger, of measured figures.",
}
_LEDGER = {
    "file": "The entry's path in results/; every image's fate is in the .npz beside it.",
    "model": "The name in models.",
    "dataset": "Which images.",
    "attack": "none for clean accuracy; else the attack or suite.",
    "norm": "Of the attack; empty for clean accuracy.",
    "eps": "Its radius, of images in [0, 1].",
    "n": "How many images.",
    "clean_correct": "How many of them are classified right.",
    "clean_accuracy": "Percent.",
    "robust_correct": "How many are classified right whatever the attack tried.",
    "robust_accuracy": "Percent.",
    "robust_low": "Percent: the 95 % Wilson interval.",
    "robust_high": "Its upper end.",
    "broken_by": "How many images each stage of the attack broke, as stage=count, in the order in which they ran.",
    "flags": "Checks that speak against the figure, or none; not checked where there was no attack to check.",
    "precision": "Of products in the network: fp32, or tf32 on a GPU.",
    "seed": "Of the attack.",
    "batch_size": "Images per batch of the attack.",
    "code": "The version that measured.",
    "device": "What ran it: cpu, or the name of a GPU.",
    "seconds": "How long it took.",
    "finished": "When, in UTC.",
    "weights_sha256": "Of the file that was measured.",
    "data_sha256": "Of the images and labels, in order.",
    "settings_sha256": "Of the attack's settings, which the entry holds in full.",
}


@dataclass(frozen=True)
class Table:
    """A table of the data page: NAME.csv.gz, and NAME.json.gz.

    Attributes:
        name: Of its files.
        title: What a line is.
        fields: A column's name -> what it means, in the columns' order.
        records: Contents -> its lines.
        kinds: Endings of its files.
    """

    name: str
    title: str
    fields: Mapping[str, str]
    records: Callable[[Contents], Iterator[Record]]
    kinds: tuple[str, ...] = ("json", "csv")


def _models(contents: Contents) -> Iterator[Record]:
    for checkpoint in contents.checkpoints:
        facts = all_of(checkpoint)
        facts |= facts["preprocessing"]
        facts["input_size"] = "x".join(map(str, facts["input_size"]))
        facts |= {key: " ".join(f"{value:g}" for value in facts[key]) for key in ("mean", "std")}
        best = facts["robust"] or {}
        facts |= {f"robust_{key}": best.get(of) for key, of in _BEST.items()}
        yield {key: None if facts[key] == "" else facts[key] for key in _MODELS}


_BEST = {"accuracy": "value", "attack": "attack", "n": "n", "by": "by"}


def _figures(contents: Contents) -> Iterator[Record]:
    for checkpoint in contents.checkpoints:
        for figure in figures(checkpoint):
            low, high = (round(end, 2) for end in figure.interval) if figure.interval else (None, None)
            record = {
                "model": checkpoint.name, "accuracy": figure.value, "measured": figure.measured, "by": figure.by,
                "attack": figure.attack, "norm": figure.norm or None, "eps": figure.eps, "n": figure.n,
                "images": figure.images or None, "low": low, "high": high, "size": figure.size,
                "file": contents.file_of(checkpoint, figure) or None,
            }  # fmt: skip
            yield record


def _ledger(contents: Contents) -> Iterator[Record]:
    for evidence in contents.evidence:
        facts = {**evidence.entry, "file": evidence.file}
        facts["robust_low"], facts["robust_high"] = facts["robust_interval_95"]
        facts["broken_by"] = ";".join(f"{stage}={count}" for stage, count in facts["broken_by"].items()) or None
        flags = facts["flags"]
        facts["flags"] = "not checked" if flags is None else ";".join(flags) or "none"
        yield {key: facts[key] for key in _LEDGER}


TABLES = (
    Table("models", "A line for each checkpoint.", _MODELS, _models),
    Table("figures", "A line for each accuracy that is known, measured here or reported.", _FIGURES, _figures),
    Table(
        "ledger",
        "A line for each entry of the ledger: what was measured here, and how. The entries are JSON themselves, in "
        "results/ of the repository.",
        _LEDGER,
        _ledger,
        ("csv",),
    ),
)


def as_json(records: Sequence[Record]) -> bytes:
    """Records as a JSON array, a line each."""
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in records)
    return f"[\n{lines}\n]\n".encode() if records else b"[]\n"


def as_csv(fields: Sequence[str], records: Sequence[Record]) -> bytes:
    """Records as comma-separated values under a header; what is not known is empty, truth is true or false."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(fields)
    for record in records:
        writer.writerow([str(v).lower() if isinstance(v, bool) else v for v in record.values()])
    return out.getvalue().encode()


def build(contents: Contents) -> list[Page | Raw]:
    """The page of the data, and the data.

    Args:
        contents: Of the site.

    Returns:
        data.html, and the files of TABLES.
    """
    shown, files = [], []
    for table in TABLES:
        records = list(table.records(contents))
        texts = {"json": as_json(records), "csv": as_csv([*table.fields], records)}
        made = [Raw(f"data/{table.name}.{kind}.gz", packed(texts[kind])) for kind in table.kinds]
        files += made
        sizes = [(file.path, f"{len(file.content) / 1000:.0f} kB") for file in made]
        shown.append({"table": table, "lines": len(records), "files": sizes})
    page = Page(
        "data.html",
        "Data",
        "data.html",
        {"tables": shown},
        "All checkpoints, accuracies and results of robust_zoo as JSON and CSV, with every field explained.",
    )
    return [page, *files]
