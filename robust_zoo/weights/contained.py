"""Untrusted files are read by a child process with bounded memory and time: how it is started, what it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_zoo import errors
from robust_zoo.errors import Refused
from robust_zoo.readers import read_json
from robust_zoo.text import printable

_KINDS = ("Refused", "VerificationFailed", "UsageError", "StorageError")  # of errors that a child may answer with
# The child imports this very package, wherever it lies, and the rest from the path that it is handed.
_START = """
import importlib.util, sys
root, worker, *sys.path[:] = sys.argv[1:]
found = importlib.util.spec_from_file_location("robust_zoo", root + "/__init__.py")
sys.modules["robust_zoo"] = package = importlib.util.module_from_spec(found)
found.loader.exec_module(package)
from robust_zoo.weights.child import serve
serve(worker)
"""


def command(worker: str) -> list[str]:
    """How the child is started.

    Isolated (-I): no variable of the environment and nothing that happens to lie in the current directory, such as a
    torch.py downloaded beside a checkpoint, is imported.

    Args:
        worker: A module of this folder; see robust_zoo.weights.child.serve.

    Returns:
        The arguments of the process.
    """
    return [sys.executable, "-I", "-c", _START, str(Path(__file__).parents[1]), worker, *import_path()]


def import_path() -> list[str]:
    """Where this process imports from, without what depends on the directory that a user stands in."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    dropped = {os.path.realpath(entry) for entry in ("", *given) if not Path(entry).is_absolute()}
    return [entry for entry in sys.path if Path(entry).is_absolute() and os.path.realpath(entry) not in dropped]


def ask(
    worker: str,
    request: Mapping[str, Any],
    *,
    memory: int,
    seconds: int,
    time_limit: float,
    source: Path,
    model: str,
    next: str,
) -> tuple[dict[str, Any], bytes]:
    """A worker's answer to one request.

    Args:
        worker: A module of this folder.
        request: Plain values.
        memory: Bytes that it may take, beside what libraries take when they are loaded.
        seconds: Of one core, that it may compute.
        time_limit: Seconds, with all waiting for disks.
        source: The untrusted file.
        model: What it is, for messages.
        next: What to do about a file that is refused.

    Returns:
        The answer, and the bytes that follow it.

    Raises:
        Refused: The child broke, or took too long.
        ZooError: What the child answered; one of `_KINDS`, made printable.
    """
    about = {"model": model, "source": str(source), "next": next}
    try:
        child = subprocess.run(
            command(worker),
            cwd=Path(sys.executable).anchor,
            input=json.dumps({**request, "memory": memory, "seconds": seconds}).encode(),
            capture_output=True,
            timeout=time_limit,
        )
    except subprocess.TimeoutExpired:
        raise Refused(
            f"{source.name} could not be read in {time_limit:g} s",
            expected=f"at most {time_limit:g} s",
            actual="still reading",
            **about,
        ) from None
    line, _, content = child.stdout.partition(b"\n")
    try:
        answer = read_json(line, limit=1 << 26)
        if "error" not in answer:
            return answer, content
        kind, message, fields = answer["error"]
        fields = {
            name: printable(fields[name], limit=600) for name in ("expected", "actual", "next") if fields.get(name)
        }
        error = getattr(errors, _KINDS[_KINDS.index(kind)])
    except (AttributeError, TypeError, ValueError):
        end = f"signal {-child.returncode}" if child.returncode < 0 else f"exit {child.returncode}"
        last = (child.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
        raise Refused(
            f"{source.name} broke the process that read it ({end})",
            expected=f"one that loads in {memory:,} bytes and {seconds} s of a core",
            actual=printable(last, limit=600),
            **about,
        ) from None
    raise error(f"{source.name}: {printable(message, limit=600)}", **{**about, **fields})
