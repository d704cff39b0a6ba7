"""Processes that share an evaluation: the same entry, whoever is killed when; errors as of one, and none is left."""

import contextlib
import json
import os
import pickle
import random
import signal
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from verbs import run_to as run

from robust_zoo.errors import UsageError, ZooError
from robust_zoo.threat import ThreatModel
from robust_zoo.training.attacks.suites import Stage
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.evaluation import engine, ledger, submitted
from robust_zoo.training.evaluation.run import EvaluationPlan
from robust_zoo.training.jobs import workers
from robust_zoo.training.jobs.workers import Workers

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


def test_a_process_of_its_own_gives_the_same_entry(zygote, tmp_path):
    """Started as a user's are; there is one batch, so one is enough for --jobs 2."""
    output, (*short, out) = tmp_path / "output.txt", SHORT
    pid = zygote.start([*short, "--n", 10, out, tmp_path / "ledger", "--jobs", 2], output, spawn=True)
    assert zygote.wait(pid) == 0, output.read_text()
    run(*short, "--n", 10, out, tmp_path / "alone")
    assert settled(tmp_path / "ledger") == settled(tmp_path / "alone")


def test_kills_and_other_numbers_of_jobs_change_nothing(zygote, alone, tmp_path):
    rng, output, ledger_dir = random.Random(2), tmp_path / "output.txt", tmp_path / "ledger"
    for jobs in (2, 3):
        pid = zygote.start([*SHORT, ledger_dir, "--jobs", jobs], output)
        time.sleep(0.3 + 0.7 * rng.random())
        workers = children(pid)
        os.kill(pid, signal.SIGKILL)
        assert zygote.wait(pid) in (0, -signal.SIGKILL)
        until(lambda workers=workers: gone(workers), 5)
    assert zygote.wait(zygote.start([*SHORT, ledger_dir, "--jobs", 2], output)) == 0, output.read_text()
    assert settled(ledger_dir) == alone and "Traceback" not in output.read_text()


@pytest.mark.parametrize("whom, number, code, said", [
    ("parent", signal.SIGTERM, -signal.SIGTERM, ""),
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


@pytest.fixture
def forked(monkeypatch):
    monkeypatch.setattr(workers, "get_context", lambda method: get_context("fork"))


def task(what, tell):
    """Sleeps so long, raises it, ends so, or says what it was given."""
    if isinstance(what, Exception):
        raise what
    if isinstance(what, tuple):
        os._exit(*what)
    if isinstance(what, float):
        time.sleep(what)
        tell(f"slept {what}")
    return os.getpid()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_tasks_are_drawn_when_a_process_is_free_and_told_as_they_are_done(forked):
    drawn, told = [], []

    def tasks():
        for what in (0.5, "a", "b", "c", 0.01):
            drawn.append(what)
            yield what

    with Workers(2) as two:
        done = []
        for number, pid in two.run(task, tasks(), 5, lambda number, word: told.append((number, word))):
            done.append((number, pid))
            assert len(drawn) <= len(done) + 2
        started = [process.pid for process in two._processes.values()]
    assert [number for number, _ in done] == [1, 2, 3, 4, 0] and told == [(4, "slept 0.01"), (0, "slept 0.5")]
    assert len({pid for _, pid in done}) == 2 and {pid for _, pid in done} == {*started} and gone(started)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("what, kind, said", [
    (UsageError("no", expected="a", actual="b"), UsageError, "no\n  expected: a\n  actual:   b"),
    (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError, "OutOfMemoryError: CUDA out of memory"),
    (MemoryError("none"), MemoryError, "none"),
    ((3,), ZooError, "if __name__ == '__main__':"),
])  # fmt: skip
def test_an_error_there_is_that_error_here(forked, what, kind, said):
    with Workers(2) as two:
        with pytest.raises(kind) as error:
            list(two.run(task, [what, 30.0], 2))
        started = [process.pid for process in two._processes.values()]
    assert said in str(error.value) and gone(started)  # the other one does not sleep on


def threads(_, tell):
    return workers.torch.given


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("jobs, n, share", [(2, 5, 4), (3, 5, 2), (4, 1, 8), (16, 20, 1)])
def test_cores_are_shared(forked, monkeypatch, jobs, n, share):
    class EightCores:
        given = 0

        def get_num_threads(self):
            return 8

        def set_num_threads(self, n):
            self.given = n

    monkeypatch.setattr(workers, "torch", EightCores())
    with Workers(jobs) as some:
        assert [found for _, found in some.run(threads, range(n), n)] == [share] * n
        assert len(some._processes) == min(jobs, n)


class ByBrightness(torch.nn.Module):
    """Class 1 for bright images."""

    def forward(self, images):
        bright = images.flatten(1).mean(1)
        return torch.stack([1 - bright, bright], 1)


def darken(model, images, labels, threat, *, seed, poll):
    """Breaks the second image of a batch."""
    return torch.cat([images[:1], images[1:2] * 0, images[2:]])


def test_batches_may_be_done_in_any_order_and_none_is_lost(tmp_path):
    """The last of three is done when the evaluation is cut; the others are left, with the same images as before."""
    data = Images(torch.full((10, 3, 2, 2), 255, dtype=torch.uint8), torch.ones(10, dtype=torch.int64))
    stages = (Stage("a", darken), Stage("b", darken))
    whole = engine.Evaluation(ByBrightness(), ThreatModel("linf", 1.0), stages, 4)
    expected = engine.run_chunk(whole, data, tmp_path / "whole.npz", lambda progress: None)
    assert np.flatnonzero(expected.broken_by == 0).tolist() == [1, 5, 9]
    seen = []

    def cut(batches, n, heard):
        *_, last = enumerate(whole.attack_here(batches, n, heard))
        yield last[1]
        raise KeyboardInterrupt

    def counted(batches, n, heard):
        seen.append(n)
        yield from reversed([*whole.attack_here(batches, n, heard)])

    for how in (cut, counted):
        evaluation = engine.Evaluation(ByBrightness(), whole.threat, stages, 4, attack=how)
        with contextlib.suppress(KeyboardInterrupt):
            chunk = engine.run_chunk(evaluation, data, tmp_path / "part.npz", lambda progress: None)
    assert seen == [2, 2] and np.array_equal(chunk.broken_by, expected.broken_by)


def test_a_part_of_an_earlier_version_begins_its_stage_again(tmp_path):
    arrays = {"labels": np.ones(4, int), "broken_by": np.array([0, -1, -1, -2], np.int8), "stage": 0, "seconds": 1.5}
    np.savez(tmp_path / "old.npz", **arrays, batch=1)
    chunk = engine.read_chunk(tmp_path / "old.npz")
    assert not chunk.met.any() and [rows.tolist() for rows in chunk.batches(2)] == [[0, 1], [2]]


def test_jobs_of_a_cluster_are_pickled(alone, tmp_path, monkeypatch):
    """One for each model and threat model; what arrives there does the same work: the same entry."""
    threats = (ThreatModel("l2", 0.5), ThreatModel("l2", 0.25))
    plan = EvaluationPlan("pgd-4x2", threats, 60, 10, check=False)
    jobs = []
    monkeypatch.setattr(submitted, "submit", lambda job, *how: jobs.append(pickle.loads(pickle.dumps(job))))
    submitted.submit_all([NAME, f"{NAME[:-1]}5"], "", "", tmp_path, plan, {"timeout_min": 5}, jobs=2, device="cpu")
    assert [(job.name, job.plan.threats, job.out, job.jobs) for job in jobs[:2]] == [
        (NAME, (threat,), tmp_path, 2) for threat in threats
    ]
    assert len(jobs) == 4 and replace(jobs[0], jobs=1)() == [NAME]
    assert settled(tmp_path) == alone


@pytest.mark.peers  # by default submitit is tried by test_train_cli
def test_as_jobs_of_a_cluster(alone, tmp_path):
    """submitit's local executor."""
    pytest.importorskip("submitit")
    plan = EvaluationPlan("pgd-4x2", (ThreatModel("l2", 0.5),), 60, 10, check=False)
    jobs = submitted.submit_all([NAME], "", "", tmp_path, plan, {"timeout_min": 5}, jobs=2, cluster="local")
    assert [job.result() for job in jobs] == [[NAME]]
    assert settled(tmp_path) == alone


def test_the_command_submits(monkeypatch, tmp_path):
    given = []

    class Job:
        job_id = "4711"

    monkeypatch.setattr(submitted, "submit", lambda job, parameters, cluster: given.append((job, parameters)) or Job())
    said = run(*SHORT, tmp_path, "--launcher", "slurm", "--slurm", "slurm_partition=gpu", "--shard", "1/4")
    (job, parameters), = given  # fmt: skip
    assert said.stdout == "4711\n" and f"robust-zoo report {tmp_path}" in said.stderr
    assert job.plan.shard == (1, 4) and parameters == {"slurm_partition": "gpu"} and not list(tmp_path.iterdir())
    assert "was trained for no radius" in run(
        "evaluate", NAME[:-2], NAME, "-a", "fgsm", "--launcher", "slurm", "--out", tmp_path, code=2
    ).stderr  # fmt: skip
    assert len(given) == 1
