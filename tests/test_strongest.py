"""The README's table of the strongest checkpoints: up to date, and in the right order."""

import re
from pathlib import Path

from pages import tables
from second_rows import CIFAR, CONVNEXT, ENGSTROM, GIANT, SWIN, planted

from robust_zoo.cards import blocks, strongest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def lines(dataset="imagenet"):
    """The table's lines, by checkpoint, and the legend's by letter."""
    text = strongest.block(dataset)
    (table,) = tables(text)
    return {row[0].text: [cell.text for cell in row] for row in table.rows}, dict(
        re.findall(r"\((\w)\) (.+?)(?:<br>)?\n", text)
    )


def test_it_is_the_readmes_first_table():
    with planted():
        text = blocks.renewed(README, blocks.PAGES["README.md"])
    assert SWIN in tables(text)[0].rows[2][0].text
    assert blocks.renewed(text, blocks.PAGES["README.md"]) == README  # what the rows say, whatever stood there


def test_the_strongest_come_first_with_all_that_their_figure_is_of(monkeypatch):
    monkeypatch.setattr(strongest, "MOST", 3)  # of four
    with planted():
        cells, legend = lines()
    assert cells[GIANT] == [GIANT, "83.90 (a)", "71.00 (a)", "AutoAttack at Linf 4/255", "1013M"]
    assert cells[CONVNEXT][1:4] == ["77.20 (b)", "54.40 (c)", "AutoAttack at Linf 4/255"]
    assert cells[ENGSTROM][1:4] == ["57.90 (d)", "35.09 (d)", "PGD-100 at L2 3, an upper bound"]
    assert [*cells] == [GIANT, CONVNEXT, SWIN, ENGSTROM]
    assert legend == {
        "a": "reported by the authors' README, number of images not said",
        "b": "reported by the authors' README, 1,000 images",
        "c": "reported by RobustBench model_info @78fcc9e (standard AutoAttack, 5,000 val images), 5,000 images",
        "d": "reported by the authors' README, 50,000 images",
    }


def test_a_measured_figure_never_reads_as_a_reported_one():
    with planted():
        cells, legend = lines("cifar10")
    assert cells[CIFAR][1:4] == ["measured 66.08 (a)", "measured 36.80 (b)", "AutoAttack at Linf 8/255"]
    assert legend["a"] == "*measured here*: cifar10 test, 10,000 images"
    assert legend["b"] == "*measured here*: cifar10 test, 250 evenly spread, 250 images"


def test_a_norm_without_a_figure_is_named(monkeypatch):
    monkeypatch.setattr(strongest, "strongest", lambda *_: [])
    assert strongest.block() == "No robust accuracy on ImageNet-1k is known of any row at Linf 4/255 or L2 3 yet.\n"
