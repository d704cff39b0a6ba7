"""The child of robust_zoo.weights.convert: reads one untrusted checkpoint file, once, and writes what it checked."""

from __future__ import annotations

import contextlib
import io
import json
import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from robust_zoo.errors import Refused, VerificationFailed
from robust_zoo.files import LARGEST
from robust_zoo.registry.formats import Format, KeyTable
from robust_zoo.weights.child import out_of_memory
from robust_zoo.weights.content import Content, read_once
from robust_zoo.weights.safetensors_file import header_of, tensors_of, write_safetensors
from robust_zoo.weights.stand_ins import stand_in_beside_weights

torch.set_num_threads(1)  # each thread would take address space, more of it than the limit leaves on 64 cores
_HARMLESS = re.compile(  # names in every checkpoint; anything else of torch or numpy is worth telling
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|complex|bytearray)|torch\.(\w+Storage|Size|device|\w*\d|_utils\._rebuild_\w+|nn\.parameter\.Parameter|"
    r"(torch\.)?storage\.\w+Storage)"
)
_KEPT = "name preprocessing mean std input_size crop_pct crop_mode interpolation dataset norm eps licence training "
_KEPT += "classes radii train_images source"  # of what was fine-tuned
_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # what torch.save wrote before its zip format


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Reads, checks and writes.

    Args:
        request: See robust_zoo.weights.convert.convert for the fields.

    Returns:
        What that returns.

    Raises:
        Refused: The file is unsafe or malformed.
        VerificationFailed: The file or the weights are not the ones asked for.
    """
    source, target = Path(request["source"]), Path(request["target"])
    raw, words, size = _read(source, request["sha256"], request.get("size", LARGEST))
    from robust_zoo.architectures.build import build
    from robust_zoo.weights import formats, layouts, state_dict

    def reference_of(num_classes: int | None) -> dict[str, torch.Tensor]:
        with torch.device("meta"):
            classes = {} if num_classes is None else {"num_classes": num_classes}
            return build(request["timm"], **request["arguments"] | classes).state_dict()

    keys = request["keys"] if isinstance(request["keys"], str) else _row(KeyTable, request["keys"])
    format = _row(Format, request["format"]) if request["format"] else None
    if format and "source_sha256" in words:  # what was converted is laid out in one way, and has no normaliser
        format = formats.CONVERTED
    if format:
        layout = layouts.promised(raw, format, reference_of, keys, request["num_classes"])
    else:
        layout = layouts.find(raw, reference_of, keys, request["ema"])
    if layout.size > size:
        raise Refused(
            "its tensors claim more bytes than the file has", expected="tensors stored in the file", actual="a bomb"
        )
    if request["mean"]:
        told = format is not None and format.normalizer == "told"
        state_dict.check_normalizer(layout.found, request["mean"], request["std"], told=told)
    state_dict.check(layout.found.state, layout.reference)
    # What was asked for, or the file's word: so a converted file, which has no normaliser, converts to itself.
    statistics = {key: request[key] or _rounded(getattr(layout.found, key)) for key in ("mean", "std")}
    about_file = {key: text for key, text in words.items() if key in _KEPT.split() and not format}
    about_file |= {} if format else {"weights": layout.taken}
    about_file |= {"notes": json.dumps(layout.notes)} if layout.notes else {}
    about_file |= {"num_classes": str(layout.num_classes)} | {k: json.dumps(v) for k, v in statistics.items() if v}
    sha256 = write_safetensors(target, layout.found.state, about_file | request["header"])
    return {"sha256": sha256, "num_classes": layout.num_classes, "notes": layout.notes, **statistics}


def _row(kind: Any, fields: dict[str, Any]) -> Any:
    """A Format or KeyTable, as it was before it was written as JSON, which has no tuples."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})


def _rounded(statistic: tuple[float, ...] | None) -> list[float] | None:
    """As it was typed: 0.485, not the nearest fp32 number."""
    return [round(value, 6) for value in statistic] if statistic else None


def load_content(source: Path, sha256: str | None = None) -> Any:
    """The object in a checkpoint file, by its first bytes, never running code from it.

    The file is read once, into memory of this process: what is hashed is what is looked at, and what is converted.

    Args:
        source: The file.
        sha256: What its bytes must have, None for any.

    Returns:
        Tensors and plain values, nested as they were saved.

    Raises:
        VerificationFailed: It has another sha256.
        Refused: The file is unsafe, malformed, or no checkpoint.
    """
    return _read(source, sha256, LARGEST)[0]


def _read(source: Path, sha256: str | None, limit: int) -> tuple[Any, dict[str, str], int]:
    """(the object, what a safetensors file says of itself, the file's size)."""
    content = read_once(source, limit)
    with content.file:
        if sha256 not in (None, content.sha256):
            raise VerificationFailed(
                "it was changed after it was hashed",
                expected=f"sha256 {sha256}",
                actual=f"sha256 {content.sha256}",
                next="nothing was written; give the same command again, when nothing else writes to the file",
            )
        return *_content_of(content, source), content.size


def _content_of(content: Content, source: Path) -> tuple[Any, dict[str, str]]:
    start = content.start(512)
    if start.startswith(_ZIP_MAGIC):
        _check_zip(content)
        return _load(content), {}
    if start.startswith(_LEGACY_MAGIC):
        return _load(content), {}
    if (text := start.lstrip(b"\xef\xbb\xbf \t\r\n")).startswith(b"<"):
        raise Refused(
            "it is an HTML page, not a checkpoint", expected="a checkpoint", actual=text[:40].decode("latin-1")
        )
    if start[8:9] == b"{":
        mapped = content.mapped()
        return tensors_of(mapped, source), header_of(mapped, source)
    if start[:1] == b"\x80":
        raise Refused("a bare pickle", expected="a torch checkpoint", actual=_describe(_globals_of(content)))
    raise Refused("not a checkpoint", expected="a torch zip, legacy torch or safetensors file", actual=repr(start[:16]))


def _check_zip(content: Content) -> None:
    """Sizes before contents: torch stores entries uncompressed, so they cannot be larger than the file."""
    try:
        with zipfile.ZipFile(content.file) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            names = {name.partition("/")[2] for name in archive.namelist()}
            if "constants.pkl" in names:
                raise Refused(
                    "a TorchScript archive, which is a program",
                    expected="a state dict",
                    actual="torch.jit.save wrote it",
                    next="if you trust it: torch.save(torch.jit.load('{file}').state_dict(), 'mine.pth')",
                )
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or total > content.size:
                raise Refused(
                    "a compressed archive",
                    expected="stored entries, as torch writes",
                    actual=f"{total:,} bytes unpacked",
                )
            if damaged := archive.testzip():
                raise Refused("damaged", expected="every entry's CRC to match", actual=f"{damaged} differs")
            if "data.pkl" not in names:
                listed = ", ".join(archive.namelist()[:3]) or "none"
                raise Refused("a zip archive of another kind", expected="data.pkl, as torch writes", actual=listed)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # zipfile has a dozen ways to say that a file is broken, OSError among them
        cause = str(error) or type(error).__name__
        raise Refused("truncated or damaged", expected="a whole zip archive", actual=cause) from None


def _load(content: Content) -> Any:
    names = _globals_of(content)
    inert = [(kind, name) for name in names if (kind := stand_in_beside_weights(name))]
    try:
        with torch.serialization.safe_globals(inert):  # type: ignore[arg-type]  # pairs, since torch 2.6
            # torch copies each storage, and sees to it that it has the size that the pickle says; with mmap=True, which
            # would copy none, it does not look.
            return torch.load(content.drained(), map_location="cpu", weights_only=True)
    except Exception as error:  # weights_only raises many kinds for hostile files; each means the file is refused
        if out_of_memory(error):
            raise
        told = re.search("WeightsUnpickler error: (.+)", str(error))  # what torch says before it gives its advice
        text = told[1] if told else str(error).partition("\n")[0]
        raise Refused(
            "unsafe or malformed, not read",
            expected="tensors and plain values",
            actual=f"{_describe(names)} ({text[:160]})",
        ) from None


def _globals_of(content: Content) -> list[str]:
    if not content.start(4).startswith(_ZIP_MAGIC):  # zipfile.is_zipfile would also find an archive further on
        content.file.seek(0)
        return _globals(content.file, content.size)
    with zipfile.ZipFile(content.file) as archive:
        pickles = b"".join(archive.read(n) for n in archive.namelist() if n.endswith(".pkl"))
    return _globals(io.BytesIO(pickles), len(pickles))


def _globals(stream: IO[bytes], size: int) -> list[str]:
    """The names that pickles would import, read from their opcodes without running them."""
    names: list[str] = []
    strings: list[str] = []
    with contextlib.suppress(Exception):  # a broken pickle still names what came before the break
        while stream.tell() < size:  # legacy files are several pickles in a row
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    names.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    return sorted({re.sub(r"^__builtin__\.", "builtins.", name) for name in names})  # Python 2's name, always written


def _describe(names: list[str]) -> str:
    strange = [name for name in names if not (_HARMLESS.fullmatch(name) or stand_in_beside_weights(name))]
    return f"it would import {', '.join(strange[:5])}" if strange else "broken contents"
