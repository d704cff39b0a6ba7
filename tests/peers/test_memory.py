"""What loading takes: the file's own bytes, and little more. Not in the default run, for the file is large."""

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
