"""Benchmarks, studies and tutorials find in the package what they import from it."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(file for folder in ("benchmarks", "studies", "tutorials") for file in (ROOT / folder).rglob("*.py"))


def imported(file):
    """(module, name) of everything that a file takes from robust_zoo, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "robust_zoo":
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_script_imports_is_there(file):
    for module, name in imported(file):
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.import_module(f"{module}.{name}"), f"{module} has no {name}"


def test_scripts_are_found():
    names = {file.name for file in SCRIPTS}
    assert {"training_step.py", "pieces.py", "class_split.py"} <= names
    assert ("robust_zoo.training.steps.step", "make_step") in imported(ROOT / "benchmarks/training_step.py")


def test_a_benchmark_whose_evaluations_fail_says_so(tmp_path, capfd, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bundled = importlib.import_module("bundled")
    started = []

    def run(command, **kwargs):
        started.append(command)
        return subprocess.CompletedProcess(command, 2 * ("none" in command))

    monkeypatch.setattr(bundled.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["bundled.py", "no.npz", str(tmp_path), "--only", "*_l2_eps0_5"])
    assert bundled.main() == 1 and len(started) > 5 and capfd.readouterr().out.count(": exit 2") == 1
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], "nothing*"])
    with pytest.raises(SystemExit):
        bundled.main()
    assert "no bundled model matches --only nothing*" in capfd.readouterr().err
