"""The contained process: stand-ins for classes; what is hashed is what is read; no module of the current directory."""

import argparse
import collections
import datetime
import hashlib
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
from dataclasses import replace

import checkpoints
import numpy as np
import pytest
import torch
from checkpoints import ROBUSTNESS
from fault_table import fault
from hostile import saved

from robust_zoo.errors import Refused, VerificationFailed
from robust_zoo.files import sha256_of
from robust_zoo.registry.lookup import get, get_architecture
from robust_zoo.weights import batch_worker, contained, content, convert_worker, own, stand_ins
from robust_zoo.weights.convert import convert
from robust_zoo.weights.ensure import ensure
from robust_zoo.weights.formats import unwrap
from robust_zoo.weights.safetensors_file import write_safetensors

TINY = get_architecture("shufflenet")
ROOT = pathlib.Path(__file__).parents[2]


# --- stand-ins ---


def batch(images, labels, protocol=2):
    return pickle.dumps({"data": images, "labels": labels, "filenames": ["a.png"]}, protocol=protocol)


def read(path):
    """(images, labels) as the contained process hands them out, run in this one."""
    answer, content = batch_worker.work({"source": str(path), "label": "labels"})
    n = answer["images"]
    images = np.frombuffer(content[: n * 3072], np.uint8).reshape(n, 3072)
    return images, np.frombuffer(content[n * 3072 :], "<i8").tolist()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("how", ["list", "array", "big-endian", "small", "scalars", "fortran", "four axes"])
def test_batches_are_read_as_numpy_reads_them(tmp_path, images, how, protocol):
    labels = {
        "array": np.array([2, 0, 1]), "big-endian": np.array([2, 0, 1], ">i4"), "small": np.array([2, 0, 1], "u1"),
        "scalars": [np.int64(2), np.uint8(0), 1],
    }.get(how, [2, 0, 1])  # fmt: skip
    data = {"fortran": np.asfortranarray(images), "four axes": images.reshape(3, 3, 32, 32)}.get(how, images)
    (tmp_path / "batch").write_bytes(batch(data, labels, protocol))
    found, numbers = read(tmp_path / "batch")
    assert (found == images).all() and numbers == [2, 0, 1]


def test_a_batch_as_python_2_wrote_it(tmp_path, images):
    """As the authors' own files: strings of bytes, numpy.core, a long state."""
    raw = images.tobytes()
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87R"
        b"(K\x01K\x03M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tbU\x06labelsq\x06](K\x02K\x00K\x01eu."
    )
    assert (pickle.loads(content, encoding="latin1")["data"] == images).all()  # the control
    (tmp_path / "batch").write_bytes(content)
    found, numbers = read(tmp_path / "batch")
    assert (found == images).all() and numbers == [2, 0, 1]


def test_no_name_of_a_pickle_is_looked_up(images):
    """numpy's own classes neither: what comes out is ours, and what a forged state says stays a value."""
    kinds = {type(one) for one in (batch_worker._Unpickler(io.BytesIO(pickle.dumps(v, p))).load()
             for v in (images, np.dtype("f4"), np.float64(1), np.float32) for p in range(6))}  # fmt: skip
    assert {kind.__module__ for kind in kinds - {type}} == {stand_ins.__name__}
    forged = pickle.dumps(np.dtype("f4"), 2).replace(b"K\x03", b"K\x04")
    forged = forged.replace(b"NNN", b"N(X\x01\x00\x00\x00atNJ\x41\x41\x41\x41\x86")  # names and fields at odds
    found = batch_worker._Unpickler(io.BytesIO(forged)).load()
    assert type(found) is stand_ins.DType and found.state[0] == 4


@fault("pickle")
@pytest.mark.parametrize("dtype", ["O", "V8", "M8[s]", "U4", "S4", "c16", [("a", "f4")]])
def test_an_array_is_of_plain_numbers_or_refused(tmp_path, images, dtype):
    labels = np.zeros(3, dtype=np.dtype(dtype))
    (tmp_path / "batch").write_bytes(batch(images, labels))
    with pytest.raises(Refused, match="not a batch"):
        read(tmp_path / "batch")


BROKEN = {
    "short": lambda images: batch(images[:, :-1], [0, 1, 2]),
    "labels": lambda images: batch(images, [0, 1]),
    "floats": lambda images: batch(images, [0.0, 1.0, 2.0]),
    "float images": lambda images: batch(images.astype("f4"), [0, 1, 2]),
    "huge": lambda images: batch(images, [0, 1, 1 << 70]),
    "bool": lambda images: batch(images, [True, False, True]),
    "strings": lambda images: batch(images, "abc"),
    "no data": lambda images: pickle.dumps({"labels": [0, 1, 2]}),
    "a list": lambda images: pickle.dumps([1, 2]),
    "cut": lambda images: batch(images, [0, 1, 2])[:500],
    "empty": lambda images: b"",
    "text": lambda images: b"version https://git-lfs",
    "bytes": lambda images: batch(images, [0, 1, 2]).replace(struct.pack("<H", 3072), struct.pack("<H", 3073)),
    "persistent": lambda images: b"\x80\x02X\x01\x00\x00\x00aQ.",
    "extension": lambda images: b"\x80\x02\x82\x01.",
    "state of a class": lambda images: b"\x80\x02cnumpy\ndtype\n}X\x08\x00\x00\x00__init__K\x01sb.",
    "slots of a class": lambda images: b"\x80\x02cargparse\nNamespace\nN}X\x01\x00\x00\x00aK\x01s\x86b.",
    "memo": lambda images: b"\x80\x02Nr\xff\xff\xff\x7f.",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_batches_are_refused(tmp_path, images, fault):
    (tmp_path / "batch").write_bytes(BROKEN[fault](images))
    with pytest.raises((Refused, MemoryError)) as error:
        read(tmp_path / "batch")
    assert isinstance(error.value, MemoryError) or (error.value.expected and error.value.actual)


class Elsewhere(collections.OrderedDict):
    """A class of the user's."""


def test_data_beside_weights_is_inert(tmp_path):
    """Schedules, settings, generators' states: read over, whatever they say; what is not of that kind is told."""
    state = {"fc.weight": torch.randn(10, 4), "fc.bias": torch.randn(10)}
    beside = {
        "args": argparse.Namespace(arch="resnet18", lr=np.float64(0.1)), "more": types.SimpleNamespace(a=1),
        "out": pathlib.PurePosixPath("runs/1"), "when": datetime.datetime(2020, 1, 1), "loss": np.float32(1.5),
        "curve": np.arange(5.0), "kind": np.float32, "dtype": np.dtype("f4"), "rng": np.random.get_state(),
        "generator": np.random.default_rng(0), "counts": collections.defaultdict(list, a=[1]), "flag": np.bool_(True),
    }  # fmt: skip
    for legacy in (False, True):
        (tmp_path / "a.ckpt").write_bytes(saved({"state_dict": state, **beside}, legacy=legacy))
        raw = convert_worker.load_content(tmp_path / "a.ckpt")
        assert isinstance(raw["args"], stand_ins.Inert) and raw["args"].state["arch"] == "resnet18"
        assert not any(type(value).__module__.startswith("numpy") for value in raw.values())
        found = unwrap(raw, ROBUSTNESS).state
        assert all(torch.equal(found[k], v) for k, v in state.items())
    (tmp_path / "a.ckpt").write_bytes(saved({"state_dict": state, "config": Elsewhere(a=1)}))
    assert type(convert_worker.load_content(tmp_path / "a.ckpt")["config"]) is collections.OrderedDict
    (tmp_path / "a.ckpt").write_bytes(saved({"state_dict": state, "config": np.memmap}))
    with pytest.raises(Refused) as error:
        convert_worker.load_content(tmp_path / "a.ckpt")
    assert "would import numpy.memmap" in error.value.actual


# --- what is hashed is what is read ---


@pytest.fixture
def two(tmp_path):
    """A file, other weights of the same architecture under another name, and the first one's hash."""
    checkpoints.save(tmp_path / "a.ckpt", "shufflenet", seed=0)
    checkpoints.save(tmp_path / "b.ckpt", "shufflenet", seed=1)
    return tmp_path / "a.ckpt", tmp_path / "b.ckpt"


@pytest.fixture
def swap(two, monkeypatch):
    """Puts the other file under the first one's name at the last moment of this process: when the child is started."""
    real = contained.subprocess.run

    def start(path, how):
        def run(*args, **kwargs):
            if how == "rename":
                two[1].replace(path)
            else:
                path.unlink()
                path.symlink_to(two[1]) if how == "link" else path.hardlink_to(two[1])
            return real(*args, **kwargs)

        monkeypatch.setattr(contained.subprocess, "run", run)

    return start


@fault("links", "links")
@pytest.mark.parametrize("how", ["rename", "link"])
def test_a_file_swapped_after_it_was_hashed_is_not_converted(tmp_path, two, swap, how):
    swap(two[0], how)
    with pytest.raises(VerificationFailed, match="changed after it was hashed") as error:
        own.load(two[0], TINY, tmp_path / "cache")
    assert all(error.value.fields.values()) and "sha256" in error.value.actual
    assert not list((tmp_path / "cache").rglob("*.safetensors*"))


@fault("links")
def test_a_file_of_a_site_that_is_swapped_is_never_pinned(tmp_path, two, swap, own_machine, monkeypatch):
    row = get("shufflenet_l2_eps3")
    row = replace(row, sha256=sha256_of(two[0]), size=two[0].stat().st_size)
    site = tmp_path / "site"
    site.mkdir()
    two[0].replace(site / row.file)
    monkeypatch.setenv("ROBUST_ZOO_PATH", str(site))
    swap(site / row.file, "hard link")
    with pytest.raises(VerificationFailed, match="changed after it was hashed"):
        ensure(row, offline=True)
    assert not list(own_machine.rglob("*.safetensors*")) and not list(own_machine.rglob("*.json"))


def test_a_file_that_changes_while_it_is_converted_is_what_was_hashed(tmp_path, monkeypatch):
    """The first moment after hashing: what is under the name by then is not looked at any more."""
    state = {"fc.weight": torch.randn(1000, 400), "fc.bias": torch.randn(1000)}
    path, real = tmp_path / "a.ckpt", hashlib.sha256

    class Overwriting:
        def __init__(self):
            self.hash = real()
            self.update = self.hash.update

        def hexdigest(self):
            path.write_bytes(bytes(path.stat().st_size))  # the same file, in place: what is mapped of it changes too
            return self.hash.hexdigest()

    monkeypatch.setattr(content, "hashlib", types.SimpleNamespace(sha256=Overwriting))
    converted = tmp_path / "a.safetensors"
    write_safetensors(converted, state, {})
    files = [saved({"model": state}), saved({"model": state}, legacy=True), converted.read_bytes()]
    for sound in files:
        path.write_bytes(sound)
        raw = convert_worker.load_content(path, real(sound).hexdigest())
        assert all(torch.equal(raw.get("model", raw)[k], v) for k, v in state.items())
        assert path.read_bytes() == bytes(len(sound))


def test_a_pipe_under_the_name_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.ckpt")
    with pytest.raises(Refused, match="cannot be read"):
        convert_worker.load_content(tmp_path / "a.ckpt")


@fault("bomb")
def test_a_sparse_file_is_judged_by_its_size(tmp_path):
    with (tmp_path / "a.ckpt").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Refused, match="too large") as error:
        convert(tmp_path / "a.ckpt", tmp_path / "out", TINY, {})
    assert all(error.value.fields.values())


# --- the child's path ---


@fault("names", "names", "names")
@pytest.mark.parametrize("how", ["-c", "-m"])
def test_no_module_of_the_current_directory_runs(tmp_path, how):
    """sys.path has '' with -c, the directory itself with -m, and with both what a relative PYTHONPATH says."""
    here = tmp_path / "downloads"
    (here / "libs").mkdir(parents=True)
    evil = f"import sys; open({str(tmp_path / 'canary')!r}, 'a').write(__name__ + ' '); del sys.modules[__name__]\n"
    for module in ("torch", "timm", "safetensors", "numpy", "torchvision", "huggingface_hub"):
        for folder in (here, here / "libs"):
            (folder / f"{module}.py").write_text(evil)
    checkpoints.save(here / "a.ckpt", "shufflenet")
    (here / "go.py").write_text(
        "import pathlib\nfrom robust_zoo.registry.lookup import get_architecture\n"
        "from robust_zoo.weights.convert import convert\n"
        "answer = convert(pathlib.Path('a.ckpt'), pathlib.Path('out'), get_architecture('shufflenet'), {})\n"
        "print(answer['num_classes'])\n"
    )
    arguments = {"-c": ["-c", "import runpy; runpy.run_path('go.py')"], "-m": ["-m", "go"]}[how]
    path = os.pathsep.join([str(ROOT), "libs", ""])
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | {"PYTHONPATH": path}
    result = subprocess.run([sys.executable, *arguments], cwd=here, env=environment, capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("1000\n", 0), result.stderr
    assert not (tmp_path / "canary").exists()


def test_other_processes_of_a_command_leave_the_current_directory_out(tmp_path):
    """As those of `--jobs`: Python starts them with -c, which would look there first."""
    (tmp_path / "multiprocessing.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    code = """
from multiprocessing import get_context
from robust_zoo.cli import main
if __name__ == "__main__":
    main(["--version"], standalone_mode=False)
    child = get_context("spawn").Process(target=print, args=("here",))
    child.start()
    child.join()
"""
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "go.py").write_text(code)  # as the installed command lies apart
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = [sys.executable, str(tmp_path / "apart" / "go.py")]
    result = subprocess.run(start, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "here" in result.stdout and not (tmp_path / "canary").exists(), result.stderr


def test_what_a_child_may_answer(tmp_path, monkeypatch):
    """A child that was taken over says what it likes: it gets no class but those of our errors, and prints nothing."""
    answers = {
        b'{"error": ["difflib", "x", {}]}': Refused, b"[1]": Refused, b"": Refused, b"\xff": Refused,
        b'{"error": 1}': Refused, b'{"error": ["Refused", 1, {}]}': Refused, b"[" * 100_000: Refused,
        b'{"error": ["VerificationFailed", "\\u001b[2J", {"actual": "\\u0007"}]}': VerificationFailed,
    }  # fmt: skip
    for line, kind in answers.items():
        done = subprocess.CompletedProcess([], 1, line + b"\n", b"\x1b[2Jbad")
        monkeypatch.setattr(contained.subprocess, "run", lambda *a, done=done, **k: done)
        with pytest.raises(kind) as error:
            contained.ask("x", {}, memory=1, seconds=1, time_limit=1, source=tmp_path, model="m", next="n")
        assert all(part.isprintable() for part in str(error.value).splitlines())
