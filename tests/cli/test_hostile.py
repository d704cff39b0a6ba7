"""Inputs that no one should give end in an exit code of --help and five fields; `tests/support/hostile_inputs.py` as a
script tries all of them in processes of their own."""

import signal
from collections import Counter

import pytest
import torch  # noqa: F401  (a verb that loads it would be slower than the alarm allows)
from click.testing import CliRunner
from hostile_inputs import cases, environment, fault, few, tree, written

from robust_zoo.cli import main

SECONDS = 30  # for one call; the slowest takes 2


@pytest.fixture
def alarm():
    def ring(*_):
        raise AssertionError(f"still at work after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.alarm(seconds)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_hostile_inputs(tmp_path, monkeypatch, alarm):
    root, home, work = (tmp_path / name for name in ("planted", "home", "work"))
    for folder in (root, home, work / "out"):
        folder.mkdir(parents=True)
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(work)
    calls = few(cases(root))
    before, faults, codes = tree(root), [], Counter()
    for call in calls:
        alarm(SECONDS)
        result = CliRunner().invoke(main, call, prog_name="robust-zoo")
        alarm(0)
        ended = result.exception is None or isinstance(result.exception, SystemExit)
        wrong = fault(result.exit_code, result.output) if ended else repr(result.exception)
        codes[result.exit_code] += 1
        if wrong:
            faults.append(f"{wrong}: {call!r:.200}\n{result.output[-600:]}")
    assert not faults, "\n".join(faults)
    assert len(calls) > 200 and set(codes) >= {1, 2, 4, 5, 6}
    assert not written(root, before) and {path.name for path in work.iterdir()} <= {"out"}
