"""The README's table of the strongest checkpoints: up to date, and in the right order."""

import re
from pathlib import Path

import pytest
from second_rows import CIFAR, CONVNEXT, ENGSTROM, GIANT, SWIN, planted

from robust_zoo.cards import strongest
from robust_zoo.errors import UsageError

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_as_the_rows_have_it():
    assert strongest.renewed(README) == README, "run: make cards"


def test_it_is_the_readmes_first_table():
    with planted():
        text = strongest.renewed(README)
        ours = strongest.block()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert tables[0] in ours and SWIN in tables[0]
    assert strongest.renewed(text) == README  # what the rows say, whatever stood there


def test_the_strongest_come_first_with_all_that_their_figure_is_of(monkeypatch):
    monkeypatch.setattr(strongest, "MOST", 3)  # of four
    with planted():
        lines = strongest.block().splitlines()[2:]
    cells = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line}
    assert cells[GIANT] == [
        "Linf 4/255", f"[`{GIANT}`](model_cards/{GIANT}.md)", "83.90 %", "71.00 %", "AutoAttack", "not said",
        "the authors' README", "1,013.1 M",
    ]  # fmt: skip
    assert cells[CONVNEXT][2:6] == ["77.20 %", "54.40 %", "AutoAttack", "5,000"]
    assert cells[ENGSTROM][2:6] == ["57.90 %", "35.09 %", "PGD-100 (an upper bound)", "50,000"]
    assert [line.split("`")[1] for line in lines if line] == [GIANT, CONVNEXT, SWIN, ENGSTROM]
    assert [line.split(" |")[0] for line in lines if line] == ["| Linf 4/255"] * 3 + ["| L2 3"]


def test_a_measured_figure_never_reads_as_a_reported_one():
    with planted():
        (line,) = [line for line in strongest.block("cifar10").splitlines() if CIFAR in line and "Linf 8/255" in line]
    assert "| 66.08 % | 36.80 % | AutoAttack | 250 | *measured here* |" in line


def test_a_norm_without_a_figure_is_named(monkeypatch):
    monkeypatch.setattr(strongest, "strongest", lambda *_: [])
    assert strongest.block() == "No robust accuracy on ImageNet-1k is known of any row at Linf 4/255 or L2 3 yet.\n"


@pytest.mark.parametrize("text", ["# A README", README + README])
def test_a_readme_without_its_place_is_refused(text):
    with pytest.raises(UsageError, match="no place"):
        strongest.renewed(text)
