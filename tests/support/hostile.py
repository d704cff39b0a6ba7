"""Checkpoint files that run code where they are unpickled, and small ones that ask for gigabytes."""

from __future__ import annotations

import copy
import cProfile
import functools
import io
import logging
import operator
import os
import pickle
import shutil
import struct
import subprocess
import tarfile
import timeit
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dill
import numpy as np
import torch


class Payload:
    """Unpickling this makes a call."""

    def __init__(self, call: Callable[..., Any], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call, self.arguments


class _Raw(bytes):
    """Opcodes that leave one object, for what no pickler writes."""


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]  # the one in C cannot be extended so
    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Raw):
            self.write(obj)
        else:
            super().save(obj, save_persistent_id)


class _PickleModule:
    Pickler = _Pickler

    @staticmethod
    def dump(obj: object, file: Any, protocol: int = 2) -> None:
        _Pickler(file, protocol).dump(obj)


def saved(value: object, *, legacy: bool = False) -> bytes:
    """What torch.save writes, now or as it did before its zip format."""
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_module=_PickleModule, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped(entries: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def calls(canary: Path) -> dict[str, Any]:
    """Objects whose unpickling creates the canary."""
    path, touch = str(canary), f"open({str(canary)!r}, 'w').close()"
    text = b"X" + struct.pack("<I", len(touch)) + touch.encode()
    evaluate = Payload(eval, touch)
    tensor, parameter = torch.zeros(2), torch.nn.Parameter(torch.zeros(2))
    tensor.note = parameter.note = evaluate  # type: ignore[attr-defined]
    rebuild = functools.partial(Payload, torch._utils._rebuild_tensor_v2, _storage(), 0)
    return {
        "os.system": Payload(os.system, f"touch {path}"),
        "eval": evaluate,
        "exec": Payload(exec, touch),
        "open": Payload(open, path, "w"),
        "mkdir": Payload(os.mkdir, path),
        "subprocess": Payload(subprocess.call, ["touch", path]),
        "pathlib": Payload(Path.touch, canary),
        "copyfile": Payload(shutil.copyfile, os.devnull, path),
        "timeit": Payload(timeit.timeit, touch, "pass", timeit.default_timer, 1),
        "profile": Payload(cProfile.run, touch, os.devnull),
        "log file": Payload(logging.FileHandler, path),
        "os.open": Payload(os.close, Payload(os.open, path, os.O_CREAT)),
        "numpy.memmap": Payload(np.memmap, path, "u1", "w+", 0, (1,)),
        "torch.save": Payload(torch.save, 1, path),
        "torch.load": Payload(functools.partial(torch.load, weights_only=False), io.BytesIO(saved(evaluate))),
        "partial": Payload(functools.partial(eval, touch)),
        "methodcaller": Payload(operator.methodcaller("touch"), canary),
        "pickle in a pickle": Payload(pickle.loads, pickle.dumps(evaluate)),
        "dill": _Raw(dill.dumps(Payload(lambda: canary.mkdir()), protocol=2, recurse=True)[2:-1]),
        "deep": {"a": [({"b": evaluate},)]},
        "key": {(1, evaluate): 1},
        "dropped": _Raw(b"cbuiltins\neval\n" + text + b"\x85R0N"),
        "INST": _Raw(b"(" + text + b"ibuiltins\neval\n"),
        "OBJ": _Raw(b"(cbuiltins\neval\n" + text + b"o"),
        "STACK_GLOBAL": _Raw(b"X\x08\x00\x00\x00builtinsX\x04\x00\x00\x00eval\x93" + text + b"\x85R"),
        "attribute of a tensor": tensor,
        "attribute of a parameter": parameter,
        "hooks of a tensor": rebuild((2,), (1,), False, OrderedDict(hook=evaluate)),
        "size of a tensor": rebuild((evaluate, 2), (1, 1), False, OrderedDict()),
        "type of a tensor": Payload(torch._tensor._rebuild_from_type_v2, eval, torch.Tensor, (touch,), {}),
    }


def _storage() -> torch.storage.TypedStorage:
    return torch.storage.TypedStorage(wrap_storage=torch.ones(2).untyped_storage(), dtype=torch.float32, _internal=True)


def pickles(canary: Callable[[str], Path]) -> dict[str, bytes]:
    """Whole files by name; canary: of a name, what opening that file with an ordinary reader would create."""
    network = {"fc.weight": torch.ones(2, 2)}
    files: dict[str, bytes] = {}
    for kind in calls(Path()):
        for legacy in (False, True):
            name = f"{kind}{' in the old format' * legacy}"
            files[name] = saved({"model": network, "optimizer": calls(canary(name))[kind]}, legacy=legacy)
    before = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, network)]
    evil = {name: pickle.dumps(calls(canary(name))["eval"], 2) for name in ("whole", "bare", "tar", "system", "keys")}
    return (
        files
        | {
            "whole": saved(calls(canary("whole"))["eval"]),
            "bare": evil["bare"],
            "tar": tarred(dict.fromkeys(("storages", "tensors", "pickle"), evil["tar"])),  # as torch wrote in 2016
            "system": b"".join([*before[:2], evil["system"]]),
            "keys": b"".join([*before[:3], pickle.dumps(1, 2), evil["keys"]]),
        }
    )


def bombs() -> dict[str, Callable[[], bytes]]:
    """What makes files of at most a few MB that ask for gigabytes, or for hours, by name."""
    number, rows = torch.ones(1), torch.ones(1000, 250)
    old = saved({"model": {"fc.bias": torch.zeros(64)}}, legacy=True)
    key = b")" + b"q\xffh\xff\x86" * 60  # a pair of the same pair of the same pair
    return {
        "deflated": lambda: zipped({"archive/data.pkl": bytes(1 << 30)}, zipfile.ZIP_DEFLATED),
        "overlapping entries": lambda: _overlapping(saved({"model": {"fc.weight": rows}}), 4000),
        "a view of terabytes": lambda: saved({"model": {"fc.bias": number.expand(1_000_000, 1_000_000)}}),
        "many views": lambda: saved({"model": {f"w{i}": rows.view(250, 1000) for i in range(8000)}}),
        "an old storage of 16 GB": lambda: old.replace(b"K@", b"\x8a\x05\x00\x00\x00\x00\x01"),
        "bytearray": lambda: saved({"model": Payload(bytearray, 1 << 40)}),
        "bytearrays": lambda: saved({f"model{i}": Payload(bytearray, (1 << 28) + i) for i in range(20)}),
        "Tensor": lambda: saved({"model": Payload(torch.Tensor, 1_000_000, 1_000_000)}),
        "numpy scalar": lambda: saved({"model": Payload(np.float64(0).__reduce__()[0], np.dtype("V2000000000"))}),
        "keys that take for ever to hash": lambda: saved(_Raw(b"}" + key + b"Ns")),
        "deep": lambda: saved(_Raw(b"]" * 1_000_000 + b"a" * 999_999)),
    }


def _overlapping(sound: bytes, times: int) -> bytes:
    """The same entries listed again and again, under other names."""
    buffer = io.BytesIO(sound)
    with zipfile.ZipFile(buffer, "a") as archive:
        [large] = [info for info in archive.infolist() if info.file_size > 100_000]
        for i in range(times):
            again = copy.copy(large)
            again.filename = f"{large.filename}{i}"
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]
    return buffer.getvalue()
