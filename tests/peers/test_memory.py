"""What converting and loading take: the file's own bytes, and little more. Not in the default run: files are large."""

import json
import os
import subprocess
import sys

import pytest
import torch
from timm.models.swin_transformer import WindowAttention

from robust_zoo.architectures.build import build
from robust_zoo.weights.safetensors_file import write_safetensors

pytestmark = pytest.mark.peers

_LOAD = """
import dataclasses, json, re, sys
from pathlib import Path
import torch
from robust_zoo import factory
from robust_zoo.files import read_hashed
from robust_zoo.registry.lookup import get_architecture
from robust_zoo.weights.safetensors_file import tensors_of

# of this program alone: getrusage would count what its parent had before this began
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
path, name, kwargs = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
network = dataclasses.replace(get_architecture("resnet18"), name=name, timm=name)
before = peak()
model = factory._build_exact(network, name, lambda: tensors_of(read_hashed(path)[0], path), kwargs)
assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))
print((peak() - before) / path.stat().st_size)
"""


@pytest.mark.parametrize(("name", "kwargs"), [("swin_large_patch4_window14_224_eps1e6", "{}")])
def test_a_model_takes_the_memory_of_its_file(name, kwargs, tmp_path):
    """Swin has buffers that no file holds: a second build for their sake took the memory twice."""
    with torch.device("meta"):
        shapes = build(name).state_dict()
    state = {key: torch.zeros(tensor.shape, dtype=tensor.dtype) for key, tensor in shapes.items()}
    write_safetensors(tmp_path / "weights.safetensors", state, {})
    run = [sys.executable, "-W", "ignore", "-c", _LOAD, str(tmp_path / "weights.safetensors"), name, kwargs]
    ratio = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert 1 < ratio < 1.15 or not hasattr(WindowAttention, "init_non_persistent_buffers")


_CONVERT = """
import json, os, re, sys, threading, time
from pathlib import Path
import torch
from robust_zoo.architectures.build import build
from robust_zoo.weights import convert_worker, formats, layouts, state_dict

def used():  # resident, and in files in memory, which are resident in no process
    said = dict(re.findall(r"(Rss\\w+):\\s*(\\d+)", Path("/proc/self/status").read_text()))
    links = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
    files = {os.stat(n).st_ino: 512 * os.stat(n).st_blocks for n in links if os.path.realpath(n).startswith("/memfd:")}
    return 1024 * (int(said["RssAnon"]) + int(said["RssFile"])) + sum(files.values())

def watch():
    while True:
        try:
            peaks.append(used())
        except OSError:  # a file closed meanwhile
            pass
        time.sleep(0.002)

request = json.loads(sys.argv[1])
with torch.device("meta"):
    build(request["timm"])
peaks = [used()]
threading.Thread(target=watch, daemon=True).start()
convert_worker.work(request)
print((max(peaks) - peaks[0]) / Path(request["source"]).stat().st_size)
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="read into memory that is a file")
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_is_converted_in_its_own_memory(kind, tmp_path):
    """The child took it two or three times: as bytes, as tensors, and for a look at whether they are finite."""
    name = "vit_base_patch16_224"
    with torch.device("meta"):
        shapes = build(name).state_dict()
    state = {key: torch.full(tensor.shape, 0.5, dtype=tensor.dtype) for key, tensor in shapes.items()}
    source = tmp_path / "source"
    if kind == "safetensors":
        write_safetensors(source, state, {})
    else:
        torch.save(state, source, _use_new_zipfile_serialization=kind == "zip")
    request = {"source": str(source), "target": str(tmp_path / "out"), "timm": name, "keys": "same", "arguments": {}}
    request |= dict.fromkeys(("sha256", "format", "ema", "mean", "std", "num_classes"), None) | {"header": {}}
    run = [sys.executable, "-W", "ignore", "-c", _CONVERT, json.dumps(request)]
    ratio = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert 0.9 < ratio < 1.15
