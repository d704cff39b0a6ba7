"""A row -> its model card, in Hugging Face's format. Generated, never edited: `make cards`."""

from __future__ import annotations

import json
from typing import Any

from robust_zoo.rows import Checkpoint, Measurement
from robust_zoo.stats import wilson_interval

_DATASETS = {"imagenet": ("ImageNet-1k", "imagenet-1k"), "cifar10": ("CIFAR-10", "cifar10")}
_RECIPES = {
    "salman2020": "PGD with 3 steps of 2/3 eps from the image itself, attack in eval mode; SGD, batch 512, 90 epochs, "
    "learning rate 0.1 divided by 10 every 30 (as reported by the authors; eps 0 is standard training)",
    "cifar10_short": "PGD with 3 steps of 2/3 eps from the image itself, attack in eval mode; SGD with Nesterov momentum, "
    "batch 128, 12 epochs, one-cycle learning rate up to 0.25 (eps 0 is standard training)",
}
_CITATION = """```bibtex
@inproceedings{salman2020do,
  title     = {Do Adversarially Robust ImageNet Models Transfer Better?},
  author    = {Salman, Hadi and Ilyas, Andrew and Engstrom, Logan and Kapoor, Ashish and Madry, Aleksander},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2020}
}
```"""


def card(row: Checkpoint) -> str:
    """The whole card: YAML front matter with a `model-index`, then Markdown."""
    collection, preprocessing = row.collection, row.preprocessing
    title, _ = _DATASETS[row.dataset]
    size, crop = round(preprocessing.input_size[-1] / preprocessing.crop_pct), preprocessing.input_size[-1]
    trained = f"adversarially, against {_threat(row)}" if row.eps else "in the standard way (eps 0)"
    where = f"[{collection.repo}]({collection.origin}) at revision `{collection.revision}`" if collection.repo else "this package"
    sections = [
        _front_matter(row),
        f"# {row.name}",
        f"{row.architecture} (timm: `{row.network.timm}`) trained {trained} on {title}. {collection.title}"
        + (f", [{collection.paper}](https://arxiv.org/abs/{collection.paper.partition(':')[2]})." if collection.paper else "."),
        "## Use",
        "```python\nimport robust_zoo\n\n"
        f'model = robust_zoo.create_model("{row.name}").eval()      # verified weights, a timm model\n'
        "logits = robust_zoo.pixel_model(model)(images)       # images: (B, 3, H, W) in [0, 1]\n```",
        f"Preprocessing: resize {size} ({preprocessing.interpolation}), centre crop {crop}, mean {preprocessing.mean}, "
        f"std {preprocessing.std}; `timm.data.resolve_data_config(model=model)` says the same.",
        "## Figures",
        _figures(row),
        "An eps is a radius in units of images with pixels in [0, 1]. Figures are of the original head on the original "
        "classes: with a new head, other channels or fine-tuned weights they do not apply. PGD is a first check and an "
        "upper bound on robust accuracy, not AutoAttack.",
        "## Training",
        f"Recipe `{row.recipe}`: {_RECIPES[row.recipe]}." + (f" {row.training}." if row.training else ""),
        "## Weights",
        f"`{row.file}` from {where}; sha256 "
        + (f"`{row.sha256}`." if row.sha256 else "as the hub declares it at that revision; it is recorded in the receipt."),
        f"Licence: {row.licence}. Origin: {collection.origin}.",
    ]
    if collection.paper == "arXiv:2007.08489":
        sections += ["## Citation", _CITATION]
    return "\n\n".join(sections) + "\n"


def _threat(row: Checkpoint) -> str:
    return {"l2": "L2", "linf": "L-infinity"}[row.norm] + " perturbations of " + str(row.threat).partition(" ")[2]


def _figures(row: Checkpoint) -> str:
    lines = ["| figure | value | evidence |", "|---|---|---|"]
    if row.reported_by:
        lines.append(f"| clean accuracy | {row.clean_accuracy:.2f} % | *reported by* {row.reported_by} |")
    for m in row.measured:
        low, high = wilson_interval(m.correct, m.n)
        lines.append(
            f"| {_name(m)} | {m.accuracy:.2f} % | *measured here*: {m.correct:,} of {m.n:,} ({m.data}), 95 % interval "
            f"{low:.2f}-{high:.2f}; {m.settings + '; ' if m.settings else ''}weights `{m.weights_sha256[:12]}`, {m.code} |"
        )
    return "\n".join(lines)


def _name(m: Measurement) -> str:
    return "clean accuracy" if m.attack == "none" else f"accuracy under {m.attack.upper()}, {m.norm} eps {_eps(m)}"


def _eps(m: Measurement) -> str:
    return f"{m.eps * 255:g}/255" if m.norm == "linf" and m.eps else f"{m.eps:g}"


def _front_matter(row: Checkpoint) -> str:
    """YAML, written as JSON values (JSON is YAML), so that no text needs quoting rules of its own."""
    _, dataset = _DATASETS[row.dataset]
    tags = ["adversarial-robustness", "robust_zoo", "timm", "image-classification", row.norm]
    fields: dict[str, Any] = {
        "license": row.licence,
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": tags + ([row.collection.paper.lower()] if row.collection.paper else []),
        "datasets": [dataset],
        "model-index": [{"name": row.name, "results": _results(row)}],
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _results(row: Checkpoint) -> list[dict[str, Any]]:
    if row.reported_by:
        return [_result(row, row.clean_accuracy, f"clean accuracy, reported by {row.reported_by}", {})]
    return [
        _result(
            row,
            round(m.accuracy, 2),
            f"{_name(m)}, measured by robust_zoo",
            {} if m.attack == "none" else {"attack": m.attack, "norm": m.norm, "eps": m.eps},
        )
        for m in row.measured
    ]


def _result(row: Checkpoint, value: float, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    title, dataset = _DATASETS[row.dataset]
    trained = {"trained_norm": row.norm, "trained_eps": row.eps}
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": title, "type": dataset, "split": "test" if row.dataset == "cifar10" else "validation",
                    "args": {**trained, **arguments}},
        "metrics": [{"type": "accuracy", "value": value, "name": name, "verified": False}],
    }  # fmt: skip
