"""The compare page without a browser: its numbers against the ledger's files and `robust-zoo compare`."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from robust_zoo.counts import PairedCount
from robust_zoo.describe import facts
from robust_zoo.registry.comparison import compare
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.site import compare as page
from robust_zoo.site.build import build
from robust_zoo.site.pages import Contents
from robust_zoo.site.sections import SECTIONS
from robust_zoo.training.evaluation.paired import paired

RESULTS = Path(__file__).parents[2] / "results"
MEASURED = [name for name in list_models() if get(name).measured]


@pytest.fixture(scope="module")
def html(contents):
    only = tuple(section for section in SECTIONS if section.path == "compare.html")
    return build(contents, only, minify=False)["compare.html"].decode()


@pytest.fixture(scope="module")
def data(html):
    return json.loads(re.search(r'<script type="application/json" id="zoo">(.*?)</script>', html, re.DOTALL)[1])


class Rows(HTMLParser):
    """The cells of each row of a table, as text."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.inside = [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        self.inside = tag in ("td", "th") or (self.inside and tag != "tr")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += " ".join(data.split()) + " "


def fates(name):
    """(what a figure is of) -> which images are right, by the ledger's own files, read without the package."""
    found = {}
    for file in (RESULTS / name).glob("*.json"):
        entry = json.loads(file.read_text())
        with np.load(file.with_suffix(".npz")) as arrays:
            broken_by = arrays["broken_by" if "broken_by" in arrays else "fell"]
        key = (entry["attack"], entry["norm"], entry["eps"], entry["n"])
        found[key] = broken_by == -1 if entry["norm"] else broken_by != -2
    return found


def test_every_pair_of_the_table_is_the_ledgers(html):
    """Each number of the table without JavaScript, counted again; and no step of a ladder is missing."""
    known = {name: fates(name) for name in MEASURED}
    of = {norm: [n for n in MEASURED if not get(n).eps or get(n).norm == norm] for norm in ("l2", "linf")}
    steps = {step for names in of.values() for step in pairwise(sorted(names, key=lambda name: get(name).eps))}
    expected = []
    for first, second in steps:
        for key in known[first].keys() & known[second].keys():
            if key[0] not in ("none", "autoattack"):
                continue
            a, b = known[first][key], known[second][key]
            count = PairedCount(int((a & ~b).sum()), int((b & ~a).sum()), len(a))
            low, high = (f"{end:+.1f}".replace("-", "−") for end in count.interval)
            difference = f"{100 * (a.mean() - b.mean()):+.1f}".replace("-", "−")
            p = f"p = {count.p:.2g}" if count.p >= 1e-4 else "p < 0.0001"
            expected.append(
                [
                    f"{first} {100 * a.mean():.2f} {second} {100 * b.mean():.2f}",
                    f"{difference} {low} to {high}",
                    f"{count.wins:,} {count.losses:,}",
                    f"{p} {'apart' if count.p < 0.05 else 'not apart'}",
                ]
            )
    part = html[html.index('<table class="pairs">') : html.index("</table>", html.index('<table class="pairs">'))]
    shown = [
        [" ".join(cell.replace("_ ", "_").split()) for cell in row] for row in Rows(part).rows[1:] if len(row) == 4
    ]
    assert sorted(shown) == sorted(expected) and len(shown) > len(steps) > 4


def test_pairs_are_those_of_the_command(data):
    """`training.evaluation.paired` reads the ledger by itself."""
    checkpoints = [get(name) for name in MEASURED]
    counts = paired(RESULTS, checkpoints)
    titles, names = [title for title, *_ in data["kinds"]], [*data["rows"]]
    seen = 0
    for line in compare(checkpoints, counts):
        for (i, j, counted), apart in zip(line.pairs, line.apart, strict=True):
            if counted:
                kind = str(titles.index(page.title(line.kind)))
                said = data["pairs"][" ".join(str(names.index(MEASURED[k])) for k in (i, j))][kind]
                p = page.p_text(counted.p)
                assert said == [int(apart), page.numbers(counted), p][: 2 if p == data["tiny"] else 3]
                seen += 1
    assert seen == sum(len(of) for of in data["pairs"].values()) > 30


def test_what_the_script_compares_by_is_the_registrys(data, contents):
    assert list(data["rows"]) == list_models() and data["most"] == 6
    for checkpoint in contents.checkpoints:
        said, figures, _ = data["rows"][checkpoint.name]
        assert {fact: data["words"][at] for fact, at in zip(data["facts"], said, strict=True)} == facts(checkpoint)
        values = [value for value, *_ in figures.values()]
        assert sorted(values) == sorted(
            [*(f.value for f in checkpoint.reported), *(round(m.accuracy, 2) for m in checkpoint.measured)]
        )
        for _, low, high, by, measured, _ in figures.values():
            assert measured == data["by"][by].startswith("measured by robust_zoo on ")
            assert (low is None) == (high is None) and (not measured or low is not None)


def test_words_of_a_count():
    assert page.numbers(PairedCount(30, 14, 2500)) == "+0.6 +0.1 +1.2 2,500 30 14"
    assert [page.p_text(p) for p in (1.0, 0.0234, 0.0001, 0.00009)] == [
        "p = 1",
        "p = 0.023",
        "p = 0.0001",
        "p < 0.0001",
    ]
    assert [page.signed(d) for d in (1.04, -0.3, 0.04, -0.04)] == ["+1.0", "−0.3", "0.0", "0.0"]


def test_without_results_any_two_are_compared_by_their_rows():
    (made,) = page.build(Contents(tuple(get(name) for name in MEASURED)))
    assert made.values["groups"] == [] and '"pairs":{}' in made.values["data"]


def test_text_of_a_row_cannot_end_the_script():
    assert "</script" not in page.as_script({"note": "</script><b>"})
