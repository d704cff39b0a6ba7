"""Third-party checkpoint -> safetensors, in a child process with bounded memory and time. No torch in this process."""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_zoo import errors
from robust_zoo.errors import Refused, missing_file
from robust_zoo.files import storage
from robust_zoo.readers import read_json
from robust_zoo.registry.rows import Architecture

TIME_LIMIT = 900  # seconds, with all waiting for disks; the largest file, 1.8 GB, takes about 20 on two cores
_COMPUTING = 60  # seconds of one core, and one more for each 10 MB


def convert(
    source: Path,
    target: Path,
    network: Architecture,
    header: Mapping[str, str],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    num_classes: int | None = None,
    model: str = "",
    time_limit: float = TIME_LIMIT,
) -> dict[str, Any]:
    """Converts a file to safetensors with timm's keys, all or nothing.

    Args:
        source: A .ckpt, .pth, .pt or .safetensors file.
        target: The file to write.
        network: What the weights are of.
        header: Provenance for the file's metadata; the same source and header give the same bytes.
        mean: What the checkpoint's own normaliser must equal, one number per channel of images in [0, 1]; None takes
            the file's word (and records it).
        std: As mean.
        num_classes: What the head must have; None takes the file's word.
        model: The name for messages.
        time_limit: Seconds, with all waiting for disks.

    Returns:
        {"sha256", "num_classes", "mean", "std"}: mean and std None when the file has no normaliser.

    Raises:
        UsageError: There is no such file (exit 2).
        Refused: The file is unsafe or malformed (exit 6).
        VerificationFailed: The weights are not this architecture's, differ from their own copy, are normalised
            otherwise, or are not finite (exit 1).
        StorageError: `target` cannot be written (exit 5).
    """
    if not source.is_file():
        raise missing_file(source, "a checkpoint file", model=model)
    # A name of this call's own: what a killed child leaves behind can be swept without touching another call's.
    mine = target.with_name(f".{target.name[:150]}.{uuid.uuid4().hex[:12]}.tmp")
    request = {
        "source": str(source.resolve()),
        "target": str(mine.absolute()),
        "timm": network.timm,
        "keys": network.keys,
        "header": dict(header),
        "mean": mean and list(mean),
        "std": std and list(std),
        "num_classes": num_classes,
        "seconds": _COMPUTING + source.stat().st_size // 10_000_000,
    }
    about = {"model": f"{model or network.name} ({source.name})", "source": str(source)}
    try:
        answer = _run(request, time_limit, about)
        if "error" in answer:
            kind, message, fields = answer["error"]
            fields = {name: _printable(text) for name, text in fields.items()}
            advice = _ASK_DISK if kind == "StorageError" else _ASK
            raise getattr(errors, kind)(f"{source.name}: {_printable(message)}", **{**fields, **about, "next": advice})
        with storage(target):
            mine.replace(target)
    finally:
        for left in target.parent.glob(f"*{glob.escape(mine.name)}*"):
            left.unlink(missing_ok=True)
    return answer


def _run(request: Mapping[str, Any], time_limit: float, about: Mapping[str, str]) -> dict[str, Any]:
    """The child's answer. Raises Refused when it gives none."""
    # The child imports this very package, from wherever this process found it. -P: but nothing that happens to lie in
    # the current directory, such as a torch.py downloaded beside the checkpoint.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "robust_zoo.weights.convert_worker"],
            env=os.environ | {"PYTHONPATH": path},
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=time_limit,
        )
    except subprocess.TimeoutExpired:
        raise Refused(
            f"{Path(request['source']).name} could not be read in {time_limit:g} s",
            **about,
            expected=f"at most {time_limit:g} s",
            actual="still reading",
            next=_ASK,
        ) from None
    try:
        return read_json(child.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        end = f"signal {-child.returncode}" if child.returncode < 0 else f"exit {child.returncode}"
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise Refused(
            f"{Path(request['source']).name} broke the process that read it ({end})",
            **about,
            expected=f"one that loads in 2 x its size + 500 MB and {request['seconds']} s of a core",
            actual=_printable(last),
            next=_ASK,
        ) from None


def _printable(text: str) -> str:
    """Names out of an untrusted file, fit for a terminal: no control characters, no endless lines."""
    return "".join(c if c.isprintable() else "?" for c in text[:600])


_ASK_DISK = "nothing was written; free some space, or choose a directory that you may write to"
_ASK = "nothing was written; fetch the file again from a source you trust"
