"""The tables of the data page: every field explained, JSON and CSV the same, all rows and results in them."""

import csv
import gzip
import html
import io
import json
import re
from pathlib import Path

import pytest

from robust_zoo.describe import as_json
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.registry.robustness import figures
from robust_zoo.site import data
from robust_zoo.site.build import build
from robust_zoo.site.pages import Contents
from robust_zoo.site.sections import SECTIONS
from robust_zoo.training.evaluation import report

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def files(contents):
    return {page.path: page.content for page in data.build(contents)[1:]}


def table(files, name):
    return json.loads(gzip.decompress(files[f"data/{name}.json.gz"]))


def lines_of(files, name):
    return list(csv.DictReader(io.StringIO(gzip.decompress(files[f"data/{name}.csv.gz"]).decode())))


def written(value):
    return "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("name", [each.name for each in data.TABLES if each.kinds == ("json", "csv")])
def test_json_and_csv_have_the_same_fields_and_values(files, name):
    records = table(files, name)
    lines = lines_of(files, name)
    fields = next(each.fields for each in data.TABLES if each.name == name)
    assert len(records) == len(lines) > 50
    for record, line in zip(records, lines, strict=True):
        assert list(record) == list(line) == list(fields)
        for key, value in record.items():
            assert value != "" and not isinstance(value, (list, dict)), key
            assert line[key] == written(value)


def test_every_field_is_explained():
    for each in data.TABLES:
        assert [key for key, meaning in each.fields.items() if not meaning.endswith(".") or len(meaning) < 8] == []


def test_models_are_the_rows(files):
    records = table(files, "models")
    assert [record["name"] for record in records] == list_models()
    for record in records:
        row = get(record["name"])
        assert (record["norm"], record["eps"], record["sha256"]) == (row.norm, row.eps, row.sha256)
        assert (record["clean_accuracy"], record["parameters"]) == (row.clean_accuracy, row.network.parameters)
    swin = next(record for record in records if record["name"].startswith("swin_base") and record["robust_accuracy"])
    assert swin["robust_attack"] == "autoattack" and swin["robust_by"] and swin["input_size"] == "3x224x224"


def test_figures_are_all_that_is_known(files):
    records = table(files, "figures")
    for name in list_models():
        row, found = get(name), [record for record in records if record["model"] == name]
        assert [r["accuracy"] for r in found if not r["measured"]] == [f.value for f in row.reported]
        assert [r["accuracy"] for r in found if r["measured"]] == [round(m.accuracy, 2) for m in row.measured]
    for record in records:
        assert record["measured"] == (record["by"] == "robust_zoo") == (record["low"] is not None)
        assert record["measured"] == (record["file"] is not None)


def test_a_measured_figure_names_its_entry(files):
    """Against the ledger's own files, read here without the package."""
    for record in table(files, "figures"):
        if record["measured"]:
            entry = json.loads((RESULTS / record["file"]).read_text())
            assert record["accuracy"] == round(100 * entry["robust_correct"] / entry["n"], 2)
            assert (record["model"], record["attack"], record["eps"]) == (entry["model"], entry["attack"], entry["eps"])
            assert (record["low"], record["high"]) == pytest.approx(entry["robust_interval_95"], abs=0.0051)


def test_ledger_is_every_entry(files):
    """As CSV; the entries are JSON themselves."""
    records = lines_of(files, "ledger")
    assert "data/ledger.json.gz" not in files and list(records[0]) == list(data.TABLES[2].fields)
    assert sorted(r["file"] for r in records) == sorted(
        f.relative_to(RESULTS).as_posix() for f in RESULTS.glob("*/*.json")
    )
    for record in records:
        entry = json.loads((RESULTS / record["file"]).read_text())
        broken = entry.get("broken_by", entry.get("fell_to"))
        same = record.keys() & entry.keys() - {"broken_by", "flags"}
        assert len(same) > 15 and {key: record[key] for key in same} == {key: written(entry[key]) for key in same}
        assert record["broken_by"] == ";".join(f"{k}={v}" for k, v in broken.items())
        if broken:
            assert entry["clean_correct"] - sum(broken.values()) == entry["robust_correct"]
        assert record["flags"] == ("none" if record["norm"] else "not checked")


def test_nothing_known_is_no_table_of_nothing():
    empty = {page.path: page.content for page in data.build(Contents(()))[1:]}
    assert table(empty, "models") == [] and gzip.decompress(empty["data/ledger.csv.gz"]).count(b"\n") == 1


def test_the_lines_for_pandas_run(contents, tmp_path, monkeypatch):
    """As the page has them, beside the files."""
    pytest.importorskip("pandas")
    files = build(contents, SECTIONS[:1] + tuple(s for s in SECTIONS if s.path == "data.html"), minify=False)
    for path in ("data/models.json.gz", "data/figures.json.gz"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(files[path])
    monkeypatch.chdir(tmp_path)
    code = html.unescape(re.search(r"<pre[^>]*>(import pandas.*?)</pre>", files["data.html"].decode(), re.DOTALL)[1])
    *before, last = code.splitlines()
    names = {}
    exec("\n".join(before), names)
    found = eval(last, names)
    known = [f for name in list_models() for f in figures(get(name)) if f.attack == "autoattack"]
    assert len(found) == len(known) > 80 and found.architecture.notna().all()


def test_tables_speak_as_the_commands_do(files, contents):
    """`list --json` and `report --csv`: what is called the same is the same."""
    for checkpoint, record in zip(contents.checkpoints, table(files, "models"), strict=True):
        said = as_json(checkpoint)
        shared = said.keys() & record.keys() - {"input_size"}
        assert len(shared) > 13 and {key: said[key] for key in shared} == {key: record[key] for key in shared}
    said = list(csv.DictReader(io.StringIO(report.as_csv(e.entry for e in contents.evidence))))
    lines = lines_of(files, "ledger")
    columns = said[0].keys() - {"flags"}  # in which the command says less: "" for none, and for not checked
    assert columns < lines[0].keys() and len(columns) == 13
    assert [{key: line[key] for key in columns} for line in lines] == [
        {key: line[key] for key in columns} for line in said
    ]
