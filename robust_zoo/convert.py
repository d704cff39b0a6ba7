"""Third-party checkpoint -> safetensors, in a child process with bounded memory and time. No torch in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_zoo import errors
from robust_zoo.errors import Refused, UsageError
from robust_zoo.rows import Architecture

TIME_LIMIT = 900  # seconds; the largest file, 1.8 GB, takes about 20 on two cores


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
    """Converts `source` (.ckpt, .pth, .pt or .safetensors) to timm's keys in `target`, all or nothing.

    header: provenance for the file's metadata; the same source and header give the same bytes.
    mean, std: what the checkpoint's own normaliser must equal; None takes the file's word (and records it).
    num_classes: what the head must have; None takes the file's word. model: the name for messages.

    Returns {"sha256", "num_classes", "mean", "std"} (mean and std None when the file has no normaliser).
    Raises Refused (exit 6) for files that are unsafe or malformed, VerificationFailed (exit 1) for weights that are
    not this architecture's, differ from their own copy, are normalised otherwise, or are not finite.
    """
    if not source.is_file():
        raise UsageError(f"no such file: {source}", model=model, source=str(source), expected="a checkpoint file", actual="nothing there")
    request = {
        "source": str(source.resolve()), "target": str(target.resolve()), "timm": network.timm, "keys": network.keys,
        "header": dict(header), "mean": mean and list(mean), "std": std and list(std), "num_classes": num_classes,
    }  # fmt: skip
    # The child imports this very package, from wherever this process found it.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    about = {"model": f"{model or network.name} ({source.name})", "source": str(source)}
    try:
        child = subprocess.run(
            [sys.executable, "-m", "robust_zoo.convert_worker"],
            input=json.dumps(request), capture_output=True, text=True, timeout=time_limit, env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        _sweep(target)
        raise Refused(
            f"{source.name} could not be read in {time_limit:g} s",
            **about, expected=f"at most {time_limit:g} s", actual="still reading", next=_ASK,
        ) from None  # fmt: skip
    try:
        answer = json.loads(child.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        _sweep(target)
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise Refused(
            f"{source.name} broke the process that read it (exit {child.returncode})",
            **about, expected="a checkpoint that loads in bounded memory", actual=last[:300], next=_ASK,
        ) from None  # fmt: skip
    if "error" in answer:
        kind, message, fields = answer["error"]
        fields = {**fields, **about, "next": fields.get("next") or _ASK}
        raise getattr(errors, kind)(f"{source.name}: {message}", **fields)
    return answer


_ASK = "nothing was written; fetch the file again from a source you trust"


def _sweep(target: Path) -> None:
    """A killed child leaves its temporary behind; it is the only writer of this target's temporaries here."""
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        left.unlink(missing_ok=True)
