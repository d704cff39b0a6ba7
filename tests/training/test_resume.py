"""Kills, signals, damage and second starts: a run ends with the same losses and weights, to the bit."""

import os
import random
import signal
import subprocess
import sys
import time

import hostile
import pytest
import torch
from runs import EXPORTED, RECIPE, command, losses, status, until, weights_sha256, write_data
from safetensors import safe_open
from zygote import ROOT

from robust_zoo import files
from robust_zoo.errors import StorageError, VerificationFailed
from robust_zoo.training import checkpoint_files as checkpoint

STEPS = 15  # 3 epochs of 5


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory):
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(zygote, folder, folder / "run") == 0
    return folder / "run"


def run(zygote, folder, out, **kwargs):
    return zygote.wait(zygote.start(command(folder, out), folder / "output.txt", **kwargs))


def steps_logged(out):
    return len((out / "log.jsonl").read_bytes().splitlines()) if (out / "log.jsonl").exists() else 0


def same(out, whole):
    assert losses(out) == losses(whole)
    assert weights_sha256(out) == weights_sha256(whole)
    assert status(out)["state"] == "finished"
    assert not list(out.glob(".*.tmp"))


def test_the_uninterrupted_run(whole):
    assert [step for step, _ in losses(whole)] == list(range(1, STEPS + 1))
    assert len(list(whole.glob("checkpoint-*.safetensors"))) == len(list(whole.glob("checkpoint-*.sha256"))) == 2
    assert (whole / "row.toml").exists() and (whole / "card.md").exists()


def test_twenty_kills_at_random_moments_change_nothing(zygote, whole, tmp_path):
    out, rng = tmp_path / "run", random.Random(0)
    for _ in range(20):
        pid = zygote.start(command(tmp_path, out), tmp_path / "output.txt")
        seen = steps_logged(out)
        until(lambda seen=seen: steps_logged(out) > min(seen, STEPS - 1) or (out / EXPORTED).exists())
        time.sleep(rng.random() * 0.3)
        os.kill(pid, signal.SIGKILL)
        assert zygote.wait(pid) in (-signal.SIGKILL, 0)
        if (out / EXPORTED).exists():
            (out / EXPORTED).unlink()
    assert run(zygote, tmp_path, out) == 0
    same(out, whole)


@pytest.mark.parametrize("where", ["write", "fsync", "replace", "directory"])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_inside_a_checkpoint_write_changes_nothing(zygote, whole, tmp_path, where, after):
    out = tmp_path / "run"
    for n in (3, 8, 9):  # the status, hashes and checkpoints of the first steps
        assert run(zygote, tmp_path, out, die_at=[where, -n if after else n]) == -signal.SIGKILL
    assert run(zygote, tmp_path, out) == 0
    same(out, whole)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_signals_save_and_exit_75(zygote, whole, tmp_path, name):
    out = tmp_path / "run"
    for at in (0, 4, 9):  # before the first step is logged, and in the run
        pid = zygote.start(command(tmp_path, out), tmp_path / "output.txt")
        until(lambda at=at: (out / "status.json").exists() and steps_logged(out) >= at)
        started = time.monotonic()
        os.kill(pid, getattr(signal, name))
        assert zygote.wait(pid) == 75
        assert time.monotonic() - started < 20
        assert (status(out)["state"], status(out)["reason"]) == ("stopped", name)
    assert run(zygote, tmp_path, out) == 0
    same(out, whole)
    assert "the same command goes on" in (tmp_path / "output.txt").read_text()


def test_a_signal_during_the_held_out_check_and_the_final_measurement(zygote, whole, tmp_path):
    out = tmp_path / "run"
    pid = zygote.start(command(tmp_path, out), tmp_path / "output.txt")
    until(lambda: steps_logged(out) >= 5)  # the check follows at once
    os.kill(pid, signal.SIGTERM)
    assert zygote.wait(pid) == 75
    pid = zygote.start(command(tmp_path, out), tmp_path / "output.txt")
    until(lambda: (out / "status.json").exists() and status(out)["state"] == "trained")
    os.kill(pid, signal.SIGTERM)
    assert zygote.wait(pid) in (75, 0)
    assert run(zygote, tmp_path, out) == 0
    same(out, whole)


def test_a_second_start_on_a_live_run_is_refused(zygote, tmp_path):
    out = tmp_path / "run"
    pid = zygote.start(command(tmp_path, out), tmp_path / "output.txt")
    until(lambda: steps_logged(out) >= 1)
    assert zygote.wait(zygote.start(command(tmp_path, out), tmp_path / "second.txt")) == 2
    said = (tmp_path / "second.txt").read_text()
    assert "live already" in said and f"process {pid} on" in said and "Traceback" not in said
    os.kill(pid, signal.SIGKILL)
    zygote.wait(pid)


def test_another_recipe_data_or_precision_does_not_continue_a_run(zygote, whole, tmp_path):
    cases = [("recipe", RECIPE + "lr = 0.1\n", "fp32"), ("precision", RECIPE, "bf16"), ("precision", RECIPE, "fp64")]
    cases += [("data_sha256", RECIPE, "fp32"), ("test_data_sha256", RECIPE, "fp32")]
    for what, recipe, precision in cases:
        folder = tmp_path / f"{what} {precision}"
        folder.mkdir()
        more = ["--precision", precision]
        if what == "data_sha256":
            write_data(folder / "data.npz", train=90)
        if what == "test_data_sha256":
            write_data(folder / "data.npz", test=19)
        arguments = command(folder, whole, *more, recipe=recipe)
        assert zygote.wait(zygote.start(arguments, folder / "output.txt")) == 2
        said = (folder / "output.txt").read_text()
        assert f"holds a run of another {what}" in said and "Traceback" not in said
        assert what != "recipe" or ("'lr': 0.25" in said and "'lr': 0.1" in said)
        assert what != "precision" or f"precision: fp32, as the run was begun with\n  actual:   {precision}" in said


def test_damaged_checkpoints_are_never_loaded(whole, tmp_path):
    """100 truncations and flipped bits of the newest: the one before it is used, and said so."""
    newest, previous = checkpoint.checkpoints(whole)
    rng, good = random.Random(1), newest.read_bytes()
    for path in (newest, previous):
        for file in (path, checkpoint._hash_of(path)):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    for i in range(100):
        damaged = bytearray(good)
        if i % 2:
            damaged[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        else:
            del damaged[rng.randrange(len(good)) :]
        (tmp_path / newest.name).write_bytes(damaged)
        content, passed_over = checkpoint.newest_whole(tmp_path)
        assert content[:] == previous.read_bytes() and passed_over == [newest.name]
    (tmp_path / newest.name).write_bytes(good)
    checkpoint._hash_of(tmp_path / newest.name).unlink()  # never completed
    assert checkpoint.newest_whole(tmp_path)[1] == [newest.name]
    (tmp_path / previous.name).write_bytes(b"")
    with pytest.raises(VerificationFailed, match="no checkpoint of this run is whole"):
        checkpoint.newest_whole(tmp_path)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(zygote, whole, tmp_path):
    out = tmp_path / "run"
    pid = zygote.start(command(tmp_path, out), tmp_path / "output.txt")
    until(lambda: steps_logged(out) >= 8)
    os.kill(pid, signal.SIGKILL)
    zygote.wait(pid)
    newest = checkpoint.checkpoints(out)[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    assert run(zygote, tmp_path, out) == 0
    same(out, whole)
    assert f"{newest.name} is damaged" in (tmp_path / "output.txt").read_text()


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    checkpoint.write_checkpoint(tmp_path, 0, 1, {"a": torch.ones(3)})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="cannot write checkpoint-0000-00000002"):
        checkpoint.write_checkpoint(tmp_path, 0, 2, {"a": torch.zeros(3)})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def raw(tensor):
    """The numbers of a tensor as bytes, in the order of its axes."""
    return bytes(tensor.flatten().clone().untyped_storage())


def test_what_was_saved_comes_back_to_the_bit(tmp_path):
    """Every value of a float, the order of memory, keys that are numbers, empty things."""
    tensors = {
        "odd": torch.tensor([float("nan"), -0.0, float("inf"), 1e-45]),
        "weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "one": torch.randn(5, 3, 1, 1).to(memory_format=torch.channels_last),
        "part": torch.randn(4, 4)[1:3, 1:],
        "half": torch.randn(3).half(),
        "brain": torch.randn(2, 2).bfloat16(),
        "none": torch.empty(0, 3),
        "count": torch.tensor(3),
    }
    values = {
        "lr": 0.1 + 0.2,
        "tiny": 5e-324,
        "big": 1e308,
        "none": None,
        "flag": True,
        "text": "é",
        "list": [1, [2.5]],
    }
    state = {
        "model": tensors,
        "optimizer": {"state": {0: {"momentum_buffer": tensors["weight"]}, 1: {}}},
        "values": values,
    }
    path = checkpoint.write_checkpoint(tmp_path, 1, 2, state)
    found = checkpoint.read_checkpoint(checkpoint.newest_whole(tmp_path)[0])
    assert found["values"] == values and found["optimizer"]["state"].keys() == {0, 1}
    pairs = [(found["optimizer"]["state"][0]["momentum_buffer"], tensors["weight"])]
    for got, tensor in pairs + [(found["model"][name], tensor) for name, tensor in tensors.items()]:
        assert (got.dtype, got.shape, raw(got)) == (tensor.dtype, tensor.shape, raw(tensor))
        assert got.stride() == tensor.stride() or tensor is tensors["part"]
    with safe_open(path, "pt") as file:  # by the library's own reader too
        assert raw(file.get_tensor("state/optimizer/state/0/momentum_buffer")) == raw(tensors["weight"])


STRAY = [
    "folder", "full folder", "link", "pipe", "file", "folder for the hash", "pipe for the hash", "link for the hash",
    "stray hash", "bytes for the hash", "other names",
]  # fmt: skip


@pytest.mark.parametrize("what", STRAY)
def test_stray_things_under_checkpoints_names_do_not_block_a_run(tmp_path, what):
    """None is followed or waited for; the newest whole checkpoint is found, and the next one can be written."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.write_text("mine")
    checkpoint.write_checkpoint(run, 0, 5, {"a": torch.ones(3)})
    name = run / "checkpoint-0001-00000010.safetensors"
    sidecar = checkpoint._hash_of(name)
    if "for the hash" in what:
        name.write_bytes(b"cut")
    if what == "full folder":
        (name / "inside").mkdir(parents=True)
    elif "folder" in what:
        (sidecar if "hash" in what else name).mkdir()
    elif "link" in what:
        (sidecar if "hash" in what else name).symlink_to(outside)
    elif "pipe" in what:
        os.mkfifo(sidecar if "hash" in what else name)
    elif what == "file":
        name.write_bytes(b"x")
    elif what == "stray hash":
        sidecar.write_text("0" * 64)
        (run / "checkpoint-0000-00000001.safetensors.sha256").mkdir()
    elif what == "bytes for the hash":
        sidecar.write_bytes(b"\xff\x00" * 100_000)
    else:
        for stray in ("checkpoint-last.safetensors", "checkpoint-9-9.safetensors", "checkpoint-.safetensors.sha256"):
            (run / stray).write_text("x")
    content, damaged = checkpoint.newest_whole(run)
    assert checkpoint.read_checkpoint(content)["a"].tolist() == [1, 1, 1]
    assert damaged == ([name.name] if what == "file" or "for the hash" in what else [])
    for step in (10, 11, 12):
        checkpoint.write_checkpoint(run, 1, step, {"a": torch.full((3,), float(step))})
    content, damaged = checkpoint.newest_whole(run)
    assert checkpoint.read_checkpoint(content)["a"].tolist() == [12, 12, 12] and not damaged
    assert [p.name[-14:-12] for p in checkpoint.checkpoints(run)] == ["12", "11"]
    assert outside.read_text() == "mine"
    assert what != "full folder" or len(list(run.glob("*.aside/inside"))) == 1


def test_checkpoints_of_the_older_format_are_said_and_not_opened(zygote, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    canary = tmp_path / "canary"
    (out / "checkpoint-0001-00000005.pt").write_bytes(hostile.saved(hostile.calls(canary)["open"]))
    assert run(zygote, tmp_path, out) == 2
    said = (tmp_path / "output.txt").read_text()
    assert "older robust_zoo" in said and "next:" in said and "Traceback" not in said and not canary.exists()


@pytest.mark.parametrize("name", ["lock", "log.jsonl"])
@pytest.mark.parametrize("how", ["link", "dangling link", "hard link", "pipe", "folder"])
def test_planted_links_in_a_run_are_not_written_through(zygote, tmp_path, name, how):
    out, outside = tmp_path / "run", tmp_path / "outside"
    out.mkdir()
    if how != "dangling link":
        outside.write_text('{"kind": "mine"}\n')
    if "hard" in how:
        (out / name).hardlink_to(outside)
    elif "link" in how:
        (out / name).symlink_to(outside)
    else:
        os.mkfifo(out / name) if how == "pipe" else (out / name).mkdir()
    code = run(zygote, tmp_path, out)
    said = (tmp_path / "output.txt").read_text()
    assert "Traceback" not in said and code == (0 if how == "hard link" else 2)
    assert code == 0 or f"{name} is not an ordinary file" in said
    assert not outside.exists() if how == "dangling link" else outside.read_text() == '{"kind": "mine"}\n'


@pytest.mark.parametrize("state", [{"a": 1}, {"identity": [], "model": {}, "optimizer": 3}, {"identity": {}}])
def test_a_checkpoint_of_something_else_is_said(zygote, tmp_path, state):
    """Its hash is right: whoever planted it made that too."""
    out = tmp_path / "run"
    out.mkdir()
    checkpoint.write_checkpoint(out, 1, 5, state)
    assert run(zygote, tmp_path, out) == 1
    said = (tmp_path / "output.txt").read_text()
    assert "not one that robust_zoo wrote" in said and "Traceback" not in said


def test_five_kills_of_a_rank_change_nothing(zygote, two_ranks, tmp_path):
    """Without SyncBN: each rank has batch statistics of its own, and rank 0's running ones are shared."""
    recipe = RECIPE.replace("epochs = 3", "epochs = 8") + "random_start = true\nema_decay = 0.9\n"
    whole, out, rng = tmp_path / "whole", tmp_path / "run", random.Random(2)
    assert [zygote.wait(pid) for pid in two_ranks(whole, recipe=recipe)] == [0, 0]
    for kill in range(5):
        pids = two_ranks(out, recipe=recipe)
        seen = steps_logged(out)
        # Both have met: one whose peer is gone before that would wait for it for ten minutes.
        until(lambda seen=seen, first=pids[0]: steps_logged(out) > seen + 1 and status(out)["pid"] == first)
        time.sleep(rng.random() * 0.3)
        os.kill(pids[kill % 2], signal.SIGKILL)
        codes = [zygote.wait(pid) for pid in pids]
        assert codes[kill % 2] == -signal.SIGKILL and codes[1 - kill % 2] != 0  # the other ends by itself
    pids = two_ranks(out, recipe=recipe)
    until(lambda: status(out)["state"] == "running")
    time.sleep(0.5)
    os.kill(pids[1], signal.SIGTERM)  # one rank is told, all stop at the same step
    codes = [zygote.wait(pid) for pid in pids]
    assert codes in ([75, 75], [0, 0])
    if codes == [75, 75]:
        assert [zygote.wait(pid) for pid in two_ranks(out, recipe=recipe)] == [0, 0]
    same(out, whole)


def test_torchrun_starts_two_processes_that_save_on_sigterm(zygote, two_ranks, tmp_path):
    """The real launcher, terminated; two processes go on to the end, and it ends what they finished."""
    out = tmp_path / "run"
    arguments = [str(a) for a in command(tmp_path, out, recipe=RECIPE)[1:]]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launched = subprocess.Popen(
        [*launcher, "-m", "robust_zoo.training", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    until(lambda: launched.poll() is not None or ((out / "log.jsonl").exists() and losses(out)))
    launched.terminate()
    launched.communicate(timeout=60)
    assert status(out)["state"] == "stopped"
    assert status(out)["reason"] in ("SIGTERM", "another process was told to stop")
    stopped_at = status(out)["step"]
    assert [zygote.wait(pid) for pid in two_ranks(out, recipe=RECIPE)] == [0, 0]
    assert status(out)["state"] == "finished" and 0 < stopped_at < STEPS
    assert [step for step, _ in losses(out)] == list(range(1, STEPS + 1))


def test_two_ranks_with_half_the_batch_are_one_rank(apart_from_one):
    """With SyncBN, in float64: the same losses but for rounding."""
    assert apart_from_one(RECIPE.replace("epochs = 3", "epochs = 2") + "sync_bn = true\n") < 1e-9


def test_another_number_of_processes_does_not_continue_a_run(zygote, two_ranks, whole, tmp_path):
    assert [zygote.wait(pid) for pid in two_ranks(whole, recipe=RECIPE)] == [2, 2]
    assert "holds a run of another processes" in (tmp_path / "rank0.txt").read_text()


def test_nan_on_one_rank_stops_all_and_names_the_layer(zygote, two_ranks, tmp_path):
    out = tmp_path / "run"
    started = time.monotonic()
    codes = [zygote.wait(pid) for pid in two_ranks(out, recipe=RECIPE + "lr = 1e30\n")]
    assert codes == [1, 1] and time.monotonic() - started < 60
    assert status(out)["state"] == "failed"
    said = (tmp_path / "rank0.txt").read_text()
    assert "the training has diverged" in said and "Traceback" not in said
