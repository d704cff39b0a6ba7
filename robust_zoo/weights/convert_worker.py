"""The child of robust_zoo.weights.convert: reads one untrusted file. JSON request on stdin, JSON answer on stdout."""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickletools
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from robust_zoo.errors import Refused, StorageError, ZooError
from robust_zoo.weights.safetensors_file import read_table, write_safetensors

_HEADROOM = 500 << 20  # bytes above twice the file
_HARMLESS = re.compile(  # names in every checkpoint; anything else of torch or numpy is worth telling
    r"collections\.OrderedDict|torch\.(\w+Storage|Size|device|\w*\d|_utils\._rebuild_\w+|nn\.parameter\.Parameter|"
    r"(torch\.)?storage\.\w+Storage)|numpy\.(_?core\.multiarray\.scalar|dtype|dtypes\.\w+DType)"
)
_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # what torch.save wrote before its zip format


def _allowed_numpy() -> list[Any]:
    """Learning-rate schedules keep numpy scalars; their names under numpy 1 and 2 (checked on files of robustness)."""
    scalar = np.float64(0).__reduce__()[0]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        type(np.dtype("float64")),
        type(np.dtype("int64")),
    ]


def main() -> None:
    """Answers one request; an error of ours, or no memory, is an answer too."""
    request = json.load(sys.stdin)
    torch.set_num_threads(1)  # each thread would take address space, more of it than the limit leaves on 64 cores
    allowance = 2 * Path(request["source"]).stat().st_size + _HEADROOM
    _limit(allowance, request["seconds"])
    # Only the answer may reach stdout.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            answer = work(request)
        except ZooError as error:
            answer = {"error": [type(error).__name__, error.message, error.fields]}
        except (MemoryError, OSError, RuntimeError) as error:
            if _out_of_memory(error):
                answer = _error(
                    Refused, "it asks for too much memory", f"at most {allowance:,} bytes", "more than that"
                )
            elif isinstance(error, OSError):
                answer = _error(StorageError, "not converted", "a directory with room, and permission", str(error))
            else:
                raise
    print(json.dumps(answer))


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Reads, checks and writes.

    Args:
        request: See robust_zoo.weights.convert.convert for the fields.

    Returns:
        What that returns.

    Raises:
        Refused: The file is unsafe or malformed.
        VerificationFailed: The weights are not the ones asked for.
    """
    source, target = Path(request["source"]), Path(request["target"])
    content = load_content(source)
    from robust_zoo.architectures.build import build
    from robust_zoo.weights import state_dict
    from robust_zoo.weights.key_rules import to_timm

    found = state_dict.unwrap(content)
    if sum(t.numel() * t.element_size() for t in found.state.values()) > source.stat().st_size:
        raise Refused(
            "its tensors claim more bytes than the file has", expected="tensors stored in the file", actual="a bomb"
        )
    if request["mean"]:
        state_dict.check_normalizer(found, request["mean"], request["std"])
    num_classes = request["num_classes"] or state_dict.classes(found.state)
    with torch.device("meta"):
        reference = build(request["timm"], num_classes=num_classes).state_dict()
    state = to_timm(found.state, request["keys"], reference)
    state_dict.check(state, reference)
    # What was asked for, or the file's word: so a converted file, which has no normaliser, converts to itself.
    statistics = {key: request[key] or _rounded(getattr(found, key)) for key in ("mean", "std")}
    about_file = {"num_classes": str(num_classes)} | {k: json.dumps(v) for k, v in statistics.items() if v}
    sha256 = write_safetensors(target, state, about_file | request["header"])
    return {"sha256": sha256, "num_classes": num_classes, **statistics}


def _rounded(statistic: tuple[float, ...] | None) -> list[float] | None:
    """As it was typed: 0.485, not the nearest fp32 number."""
    return [round(value, 6) for value in statistic] if statistic else None


def _limit(memory: int, seconds: int) -> None:
    """Address space may grow by `memory` bytes from here (torch's own mappings are made), computing take `seconds`."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # not Linux: the limit on waiting and the size checks remain
        return
    spent = math.ceil(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    for kind, limit in ((resource.RLIMIT_AS, used + memory), (resource.RLIMIT_CPU, spent + seconds)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def load_content(source: Path) -> Any:
    """The object in a checkpoint file, by its first bytes, never running code from it.

    Args:
        source: The file.

    Returns:
        Tensors and plain values, nested as they were saved.

    Raises:
        Refused: The file is unsafe, malformed, or no checkpoint.
    """
    with source.open("rb") as file:
        start = file.read(512)
    if start.startswith(_ZIP_MAGIC):
        _check_zip(source)
        return _load(source, mmap=True)
    if start.startswith(_LEGACY_MAGIC):
        return _load(source, mmap=False)
    if (text := start.lstrip(b"\xef\xbb\xbf \t\r\n")).startswith(b"<"):
        raise Refused(
            "it is an HTML page, not a checkpoint", expected="a checkpoint", actual=text[:40].decode("latin-1")
        )
    if start[8:9] == b"{":
        read_table(source)
        try:
            return load_file(source)
        except SafetensorError as error:
            raise Refused("malformed safetensors", expected="a sound file", actual=str(error)) from None
    if start[:1] == b"\x80":
        raise Refused("a bare pickle", expected="a torch checkpoint", actual=_describe(_globals(source.read_bytes())))
    raise Refused("not a checkpoint", expected="a torch zip, legacy torch or safetensors file", actual=repr(start[:16]))


def _check_zip(source: Path) -> None:
    """Sizes before contents: torch stores entries uncompressed, so they cannot be larger than the file."""
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or total > source.stat().st_size:
                raise Refused(
                    "a compressed archive",
                    expected="stored entries, as torch writes",
                    actual=f"{total:,} bytes unpacked",
                )
            if damaged := archive.testzip():
                raise Refused("damaged", expected="every entry's CRC to match", actual=f"{damaged} differs")
    except (Refused, MemoryError):
        raise
    except Exception as error:  # zipfile has a dozen ways to say that a file is broken, OSError among them
        cause = str(error) or type(error).__name__
        raise Refused("truncated or damaged", expected="a whole zip archive", actual=cause) from None


def _load(source: Path, *, mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals(_allowed_numpy()):
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # weights_only raises many kinds for hostile files; each means the file is refused
        if _out_of_memory(error):
            raise
        text = str(error).splitlines()[0] if str(error) else ""
        found = _describe(_globals(_pickle_of(source)))
        raise Refused(
            "unsafe or malformed, not read", expected="tensors and plain values", actual=f"{found} ({text[:160]})"
        ) from None


def _pickle_of(source: Path) -> bytes:
    with source.open("rb") as file:
        if file.read(4) != _ZIP_MAGIC:  # zipfile.is_zipfile would also find an archive further on
            return source.read_bytes()
    with zipfile.ZipFile(source) as archive:
        return b"".join(archive.read(n) for n in archive.namelist() if n.endswith(".pkl"))


def _globals(data: bytes) -> list[str]:
    """The names a pickle would import, read from its opcodes without running them."""
    names: list[str] = []
    strings: list[str] = []
    stream = io.BytesIO(data)
    with contextlib.suppress(Exception):  # a broken pickle still names what came before the break
        while stream.tell() < len(data):  # legacy files are several pickles in a row
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    names.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    return sorted({name for name in names if not _HARMLESS.fullmatch(name)})


def _describe(names: list[str]) -> str:
    return f"it would import {', '.join(names[:5])}" if names else "broken contents"


def _out_of_memory(error: Exception) -> bool:
    """Whether Python, torch's allocator or a mapping found no room; torch raises plain RuntimeErrors for its two."""
    return isinstance(error, MemoryError) or "annot allocate memory" in str(error) or "can't allocate" in str(error)


def _error(kind: type[ZooError], message: str, expected: str, actual: str) -> dict[str, Any]:
    return {"error": [kind.__name__, message, {"expected": expected, "actual": actual}]}


if __name__ == "__main__":
    main()
