from __future__ import annotations

import gc
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fault_table
import pytest
from hub import Hub
from warm_child import WarmChild

from robust_zoo.weights import contained

_VARIABLES = (
    "ROBUST_ZOO_PATH", "ROBUST_ZOO_MIRRORS", "ROBUST_ZOO_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "ROBUST_ZOO_DRIVE",
    "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="write docs/faults.md, if all tests pass")


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(100_000, 50, 50)  # while a million objects of imports are made, none of which goes


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.set_threshold(700, 10, 10)


# Files that take longest, the longest first: no process is left alone with one of them at the end.
_LONGEST = (
    "test_resume", "test_each_tutorial", "test_transfer_cli", "test_fuzz", "test_faults_local", "test_faults_sources",
    "test_browser", "test_train_cli", "test_ledger", "test_faults_hostile", "test_documented_commands",
    "test_faults_servers", "test_recipes", "test_convert", "test_checks", "test_transfer_finetune", "test_contained",
    "test_download", "test_publication",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {stem: number for number, stem in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def pytest_itemcollected(item: pytest.Item) -> None:
    item.user_properties += [("fault", key) for key in fault_table.keys(item)]


_passed: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        _passed.update(str(value) for name, value in report.user_properties if name == "fault")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With xdist, this process hears of every test, and the workers only of theirs."""
    if session.config.getoption("--write-docs") and exitstatus == 0 and not hasattr(session.config, "workerinput"):
        fault_table.DOCS.write_text(fault_table.table(_passed), encoding="utf-8")


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own empty caches and no setting of the machine it runs on. Returns the zoo's cache root."""
    for variable in _VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    root = tmp_path / "zoo-cache"
    monkeypatch.setenv("ROBUST_ZOO_CACHE", str(root))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # subprocesses import this checkout's package, as this process does
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    return root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running stand-in hub, and Drive; HF_ENDPOINT and ROBUST_ZOO_DRIVE point to it, here and in subprocesses."""
    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("ROBUST_ZOO_DRIVE", running.endpoint)
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is a run of its own, with short timeouts, here and in subprocesses."""
    monkeypatch.setenv("ROBUST_ZOO_TIMEOUT", "1")
    monkeypatch.setattr("robust_zoo.weights.sources._unreachable", set())


@pytest.fixture(scope="session", autouse=True)
def _warm_child() -> Iterator[None]:
    """Conversions of this process are done by forks of a process that has imported torch and timm already."""
    with WarmChild() as warm, pytest.MonkeyPatch.context() as patch:
        patch.setattr(contained, "subprocess", warm)
        yield


@pytest.fixture
def cold_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions of this process start a process each, as users' do: for tests of that process."""
    monkeypatch.setattr(contained, "subprocess", subprocess)
