"""The safetensors format, written to the same bytes every time, and its header read without torch.

The library's own writer keeps metadata in a hash map, so two runs give two files; a hash needs one.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from robust_zoo.errors import Refused
from robust_zoo.files import Buffer, open_file, write_chunks
from robust_zoo.readers import read_json

if TYPE_CHECKING:
    from torch import Tensor

_MAX_HEADER = 1 << 20  # bytes; our largest network needs about 60 kB
_NAMES = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16",
    "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16", "torch.int8": "I8",
    "torch.uint8": "U8", "torch.bool": "BOOL",
}  # fmt: skip
_SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}  # bytes


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """Writes a safetensors file, all or nothing.

    The bytes depend on the arguments only: tensors are ordered by falling item size, then by name (so that
    each is aligned), header keys by name.

    Args:
        path: The file.
        tensors: By name.
        header: Its metadata.

    Returns:
        The file's sha256.

    Raises:
        OSError: The disk refused; what was there stays.
    """
    return write_chunks(path, chunks_of(tensors, header))


def chunks_of(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> Iterator[Any]:
    """The bytes of a safetensors file, as write_safetensors writes them.

    Args:
        tensors: By name.
        header: Its metadata.

    Returns:
        Pieces, as bytes-like objects.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    table: dict[str, object] = {"__metadata__": dict(sorted({**header, "format": "pt"}.items()))}
    offset = 0
    for name in order:
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        table[name] = {"dtype": _NAMES[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return chain((struct.pack("<Q", len(text)), text), (_bytes(tensors[name]) for name in order))


def _bytes(tensor: Tensor) -> Any:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else b""


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file.

    Args:
        path: The file.

    Returns:
        Texts by key, none when it says nothing of itself.

    Raises:
        Refused: The file is no safetensors file (exit code 6).
    """
    return read_table(path).get("__metadata__", {})


def read_table(path: Path) -> dict[str, dict]:
    """The whole header of a safetensors file.

    Args:
        path: The file.

    Returns:
        `__metadata__`, and for each tensor its dtype, shape and data_offsets.

    Raises:
        Refused: The header is malformed, too long, or does not cover the file exactly.
    """
    with open_file(path) as file:
        return _table(file, os.fstat(file.fileno()).st_size, path)[0]


def header_of(content: Buffer | bytes, path: Path) -> dict[str, str]:
    """As read_header, of a file's content.

    Args:
        content: The whole file.
        path: Where it is from, for messages.

    Returns:
        Texts by key, none when it says nothing of itself.

    Raises:
        Refused: It is no safetensors file.
    """
    return _table(io.BytesIO(content[: _MAX_HEADER + 8]), len(content), path)[0].get("__metadata__", {})


def tensors_of(content: Buffer, path: Path) -> dict[str, Tensor]:
    """The tensors of a file's content, which they share: nothing is copied, and what changes one changes the other.

    Args:
        content: The whole file.
        path: Where it is from, for messages.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        Refused: As read_table does.
    """
    import torch

    table, begin = _table(io.BytesIO(content[: _MAX_HEADER + 8]), len(content), path)
    types = {short: getattr(torch, name.removeprefix("torch.")) for name, short in _NAMES.items()}
    found = {}
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        count, (first, last) = math.prod(entry["shape"]), entry["data_offsets"]
        offset, kind = begin + first, types[entry["dtype"]]
        if not count:
            flat = torch.empty(0, dtype=kind)
        elif offset % _SIZES[entry["dtype"]]:  # a file of others, whose tensors do not lie as the processor wants them
            flat = torch.frombuffer(bytearray(content[offset : begin + last]), dtype=kind)
        else:
            flat = torch.frombuffer(content, dtype=kind, count=count, offset=offset)
        found[name] = flat.view(entry["shape"])
    return found


def _table(file: IO[bytes], size: int, path: Path) -> tuple[dict[str, dict], int]:
    """The header, and where the tensors begin. size: of the whole file."""
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(_MAX_HEADER, size - 8):
        raise _malformed(path, f"a header of 2 to {_MAX_HEADER:,} bytes", f"{length:,} bytes in a file of {size:,}")
    try:
        table = read_json(file.read(length), limit=_MAX_HEADER)
        spans = sorted(_span(name, entry) for name, entry in table.items() if name != "__metadata__")
        contiguous = all(a[1] == b[0] for a, b in pairwise(spans))
        covers = spans[0][0] == 0 and spans[-1][1] == size - 8 - length if spans else size == 8 + length
        strings = all(isinstance(value, str) for value in table.get("__metadata__", {}).values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _malformed(path, "a JSON table of tensors", f"{type(error).__name__}: {error}") from None
    if not (contiguous and covers and strings):
        raise _malformed(
            path, f"tensors that fill the {size - 8 - length:,} bytes after the header", f"spans {spans[-3:]}"
        )
    return table, 8 + length


def _span(name: str, entry: dict[str, Any]) -> tuple[int, int]:
    """(begin, end) of a tensor's bytes, which its shape and dtype fill. Raises ValueError, KeyError or TypeError."""
    if entry.keys() != {"dtype", "shape", "data_offsets"} or entry["dtype"] not in _SIZES:
        raise ValueError(f"{name[:80]}: {str(entry)[:80]}")
    begin, end = entry["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (begin, end, *entry["shape"])):
        raise ValueError(f"{name[:80]}: sizes and offsets are whole numbers, not {str(entry)[:80]}")
    if end - begin != math.prod(entry["shape"]) * _SIZES[entry["dtype"]]:
        raise ValueError(f"{name[:80]}: {entry['shape']} of {entry['dtype']} do not fill {end - begin:,} bytes")
    return begin, end


def _malformed(path: Path, expected: str, actual: str) -> Refused:
    return Refused(
        f"{path.name} is not a sound safetensors file",
        model=path.name,
        source=str(path),
        expected=expected,
        actual=actual,
        next="fetch it again: robust-zoo download NAME, or ask whoever made it",
    )
