"""A checkpoint -> its model card, in Hugging Face's format. Generated, never edited: `make cards`."""

from __future__ import annotations

import json
from typing import Any, Protocol

from robust_zoo.registry.load import load_registry
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown, printable


class Trained(Protocol):
    """What a card says of a training: robust_zoo.training.recipes.Recipe has it."""

    @property
    def in_words(self) -> str:
        """The recipe as sentences."""


def card(checkpoint: Checkpoint, recipe: Trained | None) -> str:
    """The whole card: YAML front matter with a `model-index`, then Markdown. The same arguments give the same text.

    What a file of one's own says of itself is shown as text: no mark-up of it works in the card.

    Args:
        checkpoint: What the card is of.
        recipe: How it was trained (training.recipes.recipe_for), None where that is not known.

    Returns:
        The text of a model card.
    """
    home, p = checkpoint.collection, checkpoint.preprocessing
    how, crop = "adversarially" if checkpoint.eps else "in the standard way", p.input_size[-1]
    how += f" on {home.dataset.title}"
    paper = f" ([{home.paper}](https://arxiv.org/abs/{home.paper.partition(':')[2]}))" if home.paper else ""
    unknown = "declared by the hub at that revision; a download's receipt records it" if checkpoint.hub else "not known"
    said = f", from {markdown(checkpoint.sha256_from)}" if checkpoint.sha256_from else ""
    sha256 = f"`{checkpoint.sha256}`{said}" if checkpoint.sha256 else unknown
    licence_from = f" (from {markdown(checkpoint.licence_from)})" if checkpoint.licence_from else ""
    kept = "" if checkpoint.may_be_passed_on else "; loaded from its authors' host, never bundled or published"
    proven = checkpoint.bundled or checkpoint.has_public_hash
    kind = "verified weights, a timm model" if proven else "a timm model"
    hub = f'\nmodel = torch.hub.load("OWNER/robust_zoo", "{checkpoint.name}")  # the same model\n'
    return f"""{_front_matter(checkpoint)}

# {checkpoint.name}

{checkpoint.architecture} (timm: `{checkpoint.network.built}`) trained {how}. {markdown(home.title)}{paper}.

## Threat model

{_threat_model(checkpoint)}

## Use

```python
import robust_zoo, torch

model = robust_zoo.create_model({_written(checkpoint.handle)}).eval()  # {kind}
{checkpoint.gives} = robust_zoo.pixel_model(model)(images)  # images: (B, 3, H, W) in [0, 1]
{"" if checkpoint.is_own_file else hub}```
{"" if proven else _first_seen(checkpoint)}
| preprocessing | as `timm.data.resolve_data_config(model=model)` says it |
| --- | --- |
| resize ({"shorter side" if p.crop_mode == "center" else "both sides"}) | {p.resize}, {p.interpolation} |
| center crop | {crop} |
| mean | {", ".join(map(str, p.mean))} |
| standard deviation | {", ".join(map(str, p.std))} |

## Figures

| figure | value | evidence |
| --- | --- | --- |
{_figures(checkpoint)}

- They are of the original head on the original classes. With a new head, other input channels or fine-tuned weights
  they do not apply.
- An eps is a radius in units of images with pixels in [0, 1], before normalisation. Robust accuracy at other radii, in
  other norms and against other attacks is not claimed.
- PGD gives an upper bound on robust accuracy. It is not AutoAttack; a figure is only when its row says so.

## Training

{_training(checkpoint, recipe)}

## Weights

| file | {_code(checkpoint.file)} |
| --- | --- |
| source | {_source(checkpoint)} |
| sha256 | {sha256} |
| behaviour | {_behaviour(checkpoint)} |
| licence | {markdown(checkpoint.licence)}{licence_from}{kept} |
| origin | {markdown(home.origin)} |
{_citation(home.citation)}"""


def _written(value: Any) -> str:
    """A value as YAML and Python read it: JSON of one line, with \\x, \\u and \\U for what is not printable."""
    return printable(json.dumps(value, ensure_ascii=False), limit=None)


def _code(text: str) -> str:
    """A text as code; in plain letters where a backtick or a bar would end it."""
    return f"`{text}`" if markdown(text) == text else markdown(text)


def _source(checkpoint: Checkpoint) -> str:
    if checkpoint.hub:
        origin = checkpoint.collection.origin
        return f"[{checkpoint.hub.repo}]({origin}), revision `{checkpoint.hub.revision}`"
    places = ", ".join(_code(place.at) for place in checkpoint.sources)
    return places or ("a file of one's own" if checkpoint.is_own_file else "this package")


def _first_seen(checkpoint: Checkpoint) -> str:
    """What to do where no hash of the file is public."""
    take = f"`robust-zoo download {checkpoint.name} --allow-unverified`"
    once = f"{take} takes it once as it is and notes its hash; other bytes later are an alarm."
    if all(place.kind == "http" for place in checkpoint.sources):
        once = (
            f"its hosts are asked over plain http only, so nothing is taken from there. From a mirror or a disk, {once}"
        )
    return f"\nNo hash of its file is public: {once}\n"


def _threat_model(checkpoint: Checkpoint) -> str:
    if not checkpoint.eps:
        return "None (eps 0): standard training, the baseline for the robust checkpoints of the same architecture."
    return f"An adversary may {checkpoint.threat.adversary}; pixels are in [0, 1] and stay there."


def _figures(checkpoint: Checkpoint) -> str:
    lines = []
    for f in checkpoint.reported:
        images = f", {f.n:,} images" if f.n else ""
        lines.append(f"| {markdown(f.title)} | {f.value:.2f} % | *reported by* {markdown(f.by)}{images} |")
    if checkpoint.clean is None:
        lines.append(f"| clean accuracy | - | {checkpoint.evidence} |")
    for m in checkpoint.measured:
        low, high = m.count.interval
        count = f"{m.correct:,} of {m.n:,} ({markdown(m.data)}), 95 % Wilson interval {low:.2f}-{high:.2f}"
        facts = [count, markdown(m.settings), f"weights sha256 `{m.weights_sha256}`", markdown(m.code)]
        evidence = "; ".join(fact for fact in facts if fact)
        lines.append(f"| {markdown(_name(m))} | {m.accuracy:.2f} % | *measured here*: {evidence} |")
    return "\n".join(lines)


def _name(m: Measurement) -> str:
    return f"accuracy under {m.attack.upper()}, {m.threat}" if m.threat else m.title


def _training(checkpoint: Checkpoint, recipe: Trained | None) -> str:
    if recipe is None:
        return " ".join(
            filter(None, [checkpoint.note, "How it was trained is not known in enough detail to do it again."])
        )
    note = load_registry().recipes.get(checkpoint.recipe, {}).get("note") if checkpoint.reported_by else ""
    more = [
        note,
        checkpoint.training and f"{markdown(checkpoint.training)}.",
        f"`robust-zoo recipe {checkpoint.name}` shows every field.",
    ]
    return " ".join(filter(None, [f"Recipe `{checkpoint.recipe}`: {recipe.in_words}", *more]))


def _behaviour(checkpoint: Checkpoint) -> str:
    if checkpoint.fingerprint:
        return f"recorded; `robust-zoo verify {checkpoint.name} --deep` compares its logits on bundled images"
    return (
        "not verified: a hash says nothing of what no file holds, such as the activation or an epsilon; "
        "no logits of the authors' own code were compared"
    )


def _citation(bibtex: str) -> str:
    return f"\n## Citation\n\n```bibtex\n{bibtex.strip()}\n```\n" if bibtex else ""


def _front_matter(checkpoint: Checkpoint) -> str:
    """YAML whose values are written as JSON (JSON is YAML), so that no text needs quoting rules of its own."""
    task = "image-feature-extraction" if checkpoint.is_encoder else "image-classification"
    tags = ["adversarial-robustness", "robust_zoo", "timm", task, checkpoint.norm]
    paper = checkpoint.collection.paper.lower()  # the hub turns a tag "arxiv:..." into a link
    fields: dict[str, Any] = {
        "license": checkpoint.licence,
        "library_name": "timm",
        "pipeline_tag": task,
        "tags": [*tags, paper] if paper else tags,
        "datasets": [checkpoint.collection.dataset.hub_id],
    }
    lines = [f"{key}: {_written(value)}" for key, value in fields.items()]
    if results := [f"  - {_written(result)}" for result in _results(checkpoint)]:  # an empty model-index is refused
        lines += ["model-index:", f"- name: {_written(checkpoint.name)}", "  results:", *results]
    return "\n".join(["---", *lines, "---"])


def _results(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """`norm` and `eps` are the threat model that a figure is about; `attack` "none" means unperturbed images."""
    clean = {"norm": checkpoint.norm, "eps": checkpoint.eps, "attack": "none"}
    reported = [
        _result(
            checkpoint,
            f.value,
            f"{f.title} (reported by {f.by})",
            {"norm": f.norm, "eps": f.eps, "attack": f.attack} if f.eps else clean,
        )
        for f in checkpoint.reported
    ]
    measured = [
        _result(
            checkpoint,
            round(m.accuracy, 2),
            f"{_name(m)} (measured by robust_zoo, n = {m.n})",
            clean if m.attack == "none" else {"norm": m.norm, "eps": m.eps, "attack": m.attack},
        )
        for m in checkpoint.measured
    ]
    return reported + measured


def _result(checkpoint: Checkpoint, value: float, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    dataset = checkpoint.collection.dataset
    # The hub's library merges results that differ in the dataset's arguments only, so the metric has them as well.
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": dataset.title, "type": dataset.hub_id, "split": dataset.split, "args": arguments},
        "metrics": [{"type": "accuracy", "value": value, "name": name, "args": arguments, "verified": False}],
    }
