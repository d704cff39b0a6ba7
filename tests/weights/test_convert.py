"""Conversion: exact, deterministic, and closed to everything that is not these weights."""

import random
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch
from checkpoints import MEAN, ROBUSTNESS, STD, rule_of
from hostile import saved
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from robust_zoo.architectures.build import build
from robust_zoo.errors import Refused, StorageError, VerificationFailed
from robust_zoo.registry.lookup import get_architecture
from robust_zoo.weights import contained, convert_worker, state_dict
from robust_zoo.weights.convert import convert
from robust_zoo.weights.formats import unwrap
from robust_zoo.weights.key_rules import to_timm
from robust_zoo.weights.safetensors_file import read_header, read_table, write_safetensors

TINY = get_architecture("shufflenet")  # the smallest of the ten: 9 MB


@pytest.fixture(scope="module")
def network():
    return checkpoints.network("shufflenet")


@pytest.fixture
def state(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def work(path, tmp_path, **overrides):
    """The child's work, in this process: what the subprocess does, without its start."""
    request = {
        "source": str(path), "target": str(tmp_path / "out.safetensors"), "timm": TINY.timm, "keys": TINY.keys,
        "header": {"name": "x"}, "mean": list(MEAN), "std": list(STD), "num_classes": 1000, "sha256": None,
        "arguments": {}, "format": asdict(ROBUSTNESS), "ema": None,
    }  # fmt: skip
    return convert_worker.work(request | overrides)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "densenet", "mnasnet", "mobilenet", "shufflenet", pytest.param("vgg16_bn", marks=pytest.mark.peers)],
)
def test_key_rules_keep_the_function(name):
    """One architecture for each rule and family: the timm model with mapped keys gives torchvision's logits."""
    source = checkpoints.network(name)
    arch = get_architecture(name)
    with torch.device("meta"):  # what it would start with is not looked at
        model = build(arch.timm).eval()
    found = unwrap(checkpoints.checkpoint(dict(source.state_dict())), ROBUSTNESS)
    mapped = to_timm(found.state, rule_of(arch), model.state_dict())
    state_dict.check(mapped, model.state_dict())
    model.load_state_dict(mapped, assign=True)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert (model(images) - source(images)).abs().max() <= 1e-5
    assert all(torch.allclose(torch.tensor(a), torch.tensor(b)) for a, b in ((found.mean, MEAN), (found.std, STD)))


def test_in_a_child_process_and_byte_for_byte_again(tmp_path, network, monkeypatch):
    """The first in a process that is started as users' are."""
    checkpoints_file = tmp_path / "a.ckpt"
    torch.save(checkpoints.checkpoint(dict(network.state_dict())), checkpoints_file)
    answers = []
    for out, processes in (("one", subprocess), ("two", contained.subprocess)):
        monkeypatch.setattr(contained, "subprocess", processes)
        answers.append(
            convert(checkpoints_file, tmp_path / out, TINY, {"b": "2", "a": "1"}, mean=MEAN, std=STD, num_classes=1000)
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert answers[0] == answers[1] and answers[0]["mean"] == list(MEAN)
    loaded = load_file(tmp_path / "one")
    assert all(torch.equal(loaded[k], v) for k, v in network.state_dict().items())
    header = read_header(tmp_path / "one")
    assert header["a"] == "1" and header["format"] == "pt" and header["num_classes"] == "1000"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt", "one", "two"]


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_plain_state_dicts_with_any_wrapper(tmp_path, state, prefix):
    path = tmp_path / "a.pth"
    torch.save({prefix + k: v for k, v in state.items()}, path)
    assert work(path, tmp_path, mean=None)["mean"] is None
    assert read_table(tmp_path / "out.safetensors").keys() == {*state, "__metadata__"}


@pytest.mark.parametrize("extra", ["", "model.", "module.model."])
def test_the_prefix_is_found_from_the_keys(tmp_path, state, extra):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": checkpoints.robustness_state(state, extra=extra)}, path)
    work(path, tmp_path)
    assert load_file(tmp_path / "out.safetensors").keys() == state.keys()


def test_legacy_format_numpy_scalars_and_safetensors_are_read(tmp_path, state):
    schedule = {"last_lr": np.float64(0.1), "base": np.float64(1.0), "epoch": np.int64(3)}
    content = checkpoints.checkpoint(state, schedule=schedule)
    torch.save(content, tmp_path / "zip.ckpt")
    torch.save(content, tmp_path / "legacy.ckpt", _use_new_zipfile_serialization=False)
    write_safetensors(tmp_path / "plain.safetensors", state, {})
    hashes = {work(tmp_path / name, tmp_path, mean=None, header={})["sha256"] for name in ("zip.ckpt", "legacy.ckpt")}
    assert len(hashes) == 1
    assert work(tmp_path / "plain.safetensors", tmp_path, mean=None)["num_classes"] == 1000


def _edit(change):
    def corrupt(state):
        state = dict(state)
        change(state)
        return checkpoints.checkpoint(state)

    return corrupt


def _nan(state):
    state["conv5.0.weight"] = state["conv5.0.weight"].clone()
    state["conv5.0.weight"][0, 0] = float("nan")


def _diverging(state):
    content = checkpoints.checkpoint(state)
    content["model"]["module.attacker.model.fc.bias"] = state["fc.bias"] + 1e-6
    return content


def _normaliser(state):
    content = checkpoints.checkpoint(state)
    for key in ("module.normalizer.new_mean", "module.attacker.normalize.new_mean"):
        content["model"][key] = torch.full((3, 1, 1), 0.5)
    return content


def _one_normaliser(state):
    content = checkpoints.checkpoint(state)
    content["model"]["module.normalizer.new_std"] = torch.full((3, 1, 1), 0.5)
    return content


def _unknown_part(state):
    content = checkpoints.checkpoint(state)
    content["model"]["module.something.else"] = torch.zeros(3)
    return content


WRONG = {
    "nan": (_edit(_nan), "NaN or infinity"),
    "missing": (_edit(lambda s: s.pop("conv5.0.weight")), "missing 1: conv5.0.weight"),
    "extra": (_edit(lambda s: s.update({"conv9.weight": torch.zeros(3)})), "not expected 1: conv9.weight"),
    "shape": (_edit(lambda s: s.update({"conv5.0.weight": torch.zeros(4, 464, 1, 1)})), "another shape"),
    "dtype": (_edit(lambda s: s.update({"conv5.0.weight": s["conv5.0.weight"].half()})), "another shape or type"),
    "classes": (_edit(lambda s: s.update({k: s[k][:10] for k in ("fc.weight", "fc.bias")})), "fc.weight"),
    "copy": (_diverging, "copy of the network differs"),
    "normaliser": (_normaliser, "another mean"),
    "normalisers": (_one_normaliser, "normalise differently"),
    "unknown": (_unknown_part, "no known part"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_weights_that_are_not_these_are_refused(tmp_path, state, fault):
    make, message = WRONG[fault]
    torch.save(make(state), tmp_path / "a.ckpt")
    with pytest.raises(VerificationFailed) as error:
        work(tmp_path / "a.ckpt", tmp_path)
    assert message in str(error.value)
    assert error.value.expected and error.value.actual
    assert not (tmp_path / "out.safetensors").exists()


def test_another_models_weights(tmp_path):
    torch.save(checkpoints.checkpoint(dict(checkpoints.network("resnet18").state_dict())), tmp_path / "a.ckpt")
    with pytest.raises(VerificationFailed, match="not those of this architecture"):
        work(tmp_path / "a.ckpt", tmp_path)


def _truncated(sound):
    return sound[: len(sound) // 2]


def _flipped(sound):
    middle = len(sound) // 2
    return sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :]


MALFORMED = {
    "truncated": _truncated,
    "flipped": _flipped,
    "empty": lambda _: b"",
    "html": lambda _: b"\n <!DOCTYPE html><title>login</title>",
    "text": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "no tensors": lambda _: saved({"model": "hello"}),
    "safetensors without data": lambda _: _safetensors((0, 4)),
    "safetensors huge header": lambda _: struct.pack("<Q", 1 << 60) + b"{}",
    "safetensors overlap": lambda _: _safetensors((0, 4), (2, 6)) + b"\0" * 6,
}


def _safetensors(*spans):
    """A header of one-number tensors at these offsets; the data is the caller's."""
    entries = (f'"{i}":{{"dtype":"F32","shape":[1],"data_offsets":{list(span)}}}' for i, span in enumerate(spans))
    text = f"{{{','.join(entries)}}}".encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_files_are_refused(tmp_path, state, fault):
    sound = saved(checkpoints.checkpoint(state))
    (tmp_path / "a.ckpt").write_bytes(MALFORMED[fault](sound))
    with pytest.raises(Refused) as error:
        work(tmp_path / "a.ckpt", tmp_path)
    assert error.value.exit_code == 6
    assert not (tmp_path / "out.safetensors").exists()


def test_a_damaged_zip_gives_the_same_bits_or_nothing(tmp_path):
    """Entries carry CRCs, so no change of a byte, wherever it falls, may alter a weight unseen."""
    state = {"fc.weight": torch.randn(10, 4), "fc.bias": torch.randn(10)}
    sound = saved(checkpoints.checkpoint(state))
    path, chance, read = tmp_path / "a.ckpt", random.Random(0), 0
    for _ in range(400):
        content = bytearray(sound)
        for _ in range(chance.choice([1, 1, 2, 8])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            found = unwrap(convert_worker.load_content(path), ROBUSTNESS).state
        except Refused as error:
            assert error.expected and error.actual
        else:
            read += 1
            assert found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)
    assert 0 < read < 200


def test_the_child_trusts_neither_the_current_directory_nor_the_files_names(tmp_path, state, monkeypatch, cold_child):
    here = tmp_path / "downloads"
    here.mkdir()
    monkeypatch.chdir(here)
    for module in ("torch", "json", "robust_zoo"):
        (here / f"{module}.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    torch.save(checkpoints.checkpoint(state | {"\x1b[2J\x07" + "x" * 5000: torch.zeros(1)}), "a.ckpt")
    with pytest.raises(VerificationFailed) as error:
        convert(Path("a.ckpt"), Path("out"), TINY, {})
    assert not (tmp_path / "canary").exists() and not Path("out").exists()
    assert all(line.isprintable() for line in str(error.value).splitlines()) and len(str(error.value)) < 2000


def test_an_unwritable_target_is_the_disks_fault(tmp_path):
    checkpoints.save(tmp_path / "a.ckpt", "shufflenet")
    with pytest.raises(StorageError) as error:
        convert(tmp_path / "a.ckpt", tmp_path / "missing" / "out", TINY, {})
    assert error.value.exit_code == 5 and all(error.value.fields.values())


def test_the_parent_does_not_import_torch():
    code = "import robust_zoo.weights.ensure, sys; assert not {'torch', 'timm', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=5),
    dtype=st.sampled_from(DTYPES),
    header=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
)
def test_the_writer_agrees_with_the_librarys_reader(tmp_path_factory, shapes, dtype, header):
    path = tmp_path_factory.mktemp("w") / "x.safetensors"
    header.pop("format", None)
    tensors = {f"t{i}": (torch.rand(s) * 9).to(dtype) for i, s in enumerate(shapes)} | {"zz": torch.tensor(7)}
    write_safetensors(path, tensors, header)
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[k], v) and loaded[k].dtype == v.dtype for k, v in tensors.items())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {**header, "format": "pt"}
    assert read_header(path) == {**header, "format": "pt"}
