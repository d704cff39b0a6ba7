"""Each tutorial, run as it stands in an empty directory without a network; its own asserts are the oracle."""

import ast
import runpy
import socket
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch
from PIL import Image

HOME = Path(__file__).parents[2]
TUTORIALS = sorted((HOME / "tutorials").glob("*.py"))
SEEN = "what_a_robust_model_sees.png"

each = pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)


@pytest.fixture
def offline(monkeypatch):
    def connect(*address):
        raise AssertionError(f"a tutorial asked the network: {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty directory, and no window for pictures."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    place = tmp_path / "reader"
    place.mkdir()
    monkeypatch.chdir(place)
    yield place
    plt.close("all")


@each
def test_it_runs_offline(tutorial, empty, offline):
    with torch.random.fork_rng():
        runpy.run_path(str(tutorial), run_name="__main__")
    pictures = [*empty.glob("*.png")]
    assert pictures, "a tutorial leaves a picture to look at"
    if "sees" in tutorial.stem:
        assert_same_picture(empty / "synthesis.png", HOME / "docs" / SEEN)


def assert_same_picture(made, kept):
    """But for another version's fonts and rounding; `make seen` draws the one that is kept again."""
    kept = Image.open(kept).convert("RGB")
    with Image.open(made) as image:
        made = image.convert("RGB").resize(kept.size)
    assert np.abs(np.asarray(made, float) - np.asarray(kept, float)).mean() < 12  # another start's noise: about 30


@each
def test_it_begins_with_what_it_is_and_ends_in_asserts(tutorial):
    text = tutorial.read_text(encoding="utf-8")
    first, *_, last = jupytext.reads(text, fmt="py:percent").cells
    assert first.cell_type == "markdown"
    heading, blank, *about = first.source.splitlines()
    assert heading.startswith("# ") and not blank and "offline" in " ".join(about)
    assert last.cell_type == "code" and isinstance(ast.parse(last.source).body[-1], ast.Assert)
    assert len(text.splitlines()) <= 120


@each
def test_it_becomes_a_notebook_and_comes_back(tutorial):
    text = tutorial.read_text(encoding="utf-8")
    cells = jupytext.reads(text, fmt="py:percent").cells
    notebook = jupytext.reads(jupytext.writes(jupytext.reads(text, fmt="py:percent"), fmt="ipynb"), fmt="ipynb")
    again = jupytext.reads(jupytext.writes(notebook, fmt="py:percent"), fmt="py:percent")
    for found in (notebook, again):
        assert [(c.cell_type, c.source) for c in found.cells] == [(c.cell_type, c.source) for c in cells]
    assert {c.cell_type for c in cells} == {"markdown", "code"}


def test_there_are_five_in_order():
    assert [path.name[:2] for path in TUTORIALS] == [f"{i}_" for i in range(1, 6)]
    assert (HOME / "docs" / SEEN).stat().st_size < 150_000
