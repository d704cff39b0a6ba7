"""A row -> its model card, in Hugging Face's format. Generated, never edited: `make cards`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from robust_zoo.counts import wilson_interval
from robust_zoo.registry.rows import Checkpoint, Measurement, load_recipes
from robust_zoo.threat import written_eps

# dataset -> title, the hub's id, the split that accuracies are of
_DATASETS = {"imagenet": ("ImageNet-1k", "imagenet-1k", "validation"), "cifar10": ("CIFAR-10", "cifar10", "test")}
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


def card(row: Checkpoint, recipe: Mapping[str, Any] | None = None) -> str:
    """The whole card: YAML front matter with a `model-index`, then Markdown. The same row gives the same text.

    recipe: the values it was trained with, the row's named recipe when None.
    """
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

{_training(row, recipe or load_recipes()[row.recipe])}

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


def _training(row: Checkpoint, recipe: Mapping[str, Any]) -> str:
    text = f"Recipe `{row.recipe}`: {_attack_in_words(recipe) if row.eps else ''}{_learning_in_words(recipe)}"
    text += "".join(f" {more}" for more in (recipe.get("note"), row.training and f"{row.training}.") if more)
    return text + f" `robust-zoo recipe {row.name}` shows every field."


def _attack_in_words(recipe: Mapping[str, Any]) -> str:
    size = Fraction(recipe["attack_step_size"]).limit_denominator(1000)
    start = "a random start" if recipe.get("random_start") else "the image itself"
    goal = f"TRADES (beta {recipe['trades_beta']:g}), " if recipe.get("objective") == "trades" else ""
    return f"{goal}PGD with {recipe['attack_steps']} steps of {size} eps from {start}, attack in eval mode; "


def _learning_in_words(recipe: Mapping[str, Any]) -> str:
    rates = {
        "step": f"learning rate {recipe['lr']:g} divided by 10 every {recipe.get('step_epochs')} epochs",
        "onecycle": f"one-cycle learning rate up to {recipe['lr']:g}",
        "cosine": f"cosine learning rate from {recipe['lr']:g}",
    }
    parts = [
        f"SGD with {'Nesterov ' if recipe.get('nesterov') else ''}momentum {recipe['momentum']:g}",
        f"batch {recipe['batch_size']}",
        f"{recipe['epochs']} epochs",
        rates[recipe["schedule"]],
        f"weight decay {recipe['weight_decay']:f}".rstrip("0"),
    ]
    parts += [f"label smoothing {recipe['label_smoothing']:g}"] if recipe.get("label_smoothing") else []
    parts += [f"weights averaged with decay {recipe['ema_decay']:g}"] if recipe.get("ema_decay") else []
    return ", ".join(parts) + "."


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
