"""A run's checkpoints: what they hold, and whose they are; whole or absent on disk, hashed, the last two kept."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.files import replace_file
from robust_zoo.training.distributed import World
from robust_zoo.training.health import Health
from robust_zoo.training.recipes import Recipe
from robust_zoo.training.step import Counts

_KEEP = 2
_RESUME = "free some space and give the same command again: the run goes on from its last checkpoint"


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
    write_checkpoint(run, progress.epochs, progress.step, states | place | {"progress": where})


def restore(
    run: Path, progress: Progress, mine: dict[str, Any], holders: dict[str, Any], world: World
) -> dict[str, Any]:
    """Fills `progress` and the holders from the newest whole checkpoint; returns its plain values, {} in a new run.

    Raises UsageError when the checkpoint is of another recipe, dataset, number of processes, device or precision;
    VerificationFailed when every checkpoint is damaged.
    """
    content = None
    if world.first:
        content, damaged = newest_whole(run)
        for name in damaged:
            tqdm.write(f"warning: {name} is damaged; going on from the one before it", file=sys.stderr)
    content = world.first_says(content)
    if content is None:
        return {}
    saved = read_checkpoint(content)
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
    """Raises UsageError when batches cannot be shared out evenly, or there is not one."""
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


def write_checkpoint(run: Path, epochs: int, step: int, state: dict[str, Any]) -> Path:
    """Writes `checkpoint-<whole epochs>-<step>.pt` with its sha256 beside it, then drops all but the newest two.

    The hash comes first: a checkpoint without one was never completed.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content, path = buffer.getvalue(), run / f"checkpoint-{epochs:04d}-{step:08d}.pt"
    replace_file(_hash_of(path), f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode(), _RESUME)
    replace_file(path, content, _RESUME)
    for old in checkpoints(run)[_KEEP:]:
        old.unlink(missing_ok=True)
    kept = {_hash_of(p) for p in checkpoints(run)}
    for sidecar in set(run.glob("checkpoint-*.pt.sha256")) - kept:
        sidecar.unlink(missing_ok=True)
    return path


def checkpoints(run: Path) -> list[Path]:
    """Newest first."""
    return sorted(run.glob("checkpoint-*.pt"), reverse=True)


def newest_whole(run: Path) -> tuple[bytes | None, list[str]]:
    """The bytes of the newest checkpoint that is what its hash says (None in a new run), and the names passed over.

    Raises VerificationFailed when there are checkpoints and none is whole.
    """
    damaged: list[str] = []
    for path in checkpoints(run):
        content, sidecar = path.read_bytes(), _hash_of(path)
        expected = sidecar.read_text().split()[:1] if sidecar.exists() else []
        if expected == [hashlib.sha256(content).hexdigest()]:
            return content, damaged
        damaged.append(path.name)
    if damaged:
        raise VerificationFailed(
            "no checkpoint of this run is whole",
            source=str(run),
            expected="a checkpoint-*.pt with the sha256 in the file beside it",
            actual=", ".join(damaged) + " damaged",
            next=f"rm {run}/checkpoint-*   to begin again, or choose another --out",
        )
    return None, []


def read_checkpoint(content: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _hash_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name + ".sha256")


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Holds the run's directory; a killed process leaves no lock behind.

    Raises UsageError naming the process that holds it. Where the file system has no locks, nothing is held.
    """
    path = run / "lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UsageError(
                    "this run is live already",
                    source=str(run),
                    expected="a run directory that no other process trains in",
                    actual=f"held by {file.read().strip() or 'another process'}",
                    next="wait for it, stop it with SIGTERM (it saves), or choose another --out",
                ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        for leftover in run.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
        yield
