"""The page of what may be believed: its numbers, counted again in checkpoints.toml and results/."""

import re
import tomllib
from collections import Counter
from dataclasses import replace
from html import unescape

import pytest
from fault_table import DOCS

from robust_zoo.registry.load import TOML
from robust_zoo.site import about
from robust_zoo.site.build import build
from robust_zoo.site.sections import SECTIONS

ROWS = tomllib.loads(TOML.read_text("utf-8"))["checkpoint"]


@pytest.fixture(scope="module")
def text(contents):
    only = tuple(section for section in SECTIONS if section.path == "about.html")
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", build(contents, only)["about.html"].decode())).split())


def test_counts_are_those_of_rows_and_results(text, results):
    assert f"{len(ROWS)} checkpoints of {len({row['architecture'] for row in ROWS})} architectures" in text
    assert f"{sum(bool(row['eps']) for row in ROWS)} trained against an adversary" in text
    assert f"{len([*results.glob('*/*.json')])} of {len([*results.glob('*/')])} checkpoints, each with" in text


def test_states_and_licences_add_up(text, contents):
    values = about.build(contents)[0].values
    states = {state: count for state, _, count in values["states"]}
    assert states["bundled"] + states["pinned"] == sum("sha256" in row for row in ROWS)
    assert sum(states.values()) == sum(count for _, count in values["licences"]) == len(ROWS)
    assert dict(values["licences"])["unknown"] == sum(not row.may_be_passed_on for row in contents.checkpoints)
    lines = [f"{count} {state} {words}" for state, words, count in values["states"]]
    assert [
        line for line in [*lines, *(f"{name} {count}" for name, count in values["licences"])] if line not in text
    ] == []


def test_every_reporter_and_collection_is_named(text, contents):
    by = Counter(figure.by for row in contents.checkpoints for figure in row.reported)
    assert all(f"{who} {count}" in text for who, count in by.items()) and len(by) > 8
    for row in contents.checkpoints:
        assert row.collection.title in text and row.licence_from in text


def test_faults_are_the_document_that_the_tests_write(contents):
    """Every line of docs/faults.md is a row of the page."""
    document = DOCS.read_text("utf-8")
    _, page = about.build(replace(contents, faults=document))
    html = unescape(str(page.values["text"]))
    rows = [line.strip("|").split(" | ") for line in document.splitlines() if line.startswith("| ")]
    assert (page.path, page.title) == ("faults.html", document.splitlines()[0].removeprefix("# ")) and len(rows) > 30
    for row in rows:
        cells = [re.sub(r"[`*]", "", cell).strip() for cell in row]
        assert all(cell in re.sub(r"</?(code|em|strong)>", "", html) for cell in cells), row
    assert html.count("<tr>") == len(rows)
