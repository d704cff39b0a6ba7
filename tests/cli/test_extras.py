"""What an extra installs: asked for before the work, or done without; seen with the packages hidden."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from verbs import run

from robust_zoo.registry.lookup import list_models
from robust_zoo.training.evaluation import entries, report
from robust_zoo.training.figures.style import error_bar
from robust_zoo.training.transfer import cells, recommend, sweep

ROBUST = "resnet18_x0_25_cifar10_l2_eps0_5"
HIDE = """
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *more: None if name.partition(".")[0] in {hidden} else find_spec(name, *more)
)
{before}
from robust_zoo.cli import main
main({arguments}, prog_name="robust-zoo")
"""
TRAINING = ("sklearn", "scipy", "matplotlib")


def without(hidden, *arguments, cwd, before=""):
    """The command in a process of its own, in which these packages are not installed."""
    code = HIDE.format(hidden=hidden, before=before, arguments=[str(a) for a in arguments])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)


def test_demo_without_the_training_extra(tmp_path):
    short = "from robust_zoo.training import demo; demo._STEPS = 2; from robust_zoo.visualization import Search; "
    short += "demo.search_for = lambda *_: Search(3.0, 1.0, 2)"
    found = without(TRAINING, "demo", "-n", 10, cwd=tmp_path, before=short)
    assert found.returncode == 0, found.stderr
    assert "PGD-2 l2 eps 0.5" in found.stdout and found.stdout.endswith("picture: robust_zoo_demo.png\n")
    said = [line for line in found.stderr.splitlines() if "skipped" in line]
    assert said == ["skipped: the transfer to digits needs the training extra: pip install 'robust-zoo[training]'"]
    assert (tmp_path / "robust_zoo_demo.png").is_file()


@pytest.fixture
def no_work(monkeypatch):
    """Everything that takes long fails the test."""

    def work(*args, **kwargs):
        pytest.fail("work began")

    for module, name in [
        (entries, "read_ledger"), (report, "plot"), (cells, "read_cells"), (recommend, "open_images"),
        (recommend, "recommend"), (sweep, "transfer"), (sweep, "submit_all"),
    ]:  # fmt: skip
        monkeypatch.setattr(module, name, work)


def hide(monkeypatch, *packages):
    for name in [*sys.modules]:
        if name.partition(".")[0] in packages:
            monkeypatch.setitem(sys.modules, name, None)
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)


PLOTTING = [["report", "."], ["transfer", "--suite", "sample"], ["transfer", "report", "."], ["recommend", "."]]


@pytest.mark.parametrize("arguments", PLOTTING, ids=" ".join)
def test_matplotlib_is_asked_for_first(no_work, monkeypatch, arguments):
    hide(monkeypatch, "matplotlib")
    result = run(*arguments, "--plot", "picture.png")
    assert result.exit_code == 2 and "pip install 'robust-zoo[training]'" in result.stderr and not result.stdout


@pytest.mark.parametrize("arguments", PLOTTING, ids=" ".join)
@pytest.mark.parametrize(("name", "code"), [("picture", 2), ("picture.xyz", 2), ("no/picture.png", 5), ("a.png", 5)])
def test_a_picture_that_cannot_be_written_is_said_first(no_work, tmp_path, arguments, name, code):
    (tmp_path / "a.png").mkdir()
    result = run(*arguments, "--plot", tmp_path / name)
    assert result.exit_code == code and "next:" in result.stderr and not result.stdout


def test_scikit_learn_is_asked_for_before_weights_are_fetched(no_work, monkeypatch):
    hide(monkeypatch, "sklearn")
    result = run("transfer", "--suite", "sample", "resnet50_l2_eps3")
    assert result.exit_code == 2 and "pip install 'robust-zoo[training]'" in result.stderr


# --- Pictures first, then text -------------------------------------------------------------------------------


def test_a_closed_pipe_does_not_lose_the_files(tmp_path):
    """`robust-zoo report results --plot curves.png | head -1`, the reader gone at once."""
    folder = "results"
    command = [sys.executable, "-m", "robust_zoo", "report", str(tmp_path / folder), "--csv", str(tmp_path / "t.csv"),
               "--readme", str(tmp_path / "R.md"), "--plot", str(tmp_path / "c.png")]  # fmt: skip
    write_entries(tmp_path / folder)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0 and errors == ""
    assert all((tmp_path / name).stat().st_size for name in ("t.csv", "R.md", "c.png"))


def write_entries(folder):
    """The repository's evidence of one model."""
    name = list_models(bundled=True)[0]
    shutil.copytree(Path(__file__).parents[2] / "results" / name, folder / name)


@pytest.mark.parametrize(("value", "interval"), [(0.0, (2e-17, 0.4)), (100.0, (99.6, 100 - 1e-13)), (50.0, (40, 60))])
def test_an_intervals_end_a_hair_beyond_its_value(value, interval):
    below, above = error_bar(value, interval)
    assert below >= 0 and above >= 0
    assert (below, above) == pytest.approx((value - interval[0], interval[1] - value), abs=1e-9)
