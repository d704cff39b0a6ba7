"""What a checkpoint of a run holds, and whose run it is."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from robust_zoo.errors import UsageError
from robust_zoo.training import state
from robust_zoo.training.distributed import World
from robust_zoo.training.monitor import Health
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.step import Counts


@dataclass
class Progress:
    """Where a run stands. `epochs` counts those that were measured, too; `step` may be ahead of them.

    since_log: this rank's sums since the last line of the log; history: held-out accuracies after each epoch.
    """

    step: int = 0
    epochs: int = 0
    seconds: float = 0.0
    since_log: Counts = field(default_factory=Counts)
    history: list[Health] = field(default_factory=list)


def identity(recipe: Recipe, data_sha256: str, world: World, *, bf16: bool) -> dict[str, Any]:
    """What a checkpoint and the run that takes it up must have in common, to end with the same weights."""
    return {
        "recipe": asdict(recipe),
        "data_sha256": data_sha256,
        "processes": world.size,
        "device": world.device.type,
        "precision": "bf16" if bf16 else "full",
    }


def save(run: Path, progress: Progress, place: dict[str, Any], holders: dict[str, Any]) -> None:
    """Writes one checkpoint. holders: whatever has a `state_dict`, by name; place: plain values beside them."""
    where = asdict(progress) | {"since_log": None}
    states = {name: holder.state_dict() for name, holder in holders.items()}
    state.save(run, progress.epochs, progress.step, states | place | {"progress": where})


def restore(
    run: Path, progress: Progress, mine: dict[str, Any], holders: dict[str, Any], world: World
) -> dict[str, Any]:
    """Fills `progress` and the holders from the newest whole checkpoint; returns its plain values, {} in a new run.

    Raises UsageError when the checkpoint is of another recipe, dataset, number of processes, device or precision;
    VerificationFailed when every checkpoint is damaged.
    """
    content = None
    if world.first:
        content, damaged = state.newest_whole(run)
        for name in damaged:
            tqdm.write(f"warning: {name} is damaged; going on from the one before it", file=sys.stderr)
    content = world.first_says(content)
    if content is None:
        return {}
    saved = state.read(content)
    _check(saved["identity"], mine, run)
    for name, holder in holders.items():
        holder.load_state_dict(saved[name])
    where = saved["progress"]
    progress.step, progress.epochs, progress.seconds = where["step"], where["epochs"], where["seconds"]
    progress.history = [Health(**health) for health in where["history"]]
    if saved["since_log"]:
        progress.since_log = Counts(**saved["since_log"][world.rank])
    return saved


def _check(theirs: dict[str, Any], mine: dict[str, Any], run: Path) -> None:
    for name, value in mine.items():
        if theirs[name] != value:
            both = {"was": theirs[name], "is": value}
            if isinstance(value, dict):  # of a recipe, what differs
                keys = [k for k in value if theirs[name].get(k) != value[k]]
                both = {how: {k: both[how].get(k) for k in keys} for how in both}
            raise UsageError(
                f"{run} holds a run of another {name}",
                model=mine["recipe"]["architecture"],
                source=str(run),
                expected=f"{name}: {both['was']}, as the run was begun with",
                actual=str(both["is"]),
                next="give the command the run was begun with, or choose another --out directory",
            )


def check_sizes(recipe: Recipe, images: int, processes: int) -> None:
    """Raises UsageError when batches can not be shared out evenly, or there is not one."""
    if recipe.batch_size > images:
        raise UsageError(
            "the dataset has less than one batch", expected=f"at least {recipe.batch_size} images", actual=str(images),
            next="lower batch_size in a recipe file: robust-zoo train NAME --recipe FILE.toml",
        )  # fmt: skip
    if recipe.batch_size % (processes * recipe.accumulation):
        raise UsageError(
            "the batch can not be shared out evenly",
            expected=f"batch_size {recipe.batch_size} divisible by processes x accumulation",
            actual=f"{processes} x {recipe.accumulation}",
            next="change batch_size or accumulation in a recipe file, or the number of processes",
        )
