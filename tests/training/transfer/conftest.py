import importlib

import pytest


@pytest.fixture
def few_penalties(monkeypatch):
    """The weakest take most of a path's time; what the path ends in is compared with scikit-learn in its own test."""
    for module in ("protocols.linear", "recommend"):  # which is a function of the package's too
        monkeypatch.setattr(
            importlib.import_module(f"robust_zoo.training.transfer.{module}"), "PENALTIES", (1.0, 0.1, 0.01)
        )
