from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import Hub

_VARIABLES = (
    "ROBUST_ZOO_PATH", "ROBUST_ZOO_MIRRORS", "ROBUST_ZOO_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT",
    "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="write docs/faults.md from the tests that passed")


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
    """A running stand-in hub; HF_ENDPOINT points to it, here and in subprocesses."""
    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running
