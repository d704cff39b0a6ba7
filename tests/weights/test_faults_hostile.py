"""The failure matrix (fault_table.py), third part: files that run code, or ask for more than they hold."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import hostile
import numpy as np
import pytest
import torch
from checkpoints import ROBUSTNESS
from fault_table import fault
from hostile import Payload, saved

from robust_zoo.errors import Refused, UsageError
from robust_zoo.registry.lookup import get_architecture
from robust_zoo.weights import contained, convert_worker
from robust_zoo.weights import convert as conversion
from robust_zoo.weights.convert import convert

TINY = get_architecture("shufflenet")
KINDS = list(hostile.pickles(Path))


def in_folder(folder):
    """Of a file's name: the file in `folder` that it would create."""
    return lambda name: folder / f"canary-{name.replace(' ', '-')}"  # fit for a shell


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """(the hostile files by name, of each the file that it would create)"""
    canary = in_folder(tmp_path_factory.mktemp("canaries"))
    return hostile.pickles(canary), canary


def test_every_one_of_them_works(tmp_path):
    """The control: an ordinary reader is harmed by each."""
    (tmp_path / "files").mkdir()
    canary = in_folder(tmp_path)
    files = hostile.pickles(canary)
    for name, content in files.items():
        (tmp_path / "files" / name).write_bytes(content)
    naive = """
import pathlib, sys, torch
for path in pathlib.Path(sys.argv[1]).iterdir():
    try:
        torch.load(path, weights_only=False)
    except Exception:
        pass
"""
    subprocess.run([sys.executable, "-c", naive, tmp_path / "files"], check=True, capture_output=True)
    assert len(files) >= 60 and [name for name in files if not canary(name).exists()] == []


@fault("pickle")
@pytest.mark.parametrize("name", KINDS)
def test_no_code_runs(tmp_path, planted, name):
    files, canary = planted
    path = tmp_path / "evil.ckpt"
    path.write_bytes(files[name])
    with pytest.raises(Refused) as error:
        convert_worker.load_content(path)
    assert not canary(name).exists()
    assert error.value.exit_code == 6 and error.value.expected
    assert "would import" in error.value.actual or name == "tar"  # which is not even looked into


@pytest.mark.parametrize("call", [torch.hub.load, np.load])
def test_dangerous_names_of_trusted_packages_are_told(tmp_path, call):
    (tmp_path / "evil.ckpt").write_bytes(saved({"model": Payload(call, "somewhere")}))
    with pytest.raises(Refused) as error:
        convert_worker.load_content(tmp_path / "evil.ckpt")
    assert f"would import {call.__module__}.{call.__name__}" in error.value.actual


@fault("pickle")
def test_errors_cross_the_process_boundary_with_five_fields(tmp_path, planted, cold_child):
    files, canary = planted
    (tmp_path / "evil.ckpt").write_bytes(files["os.system"])
    with pytest.raises(Refused) as error:
        convert(tmp_path / "evil.ckpt", tmp_path / "out", TINY, {}, model="resnet50_l2_eps3")
    assert all(error.value.fields.values()) and "would import posix.system" in error.value.actual
    assert "resnet50_l2_eps3" in error.value.model and "evil.ckpt" in error.value.source
    assert [p.name for p in tmp_path.iterdir()] == ["evil.ckpt"] and not canary("os.system").exists()


# A process between, since a child's peak counts what its parent had in memory when it was started.
MEASURED = """
import json, resource, subprocess, sys
from robust_zoo.weights.contained import command
child = subprocess.run(command("convert_worker"), input=sys.argv[1].encode(), capture_output=True)
print(json.dumps([child.stdout.decode(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))
"""


def measured(path, cold=False):
    """(the answer, peak memory in bytes) of the process that converts: a fork, or one that is started as users' are."""
    request = json.dumps({
        "source": str(path), "target": str(path.with_suffix(".out")), "timm": TINY.timm, "keys": TINY.keys,
        "header": {}, "mean": None, "std": None, "num_classes": 1000, "sha256": None, "arguments": {},
        "format": asdict(ROBUSTNESS),
        "seconds": 60, "memory": path.stat().st_size + (500 << 20), "size": path.stat().st_size,
    })  # fmt: skip
    if cold:
        result = subprocess.run([sys.executable, "-c", MEASURED, request], capture_output=True, text=True)
        answer, peak = json.loads(result.stdout)
    else:
        command, forks = contained.command("convert_worker"), contained.subprocess
        result = forks.run(command, cwd="/", input=request.encode(), capture_output=True, timeout=conversion.TIME_LIMIT)
        answer, peak = result.stdout, forks.peak
    return json.loads(answer)["error"], peak


@pytest.fixture(scope="module")
def empty_handed(tmp_path_factory):
    """Peak memory of a conversion that reads nothing: torch, timm and their libraries."""
    path = tmp_path_factory.mktemp("base") / "a.ckpt"
    path.write_bytes(saved({"model": {"fc.bias": torch.zeros(1000)}}))
    (kind, *_), peak = measured(path)
    assert kind == "VerificationFailed"
    return peak


SLOW = "keys that take for ever to hash"
BOMBS = hostile.bombs()


@fault("bomb")
@pytest.mark.parametrize("name", [name for name in BOMBS if name != SLOW])
def test_bombs_end_within_the_file_and_500_mb(tmp_path, empty_handed, name):
    (tmp_path / "a.ckpt").write_bytes(BOMBS[name]())
    (kind, *_), peak = measured(tmp_path / "a.ckpt", cold=name == "deflated")
    assert kind == "Refused"
    assert peak - empty_handed <= (tmp_path / "a.ckpt").stat().st_size + (500 << 20)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


@fault("bomb", "bomb")
def test_time_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    path.write_bytes(BOMBS[SLOW]())
    with pytest.raises(Refused, match=r"0\.1 s") as error:
        convert(path, tmp_path / "out", TINY, {}, time_limit=0.1)
    assert all(error.value.fields.values())
    monkeypatch.setattr(conversion, "_COMPUTING", 1)
    with pytest.raises(Refused, match="1 s of a core") as error:
        convert(path, tmp_path / "out", TINY, {}, time_limit=60)
    assert all(error.value.fields.values())
    with pytest.raises(UsageError):
        convert(tmp_path / "nothing", tmp_path / "out", TINY, {})
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
