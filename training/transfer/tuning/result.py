"""What a fine-tuning leaves in its folder, whole or resumable; and whether what lies there is the same one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from robust_zoo.errors import UsageError, cannot_read
from robust_zoo.factory import create_model
from robust_zoo.files import GO_ON, replace_file, sha256_of
from robust_zoo.readers import read_json
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.published import FILE
from robust_zoo.registry.rows import Checkpoint
from robust_zoo.training.checkpoint import require_same
from robust_zoo.training.distributed import World
from robust_zoo.training.machine import Machine
from robust_zoo.training.transfer.about import About
from robust_zoo.training.transfer.card import table
from robust_zoo.training.transfer.kept import keep
from robust_zoo.training.transfer.tuning.images import Split
from robust_zoo.training.transfer.tuning.modes import Tuning
from robust_zoo.training.transfer.tuning.tries import Chosen
from robust_zoo.weights.exported import checkpoint_of

PLAN, RESULT = "plan.json", "finetune.json"
_GROWN = "put the images back as they were, or choose another --out directory"


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning made.

    Attributes:
        path: The weights, model.safetensors; config.json and card.md lie beside them.
        sha256: Of the weights.
        checkpoint: What the weights are, as every function of this package takes it.
        before: Accuracies of the source with a head fitted to its features, on the test images; clean first.
        after: The same of what it became.
        tried: Learning rates with their accuracies on validation images, in percent.
        recipe: The one that was kept, as plain values.
        note: Which images were for what.
    """

    path: Path
    sha256: str
    checkpoint: Checkpoint
    before: tuple[Measurement, ...]
    after: tuple[Measurement, ...]
    tried: tuple[dict[str, Any], ...]
    recipe: dict[str, Any]
    note: str

    @property
    def model(self) -> nn.Module:
        """The network, in eval mode: normalised images -> logits."""
        return create_model(self.checkpoint).eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, by label."""
        return self.checkpoint.collection.dataset.class_names

    @property
    def table(self) -> str:
        """What was measured before and after, as lines of text."""
        cells = table(self.before, self.after)
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(
            f"{line[0]:<{widths[0]}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(line[1:], widths[1:], strict=True))
            for line in cells
        )


def require_same_run(
    out: Path, recipe: Tuning, lrs: tuple[float, ...], split: Split, world: World, machine: Machine, autoattack: int
) -> None:
    """Notes what is begun; what was begun here before must be the same.

    Args:
        out: The folder of the fine-tuning.
        recipe: How it trains.
        lrs: The learning rates it tries.
        split: Its images.
        world: With the device.
        machine: With the precision.
        autoattack: How many images AutoAttack is run on.

    Raises:
        UsageError: Other images, classes or settings; or a model lies there that fine-tuning did not make.
    """
    mine: dict[str, Any] = {
        "set of images": {name: f"{len(data):,}, sha256 {data.sha256}" for name, data in split.parts.items()},
        "set of classes": list(split.classes),
        "recipe": asdict(recipe) | {"lr": list(lrs)},
        "device": world.device.type,
        "precision": machine.precision,
        "number of images for AutoAttack": autoattack,
    }
    plan = out / PLAN
    if plan.exists():
        try:
            theirs = read_json(plan.read_bytes())
            for name, value in mine.items():
                require_same(theirs, {name: value}, out, recipe.architecture, _GROWN if "set of" in name else "")
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise cannot_read(f"what {out} was begun as", plan, "as finetune wrote it", error, f"rm -r {out}") from None
        return
    if (out / FILE).exists():
        raise UsageError(
            f"{out} holds a model already",
            model=recipe.architecture,
            source=str(out / FILE),
            expected="an empty folder, or one of a fine-tuning that was cut off",
            actual=f"{FILE}, and no {PLAN}",
            next="choose another --out directory",
        )
    replace_file(plan, json.dumps(mine, indent=1).encode() + b"\n", GO_ON)


def finish(out: Path, chosen: Chosen, about: About, before: list[dict[str, Any]]) -> Finetuned:
    """Writes the files, the result last: what has one is finished.

    Args:
        out: Where.
        chosen: The network, and how it was chosen.
        about: What the weights' file says, figures included.
        before: Figures of the source, as `figures.measure` gives them.

    Returns:
        What was made.
    """
    kept = keep(out, chosen.network, about, before)
    result = {
        "weights": FILE,
        "sha256": kept.checkpoint.sha256,
        "classes": list(about.classes),
        "note": about.note,
        "recipe": asdict(chosen.recipe),
        "tried": chosen.tried,
        "before": [asdict(m) for m in kept.before],
        "after": [asdict(m) for m in kept.after],
    }
    replace_file(out / RESULT, json.dumps(result, indent=1).encode() + b"\n", GO_ON)
    done = finished(out)
    assert done is not None
    return done


def finished(out: Path) -> Finetuned | None:
    """What a finished fine-tuning left; what was only for going on is deleted.

    Args:
        out: Its folder.

    Returns:
        What was made; None where it is not finished, or its weights are not whole.
    """
    if not (out / RESULT).is_file() or not (out / FILE).is_file():
        return None
    found = read_json((out / RESULT).read_bytes())
    if found["sha256"] != sha256_of(out / FILE):
        return None
    for checkpoint in (out / "runs").glob("*/checkpoint-*"):
        checkpoint.unlink(missing_ok=True)
    before, after = (tuple(Measurement(**m) for m in found[when]) for when in ("before", "after"))
    told = (tuple(found["tried"]), found["recipe"], found["note"])
    return Finetuned(out / FILE, found["sha256"], checkpoint_of(out / FILE), before, after, *told)
