"""A run's checkpoints: what they hold, and whose they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from robust_zoo.errors import UsageError
from robust_zoo.training.checkpoint_files import foreign, newest_told, read_checkpoint, write_checkpoint
from robust_zoo.training.data.dataset import Dataset
from robust_zoo.training.distributed import World
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.steps.health import Health
from robust_zoo.training.steps.sums import Counts
from robust_zoo.training.steps.ways import EAGER, WAYS


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: Updates that are done; may be ahead of `epochs`.
        epochs: Epochs that are done and were measured, too.
        seconds: Time the run took so far.
        since_log: This rank's sums since the last line of the log.
        history: Held-out accuracies after each epoch.
        way: How its steps are run, a name of WAYS; "" before the first.
    """

    step: int = 0
    epochs: int = 0
    seconds: float = 0.0
    since_log: Counts = field(default_factory=Counts)
    history: list[Health] = field(default_factory=list)
    way: str = ""


def identity(
    recipe: Recipe, data_sha256: str, test_data_sha256: str, world: World, *, precision: str
) -> dict[str, Any]:
    """What a checkpoint and the run that takes it up must have in common, to end with the same weights.

    Args:
        recipe: The run's.
        data_sha256: Of the training images' bytes and labels.
        test_data_sha256: Of the test images'.
        world: The run's processes.
        precision: `Settings.numbers`.

    Returns:
        Plain values by name, to be compared one by one.
    """
    return {
        "recipe": asdict(recipe),
        "processes": world.size,  # before the images: each process hashes its share of them
        "data_sha256": data_sha256,
        "test_data_sha256": test_data_sha256,
        "device": world.device.type,
        "precision": precision,
    }


def shared_sha256(data: Dataset, world: World) -> str:
    """The sha256 of a dataset that every process has, each of which reads its share of the images.

    Args:
        data: The images.
        world: The processes.

    Returns:
        Of one process the dataset's own; of several, what theirs add up to.
    """
    if world.size == 1:
        return data.sha256
    share = data.subset(torch.arange(world.rank, len(data), world.size)).sha256
    shares = world.gather(*(int(share[place : place + 8], 16) for place in range(0, len(share), 8)))
    return hashlib.sha256(repr(shares).encode()).hexdigest()


def save(run: Path, progress: Progress, place: dict[str, Any], holders: dict[str, Any]) -> None:
    """Writes one checkpoint.

    Args:
        run: The run's directory.
        progress: Where the run stands.
        place: Plain values beside the states.
        holders: Whatever has a `state_dict`, by name.
    """
    where = asdict(progress) | {"since_log": None}
    states = {name: holder.state_dict() for name, holder in holders.items()}
    write_checkpoint(run, progress.epochs, progress.step, states | place | {"progress": where})


def restore(
    run: Path, progress: Progress, mine: dict[str, Any], holders: dict[str, Any], world: World
) -> dict[str, Any]:
    """Fills `progress` and the holders from the newest whole checkpoint.

    Args:
        run: The run's directory.
        progress: Changed in place.
        mine: The `identity` of this run.
        holders: Whatever has a `load_state_dict`, by name; changed in place.
        world: The run's processes; the first one reads.

    Returns:
        The checkpoint's plain values, {} in a new run.

    Raises:
        UsageError: The checkpoint is of another recipe, dataset, number of processes, device or precision, or of an
            older version of this package.
        VerificationFailed: Every checkpoint is damaged, or the newest is not one of ours.
    """
    content = world.first_says(newest_told(run) if world.first else None)
    if content is None:
        return {}
    saved = read_checkpoint(content)
    try:
        require_same(saved["identity"], mine, run, mine["recipe"]["architecture"])
        for name, holder in holders.items():
            holder.load_state_dict(saved[name])
        where = saved["progress"]
        progress.step, progress.epochs, progress.seconds = where["step"], where["epochs"], where["seconds"]
        progress.history = [Health(**health) for health in where["history"]]
        progress.way = where.get("way", EAGER)  # files of before there was another
        ["", *WAYS].index(progress.way)
        if saved["since_log"]:
            progress.since_log = Counts(*saved["since_log"][world.rank])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise foreign(error) from None
    return saved


def require_same(theirs: dict[str, Any], mine: dict[str, Any], run: Path, model: str, next: str = "") -> None:
    """Makes sure that what lies in a run's directory was begun as it goes on.

    Args:
        theirs: Plain values by name, as the directory has them.
        mine: The same as they are now.
        run: The directory.
        model: What the run is of, for the error.
        next: What to do where they differ.

    Raises:
        UsageError: A value differs; the error has both, of a table the parts that differ.
    """
    mine = json.loads(json.dumps(mine))  # as theirs was read: lists for tuples
    for name, value in mine.items():
        if theirs[name] != value:
            both = {"was": theirs[name], "is": value}
            if isinstance(value, dict):  # of a recipe, what differs
                keys = [k for k in value if theirs[name].get(k) != value[k]]
                both = {how: {k: both[how].get(k) for k in keys} for how in both}
            raise UsageError(
                f"{run} holds a run of another {name}",
                model=model,
                source=str(run),
                expected=f"{name}: {both['was']}, as the run was begun with",
                actual=str(both["is"]),
                next=next or "give the command the run was begun with, or choose another --out directory",
            )


def check_sizes(recipe: Recipe, images: int, processes: int) -> None:
    """Makes sure that there is a batch, and that every process and part gets equally many of its images.

    Args:
        recipe: With the batch size and the parts it is computed in.
        images: How many there are to train on.
        processes: How many share a batch.

    Raises:
        UsageError: There is less than one batch, or it cannot be shared out evenly.
    """
    if recipe.batch_size > images:
        raise UsageError(
            "the dataset has less than one batch",
            expected=f"at least {recipe.batch_size} images",
            actual=str(images),
            next="lower batch_size in a recipe file: robust-zoo train NAME --recipe FILE.toml",
        )
    if recipe.batch_size % (processes * recipe.accumulation):
        raise UsageError(
            "the batch cannot be shared out evenly",
            expected=f"batch_size {recipe.batch_size} divisible by processes x accumulation",
            actual=f"{processes} x {recipe.accumulation}",
            next="change batch_size or accumulation in a recipe file, or the number of processes",
        )
