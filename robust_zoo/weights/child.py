"""The contained process: starts with a path that it was given, limits itself, does one worker's work, and answers.

JSON request on stdin; on stdout one line of JSON, and after it the bytes that the worker has for its parent.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from robust_zoo.errors import Refused, StorageError, ZooError
from robust_zoo.files import open_file

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")  # torch's words and the system's


def serve(worker: str) -> None:
    """Answers one request; an error of ours, or no memory, is an answer too.

    Args:
        worker: A module of this folder with a function `work`, of the request, that returns the answer, or the answer
            and bytes.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # only the answer may reach stdout, whatever libraries print
    request = json.load(sys.stdin)
    work = importlib.import_module(f"robust_zoo.weights.{worker}").work
    _limit(request["memory"], request["seconds"])
    content: Any = b""
    try:
        answer = work(request)
        if isinstance(answer, tuple):
            answer, content = answer
    except ZooError as error:
        answer = {"error": [type(error).__name__, error.message, error.fields]}
    except (MemoryError, OSError, RuntimeError) as error:
        if out_of_memory(error):
            allowance = f"at most {request['memory']:,} bytes"
            answer = _error(Refused, "it asks for too much memory", allowance, "more than that")
        elif isinstance(error, OSError):
            answer = _error(StorageError, "not converted", "a directory with room, and permission", str(error))
        else:
            raise
    with out:
        out.write(json.dumps(answer).encode() + b"\n")
        out.write(content)


def open_once(path: Path) -> Any:
    """Opens an untrusted file; it is read through this alone, whatever comes to lie under its name.

    Args:
        path: The file.

    Returns:
        It, opened for reading bytes, without a buffer.

    Raises:
        Refused: It cannot be opened, or is no ordinary file.
    """
    try:
        return open_file(path)
    except OSError as error:
        raise Refused("cannot be read", expected="a file that you may read", actual=error.strerror or "none") from None


def out_of_memory(error: Exception) -> bool:
    """Whether Python, torch's allocator, a GPU's or a mapping found no room; torch's are plain RuntimeErrors."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY)


def _limit(memory: int, seconds: int) -> None:
    """Address space may grow by `memory` bytes from here (libraries are loaded), computing may take `seconds`."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # not Linux: the limit on waiting and the size checks remain
        return
    spent = math.ceil(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    for kind, limit in ((resource.RLIMIT_AS, used + memory), (resource.RLIMIT_CPU, spent + seconds)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _error(kind: type[ZooError], message: str, expected: str, actual: str) -> dict[str, Any]:
    return {"error": [kind.__name__, message, {"expected": expected, "actual": actual}]}
