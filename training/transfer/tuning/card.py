"""card.md of a fine-tuned network: what it is, what it lost and won, of which images, by which recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robust_zoo.architectures.config import in_repository
from robust_zoo.cards.figures import table as written_table
from robust_zoo.cards.front_matter import front_matter
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown
from robust_zoo.training.transfer.tuning.figures import AUTOATTACK, AUTOATTACK_CLASSES, table
from robust_zoo.training.transfer.tuning.modes import Tuning

_CLASSES = 50  # that are listed


def card(
    tuned: Checkpoint, source: Checkpoint, source_sha256: str, recipe: Tuning, note: str,
    tried: Sequence[dict[str, Any]], before: Sequence[Measurement], after: Sequence[Measurement], data_sha256: str,
) -> str:  # fmt: skip
    """The whole card, in the Hugging Face hub's format; the same arguments give the same text.

    Args:
        tuned: What was made.
        source: What it was made of.
        source_sha256: Of those weights.
        recipe: By which it was trained.
        note: Which images are for what.
        tried: Learning rates, with their accuracies on validation images.
        before: Figures of the source with a fitted head.
        after: The same figures of `tuned`.
        data_sha256: Of all images.

    Returns:
        Markdown.
    """
    head, *lines = table(before, after)
    names = tuned.collection.dataset.class_names
    listed = ", ".join(markdown(name) for name in names[:_CLASSES])
    listed += f" and {len(names) - _CLASSES} more, all in the file's header" if len(names) > _CLASSES else ""
    return f"""{front_matter(tuned)}

# {tuned.name}

{_link(source)} ({source.architecture}), fine-tuned on {len(names)} classes: {listed}.

## Before and after

{written_table(head, lines, numbers=(1, 2, 3))}

Test images, which nothing was chosen by, with 95 % Wilson intervals. Before: the source with a linear head fitted to
its features of the same training images; nothing else of it changed. {_attacks(after, len(names))}

## Images

{markdown(note[:1].upper() + note[1:])}. sha256 of all of them: `{data_sha256}`.

## Use

```python
import robust_zoo

model = robust_zoo.create_model("{source.architecture}", checkpoint_path="model.safetensors").eval()
logits = robust_zoo.pixel_model(model)(images)  # images: (B, 3, H, W) in [0, 1]
```

{_timm(tuned)}

## Training

{recipe.in_words[:1].upper() + recipe.in_words[1:]} {_tried(tried, recipe)}

| weights | sha256 |
| --- | --- |
| source: {source.name} | `{source_sha256}` |
| model.safetensors | `{tuned.sha256}` |

Licence: {markdown(tuned.licence)}, the source's.
"""


def _link(source: Checkpoint) -> str:
    """Its page, where it has one: the path of a file of one's own is no one else's business."""
    origin = source.collection.origin
    return f"[{source.name}]({origin})" if origin.startswith("https://") else f"`{source.name}`"


def _attacks(after: Sequence[Measurement], classes: int) -> str:
    if all(m.threat is None for m in after):
        return "No threat model was given, so robust accuracy was not measured."
    words = [f"{m.attack}: {m.settings}." for m in after if m.threat]
    if not any(m.attack == AUTOATTACK for m in after):
        why = "its targeted loss needs four classes" if classes < AUTOATTACK_CLASSES else "it was not asked for"
        words.append(f"AutoAttack was not run: {why}.")
    return " ".join(words)


def _timm(tuned: Checkpoint) -> str:
    plain = in_repository(tuned, "").network.plain_timm
    first = "" if plain else "After `robust_zoo.register_with_timm()`, "
    return f'{first}`timm.create_model("local-dir:FOLDER", pretrained=True)` loads it from this folder.'


def _tried(tried: Sequence[dict[str, Any]], recipe: Tuning) -> str:
    if len(tried) == 1:
        return ""
    found = []
    for one in tried:
        accuracies = f"clean {one['clean']:.1f} %" if one["clean"] is not None else "diverged"
        accuracies += f", PGD-10 {one['pgd10']:.1f} %" if one["pgd10"] is not None else ""
        found.append(f"{one['lr']:g} ({accuracies})")
    by = "the mean of both" if recipe.aim else "accuracy"
    return f"Learning rates tried, with {by} on validation images deciding: {'; '.join(found)}."
