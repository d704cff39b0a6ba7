"""Third-party checkpoint -> safetensors, in a child process with bounded memory and time. No torch in this process."""

from __future__ import annotations

import glob
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robust_zoo.errors import Refused, StorageError, ZooError, missing_file
from robust_zoo.files import storage
from robust_zoo.registry.formats import Architecture, Format
from robust_zoo.registry.load import load_registry
from robust_zoo.weights.contained import ask

TIME_LIMIT = 900  # seconds, with all waiting for disks; the largest file, 1.8 GB, takes about 20 on two cores
_COMPUTING = 60  # seconds of one core, and one more for each 10 MB
_HEADROOM = 500 << 20  # bytes above the file and what is converted
_MOST = 10  # times what files of an architecture usually weigh


def convert(
    source: Path,
    target: Path,
    network: Architecture,
    header: Mapping[str, str],
    *,
    format: Format | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    num_classes: int | None = None,
    sha256: str | None = None,
    model: str = "",
    ema: bool | None = None,
    time_limit: float = TIME_LIMIT,
) -> dict[str, Any]:
    """Converts a file to safetensors with timm's keys, all or nothing.

    Args:
        source: A .ckpt, .pth, .pt or .safetensors file.
        target: The file to write.
        network: What the weights are of.
        header: Provenance for the file's metadata; the same source and header give the same bytes.
        format: How the file is laid out, as the row says; None for a file of the user's own, in whatever layout its
            training left (see weights/layouts.py).
        mean: What the checkpoint's own normaliser must equal, one number per channel of images in [0, 1]; None takes
            the file's word (and records it).
        std: As mean.
        num_classes: What the head must have; None takes the file's word.
        sha256: What the bytes that are read must have: a file that was swapped since it was hashed is not converted.
        model: The checkpoint that the file is of; "" for a file of the user's own.
        ema: Which of two sets of weights in a file of one's own: the averaged ones or not; None takes them and says so.
        time_limit: Seconds, with all waiting for disks.

    Returns:
        {"sha256", "num_classes", "mean", "std", "notes"}: mean and std None when the file has no normaliser; notes are
        sentences on what was chosen, converted or left out of a file of one's own.

    Raises:
        UsageError: There is no such file, or `ema` is needed, or asks for what is not there (exit 2).
        Refused: The file is unsafe, malformed, or far too large for this architecture (exit 6).
        VerificationFailed: The file has another sha256, or the weights are not this architecture's, differ from their
            own copy, are normalised otherwise, or are not finite (exit 1).
        StorageError: `target` cannot be written (exit 5).
    """
    if not source.is_file():
        raise missing_file(source, "a checkpoint file", model=model)
    about = f"{model or network.name} ({source.name})"
    size, usual = source.stat().st_size, 8 * network.parameters
    if usual and size > _MOST * usual:  # a sparse file takes no disk, and all memory
        raise Refused(
            f"{source.name} is too large for a file of {network.name}",
            model=about,
            source=str(source),
            expected=f"about {usual:,} bytes, at most {_MOST} x as many",
            actual=f"{size:,} bytes",
            next=_ASK if model else _ASK_OWN,
        )
    # A name of this call's own: what a killed child leaves behind can be swept without touching another call's.
    mine = target.with_name(f".{target.name[:150]}.{uuid.uuid4().hex[:12]}.tmp")
    request = {
        "source": str(source.absolute()),
        "size": size,
        "sha256": sha256,
        "target": str(mine.absolute()),
        "timm": network.timm,
        "arguments": dict(network.arguments),
        "keys": asdict(table) if (table := load_registry().keys.get(network.keys)) else network.keys,
        "header": dict(header),
        "mean": mean and list(mean),
        "std": std and list(std),
        "num_classes": num_classes,
        "format": format and asdict(format),
        "ema": ema,
    }
    converted = 0 if format else 4 * network.parameters or 2 * size  # of fp16 or fp64, to fp32
    try:
        answer, _ = ask(
            "convert_worker",
            request,
            memory=size + converted + _HEADROOM,
            seconds=_COMPUTING + size // 10_000_000,
            time_limit=time_limit,
            source=source,
            model=about,
            next=_ASK if model else _ASK_OWN,
        )
        with storage(target):
            mine.replace(target)
    except ZooError as error:
        error.next = _ASK_DISK if isinstance(error, StorageError) else error.next.replace("{file}", str(source))
        raise
    finally:
        for left in target.parent.glob(f"*{glob.escape(mine.name)}*"):
            left.unlink(missing_ok=True)
    return answer


_ASK_DISK = "nothing was written; free some space, or choose a directory that you may write to"
_ASK_OWN = "nothing was written; save the network's own tensors: torch.save(model.state_dict(), 'mine.pth')"
_ASK = "nothing was written; fetch the file again from a source you trust"
