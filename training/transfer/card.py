"""card.md of a kept network: what it is, what it lost and won, of which images, how it was made."""

from __future__ import annotations

from collections.abc import Sequence

from robust_zoo.architectures.config import in_repository
from robust_zoo.cards.figures import table as written_table
from robust_zoo.cards.front_matter import front_matter
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.reported import attack_title
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.text import markdown
from robust_zoo.threat import NORMS
from robust_zoo.training.transfer.about import About

_CLASSES = 50  # that are listed


def card(kept: Checkpoint, about: About, before: Sequence[Measurement], after: Sequence[Measurement]) -> str:
    """The whole card, in the Hugging Face hub's format; the same arguments give the same text.

    Args:
        kept: What was made.
        about: What there is to say of it.
        before: Figures of the source with a fitted head; () where they were not measured.
        after: The same figures of `kept`.

    Returns:
        Markdown.
    """
    head, *lines = table(before, after)
    names = kept.collection.dataset.class_names
    listed = ", ".join(markdown(name) for name in names[:_CLASSES])
    listed += f" and {len(names) - _CLASSES} more, all in the file's header" if len(names) > _CLASSES else ""
    images = f"{markdown(about.note[:1].upper() + about.note[1:])}. " if about.note else ""
    fitted = (
        " Before: the source with a linear head fitted to its features of the same training images; nothing else of it "
        "changed." if before else ""
    )  # fmt: skip
    return f"""{front_matter(kept)}

# {kept.name}

{_link(about.source)} ({about.source.architecture}), trained on {len(names)} classes: {listed}.

## {"Before and after" if before else "Accuracy"}

{written_table(head, lines, numbers=range(1, len(head)))}

{about.tested}, with 95 % Wilson intervals.{fitted} {_attacks(after, about.unmeasured)}

## Images

{images}Of all of them sha256 is `{about.data_sha256}`.

## Use

```python
import robust_zoo

model = robust_zoo.create_model("{about.source.architecture}", checkpoint_path="model.safetensors").eval()
logits = robust_zoo.pixel_model(model)(images)  # images: (B, 3, H, W) in [0, 1]
```

{_timm(kept)}

## Training

{about.training.rstrip(".")}. {about.chosen}

| weights | sha256 |
| --- | --- |
| source: {about.source.name} | `{about.source_sha256}` |
| model.safetensors | `{kept.sha256}` |

Licence: {markdown(kept.licence)}, the source's.
"""


def table(before: Sequence[Measurement], after: Sequence[Measurement]) -> list[list[str]]:
    """A line for each figure, the head first: what it is, images, before, after.

    Args:
        before: Of the source with a fitted head; () leaves the column out.
        after: The same figures, of what it became.

    Returns:
        Cells.
    """
    lines = [["accuracy", "images", *(["before", "after"] if before else ["measured"])]]
    for i, m in enumerate(after):
        title = f"{attack_title(m.attack)}, {NORMS[m.threat.norm].label} {m.threat.radius}" if m.threat else "clean"
        lines.append([title, f"{m.n:,}", *([_with_interval(before[i])] if before else []), _with_interval(m)])
    return lines


def _with_interval(m: Measurement) -> str:
    low, high = m.count.interval
    return f"{m.accuracy:.1f} % ({low:.1f}-{high:.1f})"


def _link(source: Checkpoint) -> str:
    """Its page, where it has one: the path of a file of one's own is no one else's business."""
    origin = source.collection.origin
    return f"[{source.name}]({origin})" if origin.startswith("https://") else f"`{source.name}`"


def _attacks(after: Sequence[Measurement], unmeasured: str) -> str:
    if all(m.threat is None for m in after):
        return "No threat model was given, so robust accuracy was not measured."
    return " ".join([*(f"{m.attack}: {m.settings}." for m in after if m.threat), unmeasured]).rstrip()


def _timm(kept: Checkpoint) -> str:
    plain = in_repository(kept, "").network.plain_timm
    first = "" if plain else "After `robust_zoo.register_with_timm()`, "
    return f'{first}`timm.create_model("local-dir:FOLDER", pretrained=True)` loads it from this folder.'
