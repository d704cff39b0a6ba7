"""A row -> its model card, in Hugging Face's format. Generated, never edited: `make cards`."""

from __future__ import annotations

import json
from typing import Any

from robust_zoo.rows import Checkpoint, Measurement
from robust_zoo.stats import wilson_interval
from robust_zoo.threat import written_eps

# dataset -> title, the hub's id, the split that accuracies are of
_DATASETS = {"imagenet": ("ImageNet-1k", "imagenet-1k", "validation"), "cifar10": ("CIFAR-10", "cifar10", "test")}
_PGD = "PGD with 3 steps of 2/3 eps from the image itself, attack in eval mode; "
# recipe -> (how images were attacked, left out of standard training; how the weights were learnt)
_RECIPES = {
    "salman2020": (
        _PGD,
        "SGD with momentum 0.9, batch 512, 90 epochs, learning rate 0.1 divided by 10 every 30 epochs, weight decay "
        "0.0001. Known from upstream's readers, not from a "
        "published log; not run again here.",
    ),
    "cifar10_short": (
        _PGD,
        "SGD with Nesterov momentum 0.9, batch 128, 12 epochs, one-cycle learning rate up to 0.25, weight decay "
        "0.0005.",
    ),
}
_CITATIONS = {
    "arXiv:2007.08489": """
## Citation

```bibtex
@inproceedings{salman2020do,
  title     = {Do Adversarially Robust ImageNet Models Transfer Better?},
  author    = {Salman, Hadi and Ilyas, Andrew and Engstrom, Logan and Kapoor, Ashish and Madry, Aleksander},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2020}
}
```
"""
}


def card(row: Checkpoint) -> str:
    """The whole card: YAML front matter with a `model-index`, then Markdown. The same row gives the same text."""
    home, p = row.collection, row.preprocessing
    how, crop = "adversarially" if row.eps else "in the standard way", p.input_size[-1]
    paper = f" ([{home.paper}](https://arxiv.org/abs/{home.paper.partition(':')[2]}))" if home.paper else ""
    source = f"[{home.repo}]({home.origin}), revision `{home.revision}`" if home.repo else "this package"
    sha256 = (
        f"`{row.sha256}`" if row.sha256 else "declared by the hub at that revision; a download's receipt records it"
    )
    return f"""{_front_matter(row)}

# {row.name}

{row.architecture} (timm: `{row.network.timm}`) trained {how} on {_DATASETS[row.dataset][0]}. {home.title}{paper}.

## Threat model

{_threat_model(row)}

## Use

```python
import robust_zoo, torch

model = robust_zoo.create_model("{row.name}").eval()  # verified weights, a timm model
logits = robust_zoo.pixel_model(model)(images)  # images: (B, 3, H, W) in [0, 1]

model = torch.hub.load("OWNER/robust_zoo", "{row.name}")  # the same model
```

| preprocessing | as `timm.data.resolve_data_config(model=model)` says it |
| --- | --- |
| resize (shorter side) | {round(crop / p.crop_pct)}, {p.interpolation} |
| {p.crop_mode} crop | {crop} |
| mean | {", ".join(map(str, p.mean))} |
| standard deviation | {", ".join(map(str, p.std))} |

## Figures

| figure | value | evidence |
| --- | --- | --- |
{_figures(row)}

- They are of the original head on the original classes. With a new head, other input channels or fine-tuned weights
  they do not apply.
- An eps is a radius in units of images with pixels in [0, 1], before normalisation. Robust accuracy at other radii, in
  other norms and against other attacks is not claimed.
- PGD gives an upper bound on robust accuracy. It is not AutoAttack; a figure is only when its row says so.

## Training

{_training(row)}

## Weights

| file | `{row.file}` |
| --- | --- |
| source | {source} |
| sha256 | {sha256} |
| licence | {row.licence} |
| origin | {home.origin} |
{_CITATIONS.get(home.paper, "")}"""


def _threat_model(row: Checkpoint) -> str:
    if not row.eps:
        return "None (eps 0): standard training, the baseline for the robust checkpoints of the same architecture."
    radius = _eps(row.norm, row.eps)
    within = {
        "l2": f"move an image by a Euclidean distance of at most {radius} (L2, over all pixels and channels)",
        "linf": f"change each pixel value by at most {radius} = {row.eps:.6f} (L-infinity)",
    }
    return f"An adversary may {within[row.norm]}; pixels are in [0, 1] and stay there."


def _eps(norm: str | None, eps: float | None) -> str:
    written = written_eps(norm or "l2", eps or 0)
    return f"{written}/255" if norm == "linf" and eps else written


def _figures(row: Checkpoint) -> str:
    lines = []
    if row.reported_by:
        lines.append(f"| clean accuracy | {row.clean_accuracy:.2f} % | *reported by* {row.reported_by} |")
    for m in row.measured:
        low, high = wilson_interval(m.correct, m.n)
        count = f"{m.correct:,} of {m.n:,} ({m.data}), 95 % Wilson interval {low:.2f}-{high:.2f}"
        facts = [count, m.settings, f"weights sha256 `{m.weights_sha256}`", m.code]
        evidence = "; ".join(fact for fact in facts if fact)
        lines.append(f"| {_name(m)} | {m.accuracy:.2f} % | *measured here*: {evidence} |")
    return "\n".join(lines)


def _name(m: Measurement) -> str:
    attacked = f"accuracy under {m.attack.upper()}, {m.norm} eps {_eps(m.norm, m.eps)}"
    return "clean accuracy" if m.attack == "none" else attacked


def _training(row: Checkpoint) -> str:
    attack, learning = _RECIPES[row.recipe]
    text = f"Recipe `{row.recipe}`: {attack if row.eps else ''}{learning}"
    return text + (f" {row.training}." if row.training else "") + f" `robust-zoo info {row.name}` shows the whole row."


def _front_matter(row: Checkpoint) -> str:
    """YAML whose values are written as JSON (JSON is YAML), so that no text needs quoting rules of its own."""
    tags = ["adversarial-robustness", "robust_zoo", "timm", "image-classification", row.norm]
    paper = row.collection.paper.lower()  # the hub turns a tag "arxiv:..." into a link
    fields: dict[str, Any] = {
        "license": row.licence,
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": [*tags, paper] if paper else tags,
        "datasets": [_DATASETS[row.dataset][1]],
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in fields.items()]
    lines += ["model-index:", f"- name: {json.dumps(row.name)}", "  results:"]
    return "\n".join(["---", *lines, *(f"  - {json.dumps(result)}" for result in _results(row)), "---"])


def _results(row: Checkpoint) -> list[dict[str, Any]]:
    """`norm` and `eps` are the threat model that a figure is about; `attack` "none" means unperturbed images."""
    clean = {"norm": row.norm, "eps": row.eps, "attack": "none"}
    reported = [_result(row, row.clean_accuracy, f"clean accuracy (reported by {row.reported_by})", clean)]
    measured = [
        _result(
            row,
            round(m.accuracy, 2),
            f"{_name(m)} (measured by robust_zoo, n = {m.n})",
            clean if m.attack == "none" else {"norm": m.norm, "eps": m.eps, "attack": m.attack},
        )
        for m in row.measured
    ]
    return (reported if row.reported_by else []) + measured


def _result(row: Checkpoint, value: float, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    title, dataset, split = _DATASETS[row.dataset]
    # The hub's library merges results that differ in the dataset's arguments only, so the metric has them as well.
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": title, "type": dataset, "split": split, "args": arguments},
        "metrics": [{"type": "accuracy", "value": value, "name": name, "args": arguments, "verified": False}],
    }
