"""Names that anyone chose: which may be a row's, and that no path leaves the folder that the user named."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from verbs import run

from robust_zoo.errors import UnknownCheckpoint, UsageError
from robust_zoo.names import is_name, within
from robust_zoo.registry.load import load_registry
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel
from robust_zoo.training.evaluation.entries import EntryKey
from robust_zoo.training.evaluation.ledger import complete
from robust_zoo.training.evaluation.report import markdown
from robust_zoo.training.transfer import cells, report
from robust_zoo.weights.exported import exported, network_of
from robust_zoo.weights.safetensors_file import write_safetensors

ROW = get("resnet18_x0_25_cifar10_l2_eps0_5")
NASTY = "a|b\n\x1b[2J\u202e`<img src=x>"
PATHS = ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "C:x", "a\0b", "a\nb", "a\x1bb", "\u202ea", "nul", "CON",
         "com1.json", "a.", "a ", "x" * 300, "ä" * 150, "a*", "a?", '"', "a<b"]  # fmt: skip


@pytest.mark.parametrize("name", PATHS, ids=ascii)
def test_what_is_no_name(name, tmp_path):
    with pytest.raises(UsageError) as error:
        within(tmp_path, name)
    assert str(error.value).replace("\n", "").isprintable()
    assert not is_name(name) or name in ("nul", "com1.json", "a.")  # fit for a row, not for a file


def test_names_that_are_taken(tmp_path):
    for name in ("resnet50_l2_eps3.json", "Füchse 2.png", ".hidden", "console.txt", "x" * 240):
        assert within(tmp_path, name) == tmp_path / name
    rows = load_registry()
    assert all(is_name(name) for table in (rows.checkpoints, rows.architectures, rows.datasets) for name in table)


def test_a_link_does_not_lead_out(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "here").symlink_to("there")
    with pytest.raises(UsageError, match="away"):
        within(tmp_path / "out", "away")
    assert within(tmp_path / "out", "here") and within(tmp_path / "out" / "..", "new")


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", NASTY, "hf-hub:a/b", "A", "x" * 500, "a..b"], ids=ascii)
def test_headers_of_files_obey_the_grammar(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (figure,) = [m for m in ROW.measured if m.attack == "none"][:1]
    said = {"attack": "none", "correct": figure.correct, "n": figure.n, "data": NASTY, "code": "c"}
    from dataclasses import asdict

    header = {"name": "mine", "architecture": ROW.architecture, "dataset": "cifar10", "norm": "l2", "eps": "0.5",
              "licence": NASTY, "training": NASTY, "recipe": "{}", "metrics": json.dumps([said]),
              "preprocessing": json.dumps(asdict(ROW.preprocessing))}  # fmt: skip
    file = tmp_path / "mine.safetensors"
    tensors = {"a": torch.zeros(2)}
    write_safetensors(file, tensors, header)
    assert exported(file).name == "mine"
    write_safetensors(file, tensors, header | {"name": name})
    with pytest.raises(UsageError, match="how mine"):
        exported(file)
    with pytest.raises(UnknownCheckpoint):
        network_of(name)
    write_safetensors(file, tensors, header | {"architecture": name})
    result = run("evaluate", file, "--n", "1", "-a", "pgd-1", "--out", tmp_path / "out")
    assert result.exit_code in (2, 4) and {path.name for path in tmp_path.iterdir()} <= {
        "mine.safetensors",
        "zoo-cache",
    }


def test_ledger_and_cells_stay_in_their_folder(tmp_path):
    key = EntryKey("../away", "a" * 64, "cifar10", "b" * 64, "pgd-20", ThreatModel("l2", 0.5))
    with pytest.raises(UsageError, match="no file is written"):
        complete(tmp_path / "ledger", key, None, None)
    cell = cells.Cell("../../away", "a" * 64, "x" * 300 + "/../y", "b" * 64, "linear", {}, 0)
    with pytest.raises(UsageError, match="no file is written"):
        cells.fill(tmp_path, cell, ROW, None, None)
    assert len(replace(cell, model="m").stem) < 200
    assert not [*tmp_path.iterdir()]


def test_tables_keep_their_cells():
    entry = {"model": NASTY, "dataset": NASTY, "attack": NASTY, "norm": "l2", "eps": 0.5, "n": 2, "flags": [NASTY],
             "clean_accuracy": 1.0, "clean_interval_95": [0, 1],
             "robust_accuracy": 1.0, "robust_interval_95": [0, 1]}  # fmt: skip
    columns = np.array([line.replace("\\|", "").count("|") for line in markdown([entry]).splitlines()])
    assert columns.tolist() == [7, 7, 7] and "<img" not in markdown([entry]).replace("\\<", "")
    assert report.cell(NASTY).isprintable()
