"""Processes that share an evaluation: the same entry, whoever is killed when; errors as of one, and none is left."""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from verbs import run_to as run

from robust_zoo.errors import StorageError, UsageError, ZooError
from robust_zoo.training.evaluation import engine, ledger
from robust_zoo.training.workers import Workers

NAME = "resnet18_x0_25_cifar10_l2_eps0_5"
ATTACK = ["--attack", "pgd-4x2", "--norm", "l2", "--eps", "0.5"]  # short, and with random starts
SHORT = ["evaluate", NAME, *ATTACK, "--n", 60, "--batch-size", 10, "--no-checks", "--out"]
LONG = ["evaluate", NAME, "--attack", "pgd-9999", "--n", 60, "--batch-size", 10, "--no-checks", "--jobs", 2, "--out"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The entry of one process, and every image's fate."""
    folder = tmp_path_factory.mktemp("alone")
    run(*SHORT, folder)
    return settled(folder)


def settled(folder):
    (file,) = folder.rglob("*.json")
    entry = json.loads(file.read_text())
    assert not list((folder / "parts").iterdir())
    return file.name, {k: v for k, v in entry.items() if k not in ledger.TIMES}, file.with_suffix(".npz").read_bytes()


def children(pid):
    """Processes that a process started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            found += [int(stat.parent.name)] if int(parent) == pid and state != "Z" else []
    return found


def sharing(pid):
    """Those of them that share its work: one more looks after what multiprocessing leaves."""
    return [p for p in children(pid) if b"resource_tracker" not in Path(f"/proc/{p}/cmdline").read_bytes()]


def until(true, seconds=60):
    """Waits for it. Returns what it gave."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
    return found


def gone(pids):
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_two_processes_give_the_same_entry(zygote, alone, tmp_path):
    """Started as a user's are, by a model whose attacks they never saw before."""
    output = tmp_path / "output.txt"
    pid = zygote.start([*SHORT, tmp_path / "ledger", "--jobs", 2], output, spawn=True)
    assert zygote.wait(pid) == 0, output.read_text()
    assert settled(tmp_path / "ledger") == alone


def test_kills_and_other_numbers_of_jobs_change_nothing(zygote, alone, tmp_path):
    rng, output, ledger_dir = random.Random(1), tmp_path / "output.txt", tmp_path / "ledger"
    for jobs in (2, 1, 3, 2):
        pid = zygote.start([*SHORT, ledger_dir, "--jobs", jobs], output)
        time.sleep(0.3 + 0.7 * rng.random())
        workers = children(pid)
        os.kill(pid, signal.SIGKILL)
        assert zygote.wait(pid) in (0, -signal.SIGKILL)
        until(lambda workers=workers: gone(workers), 5)
    assert zygote.wait(zygote.start([*SHORT, ledger_dir, "--jobs", 3], output)) == 0, output.read_text()
    assert settled(ledger_dir) == alone and "Traceback" not in output.read_text()


@pytest.mark.parametrize("whom, number, code, said", [
    ("parent", signal.SIGINT, 130, "interrupted"), ("parent", signal.SIGTERM, -signal.SIGTERM, ""),
    ("all", signal.SIGINT, 130, "interrupted"),  # as a terminal sends it
    ("worker", signal.SIGKILL, 5, "a process that shared the work was killed"),  # as the system does without memory
])  # fmt: skip
def test_whoever_is_ended_nobody_is_left(zygote, tmp_path, whom, number, code, said):
    output = tmp_path / "output.txt"
    pid = zygote.start([*LONG, tmp_path / "ledger"], output)
    workers = until(lambda: len(found := sharing(pid)) == 2 and found)
    started = children(pid)
    for one in {"parent": [pid], "worker": workers[:1], "all": [pid, *workers]}[whom]:
        os.kill(one, number)
    assert zygote.wait(pid) == code, output.read_text()
    until(lambda: gone(started), 5)
    text = output.read_text()
    assert said in text and "Traceback" not in text
    assert whom != "worker" or ("SIGKILL" in text and "goes on where it was; with fewer --jobs" in text)
