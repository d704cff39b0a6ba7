"""A checkpoint -> its model card, in Hugging Face's format. Generated, never edited: `make cards`."""

from __future__ import annotations

from typing import Protocol

from robust_zoo import home as project
from robust_zoo.cards.corruptions import section
from robust_zoo.cards.curve import curve
from robust_zoo.cards.figures import figures
from robust_zoo.cards.front_matter import front_matter, written
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown
from robust_zoo.weights.whereabouts import HUB


class Trained(Protocol):
    """What a card says of a training: robust_zoo.training.recipes.Recipe has it."""

    @property
    def in_words(self) -> str:
        """The recipe as sentences."""


def card(
    checkpoint: Checkpoint, recipe: Trained | None, *, results: str = "", picture: str = "", repo: str = ""
) -> str:
    """The whole card: YAML front matter with a `model-index`, then Markdown. The same arguments give the same text.

    What a file of one's own says of itself is shown as text: no mark-up of it works in the card.

    Args:
        checkpoint: What the card is of.
        recipe: How it was trained (training.recipes.recipe_for), None where that is not known.
        results: Where the folder results/ is, as seen from the card, for links to the evidence; "" for none.
        picture: The file of its curve (cards.curve) beside the card, "" where there is none.
        repo: The card's place on the Hugging Face hub, "" where it has none.

    Returns:
        The text of a model card.
    """
    home, p = checkpoint.collection, checkpoint.preprocessing
    how, crop = "adversarially" if checkpoint.eps else "in the standard way", p.input_size[-1]
    how = f"fine-tuned from {markdown(checkpoint.tuned_from)}" if checkpoint.tuned_from else f"trained {how}"
    how += f" on {markdown(home.dataset.title)}"
    paper = f" ([{home.paper}](https://arxiv.org/abs/{home.paper.partition(':')[2]}))" if home.paper else ""
    unknown = "declared by the hub at that revision; a download's receipt records it" if checkpoint.hub else "not known"
    said = f", from {markdown(checkpoint.sha256_from)}" if checkpoint.sha256_from else ""
    sha256 = f"`{checkpoint.sha256}`{said}" if checkpoint.sha256 else unknown
    licence_from = f" (from {markdown(checkpoint.licence_from)})" if checkpoint.licence_from else ""
    kept = "" if checkpoint.may_be_passed_on else "; loaded from its authors' host, never bundled or published"
    proven = checkpoint.can_be_proven
    return f"""{front_matter(checkpoint)}

# {checkpoint.name}

{checkpoint.architecture} (timm: `{checkpoint.network.built}`) {how}. {markdown(home.title)}{paper}.

## Threat model

{_threat_model(checkpoint)}

## Use

```python
{_use(checkpoint, repo or (checkpoint.published.repo if checkpoint.published else ""))}
```
{"" if proven else _first_seen(checkpoint)}
| preprocessing | as `timm.data.resolve_data_config(model=model)` says it |
| --- | --- |
| resize ({"shorter side" if p.crop_mode == "center" else "both sides"}) | {p.resize}, {p.interpolation} |
| center crop | {crop} |
| mean | {", ".join(map(str, p.mean))} |
| standard deviation | {", ".join(map(str, p.std))} |

## Figures

{figures(checkpoint, results)}
{_curve(checkpoint, picture)}{_corruptions(checkpoint, results)}
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
{"" if repo else _published(checkpoint)}| behaviour | {_behaviour(checkpoint)} |
| licence | {markdown(checkpoint.licence)}{licence_from}{kept} |
| origin | {markdown(home.origin)} |
{_citation(home.citation)}"""


def card_files(
    checkpoint: Checkpoint, recipe: Trained | None, stem: str, *, results: str = "", repo: str = ""
) -> dict[str, str]:
    """A card and its picture, as files that lie side by side.

    Args:
        checkpoint: As `card` takes it.
        recipe: The same.
        stem: What both files are called, without an ending.
        results: As `card` takes it.
        repo: The same.

    Returns:
        Name -> text: ``STEM.md``, and ``STEM.svg`` where something was measured over several radii.
    """
    picture = curve(checkpoint)
    text = card(checkpoint, recipe, results=results, picture=f"{stem}.svg" if picture else "", repo=repo)
    return {f"{stem}.md": text} | ({f"{stem}.svg": picture} if picture else {})


def _is_row(checkpoint: Checkpoint) -> bool:
    """Whether its name loads it: a user's own is known by its file, or by its repository, alone."""
    row = load_registry().checkpoints.get(checkpoint.name)
    return row is not None and row.collection.name == checkpoint.collection.name


def _use(checkpoint: Checkpoint, repo: str) -> str:
    """Lines of Python that load it by each library which knows it.

    Plain timm does where it is published, in timm's own words. What a user trained and published has no row here.
    """
    proven = checkpoint.can_be_proven
    row = _is_row(checkpoint)
    ours = [
        f"# {'verified weights, ' if proven else ''}a timm model",
        f"model = robust_zoo.create_model({written(checkpoint.name if row else checkpoint.file)}).eval()",
    ]
    torch_hub = [f"# the same by torch.hub{project.hub_note()}", f"model = {project.torch_hub(checkpoint.name)}"]
    register = [] if repo and checkpoint.network.plain_timm else ["robust_zoo.register_with_timm()"]
    called = f"hf-hub:{repo}" if repo else checkpoint.name
    by_timm = [*register, f'model = timm.create_model("{called}", pretrained=True).eval()']
    logits = f"{checkpoint.gives} = robust_zoo.pixel_model(model)(images)  # images: (B, 3, H, W) in [0, 1]"
    if checkpoint.is_own_file or not (row or repo):
        return "\n".join(["import robust_zoo", "", *ours, logits])
    if not row:
        return "\n".join(["import robust_zoo, timm", "", *by_timm, logits])
    return "\n".join(
        ["import robust_zoo, timm, torch", "", *ours, logits, "", *torch_hub, "", "# the same by timm", *by_timm]
    )


def _curve(checkpoint: Checkpoint, picture: str) -> str:
    if not picture:
        return ""
    return f"\n![Accuracy of {checkpoint.name} over the radius of the attack, with 95 % intervals]({picture})\n"


def _corruptions(checkpoint: Checkpoint, results: str) -> str:
    return f"\n### Measured under corruptions\n\n{section(checkpoint, results)}\n" if checkpoint.corruptions else ""


def _code(text: str) -> str:
    """A text as code; in plain letters where a backtick or a bar would end it."""
    return f"`{text}`" if markdown(text) == text else markdown(text)


def _source(checkpoint: Checkpoint) -> str:
    if checkpoint.hub:
        origin = checkpoint.collection.origin
        return f"[{checkpoint.hub.repo}]({origin}), revision `{checkpoint.hub.revision}`"
    places = ", ".join(_code(place.at) for place in checkpoint.sources)
    return places or ("this package" if _is_row(checkpoint) else "a file of one's own")


def _published(checkpoint: Checkpoint) -> str:
    """Where the weights lie as safetensors. Not said in a repository's own card: its commit would be another then."""
    found = checkpoint.published
    if not found:
        return ""
    where = f"[{found.repo}]({HUB}/{found.repo}), revision `{found.revision}`"
    return f"| published | {where}: safetensors, sha256 `{found.sha256}` |\n"


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
    if not checkpoint.eps and checkpoint.tuned_from:
        return "None (eps 0): fine-tuned without attacks. What it kept of its source's robustness is under Figures."
    if not checkpoint.eps:
        return "None (eps 0): standard training, the baseline for the robust checkpoints of the same architecture."
    return f"An adversary may {checkpoint.threat.adversary}; pixels are in [0, 1] and stay there."


def _training(checkpoint: Checkpoint, recipe: Trained | None) -> str:
    if recipe is None and checkpoint.tuned_from:
        return f"{markdown(checkpoint.training)}."
    if recipe is None:
        return " ".join(
            filter(
                None, [markdown(checkpoint.note), "How it was trained is not known in enough detail to do it again."]
            )
        )
    note = load_registry().recipes.get(checkpoint.recipe, {}).get("note") if checkpoint.reported_by else ""
    of = f"NAME being a checkpoint of {markdown(checkpoint.collection.dataset.title)}"
    every = (
        f"`robust-zoo recipe {checkpoint.name}` shows every field."
        if _is_row(checkpoint)
        else f"Every field is in the file's header: `robust-zoo train NAME --recipe FILE` repeats it, {of}."
    )
    more = [note, markdown(checkpoint.note), checkpoint.training and f"{markdown(checkpoint.training)}.", every]
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
