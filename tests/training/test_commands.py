"""Commands in processes of their own: told to end, they end; trainings that are done are not done again."""

import os
import sys
import threading
import time

import pytest

from robust_zoo.training.jobs.commands import Commands, Training, train_all
from robust_zoo.training.signals import EXIT_STOPPED


@pytest.fixture(autouse=True)
def own_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_all_end_when_they_are_told_to(tmp_path, monkeypatch):
    sleeper = tmp_path / "sleeper"
    sleeper.write_text('#!/bin/sh\necho "$OMP_NUM_THREADS $*"\n[ "$3" = fails ] && exit 3\nexec sleep 60\n')
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    commands, codes, output = Commands(), [], tmp_path / "output.txt"
    assert commands.robust_zoo(["fails", 1], output) == 3
    work = threading.Thread(target=lambda: codes.append(commands.robust_zoo(["sleeps"], output)))
    work.start()
    while "sleeps" not in output.read_text():
        time.sleep(0.01)
    started = time.monotonic()
    commands.stop()
    work.join()
    assert codes == [EXIT_STOPPED] and time.monotonic() - started < 10
    assert commands.robust_zoo(["sleeps"], output) == EXIT_STOPPED
    assert output.read_text() == "1 -m robust_zoo fails 1\n1 -m robust_zoo sleeps\n"


def test_trainings_that_are_done_are_not_done_again(tmp_path, monkeypatch):
    """Two at a time, each by the recipe it was given, in the order they were named in."""
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\necho "$OMP_NUM_THREADS $*"\ncat "${10}"\ncase "$4" in bad) exit 4;; esac\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(Commands, "stop_on_signals", lambda self: None)
    names = {"one": "base", "two": "base", "three": "bad"}
    trainings = [
        Training(base, f"seed = {name!r}\n", tmp_path / "data.npz", tmp_path / name) for name, base in names.items()
    ]
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "row.toml").touch()
    found = {training.out.name: code for training, code in train_all(trainings, jobs=2)}
    assert list(found.items()) == [("one", 0), ("two", 0), ("three", 4)]
    assert not (tmp_path / "two" / "output.txt").exists()
    words = (
        f"-m robust_zoo train base --data {tmp_path}/data.npz --out {tmp_path}/one --recipe {tmp_path}/one/recipe.toml"
    )
    threads = max(1, os.cpu_count() // 2)
    assert (tmp_path / "one" / "output.txt").read_text() == f"{threads} {words}\nseed = 'one'\n"
