"""A run's checkpoints on disk: safetensors with JSON in the header, whole or absent, hashed, the last two kept."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from robust_zoo.errors import Refused, UsageError, VerificationFailed
from robust_zoo.files import Buffer, is_sha256, read_hashed, replace_file, storage, write_chunks
from robust_zoo.readers import read_json
from robust_zoo.weights.safetensors_file import chunks_of, header_of, tensors_of

_KEEP = 2
_RESUME = "free some space and give the same command again: the run goes on from its last checkpoint"
_NAME = re.compile(r"checkpoint-(\d{4,9})-(\d{8,12})\.safetensors")
_SIDECAR = 200  # bytes; longer ones are not read


def write_checkpoint(run: Path, epochs: int, step: int, state: dict[str, Any]) -> Path:
    """Writes `checkpoint-<whole epochs>-<step>.safetensors` with its sha256 beside it, and drops all but two.

    The hash comes first: a checkpoint without one was never completed.

    Args:
        run: The run's directory.
        epochs: Epochs that are done.
        step: Updates that are done.
        state: Tensors and plain values, in dicts and lists.

    Returns:
        The checkpoint's path.

    Raises:
        StorageError: The disk is full or refuses.
    """
    path = run / f"checkpoint-{epochs:04d}-{step:08d}.safetensors"
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_split(state, "state", tensors))
    chunks = list(chunks_of(tensors, {"state": plain}))
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    _set_aside(path, _hash_of(path))
    replace_file(_hash_of(path), f"{digest.hexdigest()}  {path.name}\n".encode(), _RESUME)
    with storage(path, _RESUME):
        write_chunks(path, chunks)
    for old in [other for other in checkpoints(run) if _place(other) < _place(path)][_KEEP - 1 :]:
        old.unlink(missing_ok=True)
    kept = {_hash_of(other) for other in checkpoints(run)}
    for sidecar in set(run.glob("checkpoint-*.safetensors.sha256")) - kept:
        if _NAME.fullmatch(sidecar.stem) and not _is_directory(sidecar):
            sidecar.unlink(missing_ok=True)
    return path


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, newest first: ordinary files of that name, no links, folders or pipes."""
    found = (path for path in run.glob("checkpoint-*.safetensors") if _NAME.fullmatch(path.name))
    return sorted((path for path in found if path.is_file() and not path.is_symlink()), key=_place, reverse=True)


def newest_whole(run: Path) -> tuple[Buffer | None, list[str]]:
    """The newest checkpoint that is what its hash says.

    Args:
        run: The run's directory.

    Returns:
        Its bytes (None in a new run), and the names of damaged ones that were passed over.

    Raises:
        UsageError: There are only checkpoints of an older version of this package, which are pickles.
        VerificationFailed: There are checkpoints and none is whole.
    """
    damaged: list[str] = []
    for path in checkpoints(run):
        try:
            content = _whole(path)
        except (OSError, ValueError):  # not readable by this user; a hash that is no text
            content = None
        if content is not None:
            return content, damaged
        damaged.append(path.name)
    if damaged:
        raise VerificationFailed(
            "no checkpoint of this run is whole",
            source=str(run),
            expected="a checkpoint-*.safetensors with the sha256 in the file beside it",
            actual=", ".join(damaged) + " damaged",
            next=f"rm {run}/checkpoint-*   to begin again, or choose another --out",
        )
    if old := sorted(path.name for path in run.glob("checkpoint-*.pt")):
        raise UsageError(
            "this run was begun by an older robust_zoo, whose checkpoints are pickles and are not read any more",
            source=str(run),
            expected="checkpoint-*.safetensors",
            actual=", ".join(old[:3]),
            next=f"rm {run}/checkpoint-*.pt*   to begin again, choose another --out, or finish it with that version",
        )
    return None, []


def newest_told(run: Path) -> Buffer | None:
    """The newest checkpoint that is what its hash says; of damaged ones that were passed over stderr is told.

    Args:
        run: The run's directory.

    Returns:
        Its bytes, None in a new run.

    Raises:
        UsageError: As `newest_whole`.
        VerificationFailed: As `newest_whole`.
    """
    content, damaged = newest_whole(run)
    for name in damaged:
        tqdm.write(f"warning: {name} is damaged; going on from the one before it", file=sys.stderr)
    return content


def _whole(path: Path) -> Buffer | None:
    """The bytes of a checkpoint, None when they are not what its hash says."""
    sidecar = _hash_of(path)
    if not sidecar.is_file() or sidecar.is_symlink():
        return None
    with sidecar.open("rb") as file:
        expected = file.read(_SIDECAR).decode("ascii").split()[:1]
    if not expected or not is_sha256(expected[0]):
        return None
    content, found = read_hashed(path)
    return content if expected == [found] else None


def read_checkpoint(content: Buffer) -> dict[str, Any]:
    """What `write_checkpoint` was given, on the CPU, to the bit; tuples have become lists.

    Args:
        content: The bytes of the file.

    Returns:
        Tensors and plain values, in dicts and lists.

    Raises:
        VerificationFailed: Its hash is right, and yet it is not such a file.
    """
    where = Path("checkpoint")
    try:
        return _join(read_json(header_of(content, where)["state"], finite=False), tensors_of(content, where))
    except (Refused, KeyError, TypeError, ValueError) as error:
        raise foreign(error) from None


def foreign(cause: Exception) -> VerificationFailed:
    """The error for a checkpoint whose hash is right, and that holds something else.

    Args:
        cause: What went wrong.

    Returns:
        An error to raise.
    """
    return VerificationFailed(
        "the run's checkpoint is not one that robust_zoo wrote",
        expected="tensors, and in the header the values beside them",
        actual=f"{type(cause).__name__}: {cause}".splitlines()[0][:200],
        next="rm the run's checkpoint-* to begin again, or choose another --out",
    )


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A tree as JSON has it; its tensors go to `tensors`, by where they stand."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name, "stride": list(value.stride())}
    if isinstance(value, dict):
        return {"dict": [[key, _split(inner, f"{name}/{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_split(inner, f"{name}/{i}", tensors) for i, inner in enumerate(value)]
    return value


def _join(plain: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(plain, list):
        return [_join(inner, tensors) for inner in plain]
    if not isinstance(plain, dict):
        return plain
    if "dict" in plain:
        return {key: _join(inner, tensors) for key, inner in plain["dict"]}
    return _laid_out(tensors[plain["tensor"]], plain["stride"])


def _laid_out(tensor: Tensor, stride: list[int]) -> Tensor:
    """Its numbers in the order of memory that they had, on which the last bits of sums may depend; no more memory."""
    if len(stride) != tensor.dim() or any(type(step) is not int or step < 0 for step in stride):
        raise ValueError(f"strides {stride} of shape {tuple(tensor.shape)}")
    span = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, stride, strict=True))
    if not tensor.numel() or span != tensor.numel():  # empty, or it was a part of another
        return tensor.clone()
    return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)


def _place(path: Path) -> tuple[int, int]:
    """(epochs, steps) of a checkpoint's name."""
    found = _NAME.fullmatch(path.name)
    assert found
    return int(found[1]), int(found[2])


def _hash_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name + ".sha256")


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _set_aside(*paths: Path) -> None:
    """Moves folders out of the way of files, which replace anything else; what is in them stays."""
    for path in paths:
        if _is_directory(path):
            with storage(path, _RESUME):
                path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.aside"))
