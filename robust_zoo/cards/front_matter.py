"""The YAML at the head of a card, which the Hugging Face hub reads."""

from __future__ import annotations

import json
from typing import Any

from robust_zoo.registry.robustness import Figure, best_robust, figures
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import printable

CLASSIFICATION = "image-classification"


def front_matter(checkpoint: Checkpoint) -> str:
    """The head of a card.

    Args:
        checkpoint: Whose.

    Returns:
        YAML between two lines of ``---``. Values are written as JSON, which is YAML, so that no text needs quoting
        rules of its own.
    """
    task = "image-feature-extraction" if checkpoint.is_encoder else CLASSIFICATION
    plain = bool(checkpoint.network.plain_timm)  # else the hub would show lines of Python that fail
    # transformers loads what timm builds, for classification
    libraries = ["timm", *(["transformers"] if task == CLASSIFICATION else [])] if plain else []
    tags = ["adversarial-robustness", "robust_zoo", *libraries, task, checkpoint.norm]
    paper = checkpoint.collection.paper.lower()  # the hub turns a tag "arxiv:..." into a link
    fields: dict[str, Any] = {
        "license": checkpoint.licence,
        "library_name": "timm" if plain else "robust-zoo",
        "pipeline_tag": task,
        "tags": [*tags, paper] if paper else tags,
        "datasets": [checkpoint.collection.dataset.hub_id],
    }
    if not checkpoint.collection.dataset.hub_id:  # images of one's own
        del fields["datasets"]
    lines = [f"{key}: {written(value)}" for key, value in fields.items()]
    if results := [f"  - {written(_result(checkpoint, f))}" for f in _claims(checkpoint)]:  # an empty one is refused
        lines += ["model-index:", f"- name: {written(checkpoint.name)}", "  results:", *results]
    return "\n".join(["---", *lines, "---"])


def written(value: Any) -> str:
    """A value as YAML and Python read it: JSON of one line, with \\x, \\u and \\U for what is not printable."""
    return printable(json.dumps(value, ensure_ascii=False), limit=None)


def _claims(checkpoint: Checkpoint) -> list[Figure]:
    """Clean accuracy, and for each threat model the figure with the strongest evidence."""
    found = figures(checkpoint)
    clean = next((f for f in found if f.eps is None), None)
    threats = dict.fromkeys((f.norm, f.eps) for f in found if f.eps is not None)
    robust = (best_robust(checkpoint, threat) for threat in threats)
    return [f for f in (clean, *robust) if f]


def _result(checkpoint: Checkpoint, f: Figure) -> dict[str, Any]:
    """`norm` and `eps` are the threat model that a figure is about; `attack` "none" means unperturbed images."""
    dataset, images = checkpoint.collection.dataset, f", {f.n:,} images" if f.n else ""
    source = f"measured by {f.by}{images}" if f.measured else f"reported by {f.by}{images}"
    norm, eps = (checkpoint.norm, checkpoint.eps) if f.eps is None else (f.norm, f.eps)
    arguments = {"norm": norm, "eps": eps, "attack": f.attack}
    metric = {"type": "accuracy", "value": f.value, "name": f"{f.title} ({source})"}
    return {
        "task": {"type": CLASSIFICATION},
        "dataset": {
            "name": dataset.title,
            "type": dataset.hub_id or dataset.name,
            "split": dataset.split,
            "args": arguments,
        },
        # The hub's library merges results that differ in the dataset's arguments only, so the metric has them as well.
        "metrics": [metric | {"args": arguments, "verified": False}],
    }
