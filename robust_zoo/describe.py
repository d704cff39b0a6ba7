"""What verbs and pages say: checkpoints as JSON objects, sizes, the gravest of several exit codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from robust_zoo.registry.robustness import Figure, Under, best_robust
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import several

# Wrong or hostile bytes matter more than a full disk, and that more than a source that is down.
_GRAVITY = (1, 6, 5, 70, 3, 4, 2)


def gravest(exit_codes: Iterable[int]) -> int:
    """The exit code of a command in which several things failed; 0 when none did."""
    return min(exit_codes, key=_GRAVITY.index, default=0)


def promise(checkpoint: Checkpoint) -> str:
    """How far the weights can be proven: "bundled" and "pinned" by the row, "hub-declared", "unverified" by nobody."""
    if checkpoint.sha256 or checkpoint.converted_sha256:
        return "bundled" if checkpoint.bundled else "pinned"
    return "hub-declared" if checkpoint.hub else "unverified"


def as_json(checkpoint: Checkpoint, status: str | None = None, under: Under | None = None) -> dict[str, Any]:
    """eps is a number in [0, 1] image units, accuracy in percent and size in bytes (null when unknown)."""
    robust = best_robust(checkpoint, under)
    return {
        "name": checkpoint.name,
        "architecture": checkpoint.architecture,
        "kind": checkpoint.collection.kind,
        "dataset": checkpoint.dataset,
        "norm": checkpoint.norm,
        "eps": checkpoint.eps,
        "clean_accuracy": checkpoint.clean_accuracy,
        "evidence": checkpoint.evidence,
        "robust": asdict(robust) if robust else None,
        "parameters": checkpoint.network.parameters,
        "input_size": checkpoint.preprocessing.input_size,
        "file": checkpoint.file,
        "sha256": checkpoint.sha256,
        "size": checkpoint.size,
        "licence": checkpoint.licence,
        "status": status or promise(checkpoint),
    }


def all_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """as_json, and the rest of the checkpoint."""
    collection = checkpoint.collection
    return as_json(checkpoint) | {
        "timm_architecture": checkpoint.network.timm,
        "collection": collection.name,
        "title": collection.title,
        "paper": collection.paper,
        "origin": collection.origin,
        "repo": checkpoint.hub.repo if checkpoint.hub else None,
        "revision": checkpoint.hub.revision if checkpoint.hub else None,
        "addresses": [place.at for place in checkpoint.sources],
        "format": checkpoint.format.name,
        "arguments": dict(checkpoint.network.arguments),
        "licence_from": checkpoint.licence_from,
        "sha256_from": checkpoint.sha256_from,
        "converted_sha256": checkpoint.converted_sha256,
        "published": asdict(checkpoint.published) if checkpoint.published else None,
        "robustbench": checkpoint.robustbench,
        "note": checkpoint.note,
        "fingerprint": checkpoint.fingerprint.lines if checkpoint.fingerprint else None,
        "recipe": checkpoint.recipe,
        "training": checkpoint.training,
        "preprocessing": asdict(checkpoint.preprocessing),
        "reported": [asdict(figure) for figure in checkpoint.reported],
        "measured": [{**asdict(m), "accuracy": round(m.accuracy, 2)} for m in checkpoint.measured],
        "corruptions": [
            {**vars(c), "correct": dict(c.correct), "mean": round(c.mean, 2)} for c in checkpoint.corruptions
        ],
    }


def facts(checkpoint: Checkpoint) -> dict[str, str]:
    """What a row says of itself beside others: a fact's name -> a few words."""
    preprocessing = checkpoint.preprocessing
    return {
        "architecture": checkpoint.architecture,
        "parameters": short_count(checkpoint.network.parameters),
        "trained on": checkpoint.collection.dataset.title,
        "trained for": str(checkpoint.threat) if checkpoint.eps else "no threat",
        "collection": checkpoint.collection.name,
        "input": "x".join(map(str, preprocessing.input_size)),
        "resize": f"{preprocessing.resize} {preprocessing.interpolation}, {preprocessing.crop_mode}",
        "mean": " ".join(f"{value:g}" for value in preprocessing.mean),
        "std": " ".join(f"{value:g}" for value in preprocessing.std),
        "licence": checkpoint.licence,
        "weights": promise(checkpoint),
        "size": size_text(checkpoint),
    }


def megabytes(size: float) -> str:
    """Bytes as text: "31.9 MB", "355 MB"."""
    return f"{size / 1e6:,.1f} MB" if size < 1e8 else f"{size / 1e6:,.0f} MB"


def size_text(checkpoint: Checkpoint) -> str:
    """The size of the file at its source; `~` marks what is only typical of the architecture."""
    return ("" if checkpoint.size else "~") + megabytes(checkpoint.approximate_size)


def count(n: int, noun: str = "checkpoint") -> str:
    """A number with its word: "1 checkpoint", "3 checkpoints"."""
    return several(n, noun)


def images_of(figure: Figure) -> str:
    """How many images a figure is of, and of what size where that is not the checkpoint's own."""
    count = f"{figure.n:,} images" if figure.n else "number of images not said"
    return count + (f" of {figure.size} px" if figure.size else "")


def source_of(figure: Figure) -> str:
    """Who has a figure: where this project measured it, on which images."""
    return f"measured by {figure.by} on {figure.images}" if figure.measured else figure.by


def short_count(number: int) -> str:
    """A number of parameters in three digits: "0.7M", "88.6M", "1013M"."""
    millions = number / 1e6
    return f"{millions:.1f}M" if millions < 100 else f"{millions:.0f}M"
