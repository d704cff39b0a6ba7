"""Charts: marks where the numbers say, the same in words, readable alone, told apart without colour."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from colours import contrast

from robust_zoo import get
from robust_zoo.charts.curve import eps_curve
from robust_zoo.charts.drawing import BOTTOM, HEIGHT, LEFT, RIGHT, RULES, WIDTH
from robust_zoo.charts.scatter import Dot, scatter
from robust_zoo.registry.curves import Curve, Point, eps_curves

CURVES = (
    Curve("PGD-20", (Point(0, 80, (78, 82)), Point(0.25, 60, (57, 63)), Point(1, 20, (18, 22))), True, True),
    Curve("AutoAttack <by> others", (Point(1, 10, None),), False, False),
)
NS = "{http://www.w3.org/2000/svg}"


def drawn(text):
    return ET.fromstring(text)


@pytest.fixture
def alone():
    return drawn(eps_curve(CURVES, "l2", title="A & B", trained=0.25, standalone=True))


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", text)]


def test_marks_lie_where_the_numbers_say(alone):
    """x by the square root, y by itself: 0.25 is half way to 1, 60 % three fifths of the way up."""
    top = 34 + 22 * 3
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in alone.iter(f"{NS}circle")][:3]
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM - top
    expected = [
        (LEFT + width * math.sqrt(x), HEIGHT - BOTTOM - height * y / 100) for x, y in ((0, 80), (0.25, 60), (1, 20))
    ]
    assert circles == [pytest.approx(point, abs=0.06) for point in expected]


def test_the_band_is_the_interval(alone):
    (band,) = (p for p in alone.iter(f"{NS}path") if p.get("class") == "band")
    top, flat = 34 + 22 * 3, numbers(band.get("d"))
    heights = [100 * (HEIGHT - BOTTOM - y) / (HEIGHT - BOTTOM - top) for y in flat[1::2]]
    assert heights == pytest.approx([82, 63, 22, 18, 57, 78], abs=0.1)


def test_measured_is_filled_and_reported_is_hollow(alone):
    groups = [g.get("class") for g in alone.iter(f"{NS}g")]
    assert groups == ["s0", "s1 hollow", "s0", "s1 hollow"]  # curves, then their legend
    assert ".chart .hollow .mark{fill:var(--chart-paper)}" in RULES


def test_it_says_in_words_what_it_shows(alone):
    assert alone.find(f"{NS}title").text == "A & B"
    assert alone.find(f"{NS}desc").text == (
        "PGD-20: 80.0 % at 0, 60.0 % at 0.25, 20.0 % at 1. AutoAttack <by> others: 10.0 % at 1."
    )
    inline = eps_curve(CURVES, "l2", title="A & B")
    label = re.search(r'aria-label="([^"]*)"', inline)[1]
    assert label.startswith("A &amp; B. PGD-20: 80.0 % at 0") and "<style>" not in inline


def test_alone_it_carries_its_colours_and_its_ground(alone):
    style = alone.find(f"{NS}style").text
    assert "prefers-color-scheme:dark" in style and alone.find(f"{NS}rect").get("fill") == "var(--chart-paper)"
    assert alone.get("width") == str(WIDTH) and not re.search(r"https?://", style)
    used = {name for e in alone.iter() for name in (e.get("class") or "").split()}
    assert all(f".{name}" in style for name in used - {"chart"})


@pytest.mark.parametrize("paper", ["light", "dark"])
def test_letters_and_lines_stand_out(paper):
    """WCAG 2.1: letters 4.5 to 1, lines and marks 3 to 1, on the chart's own ground."""
    sets = re.findall(r"--chart-ink:[^}]*", RULES)
    colours = dict(re.findall(r"--chart-([\w-]+):(#[0-9a-f]+)", sets[0 if paper == "light" else 1]))
    for name, least in {"ink": 7, "quiet": 4.5, "0": 3, "1": 3, "2": 3, "3": 3}.items():
        assert contrast(colours[name], colours["paper"]) >= least, name


def test_words_of_ticks_do_not_overlap():
    many = Curve("x", tuple(Point(x / 100, 50) for x in range(0, 101, 4)), True, True)
    svg = drawn(f'<root xmlns="{NS[1:-1]}">{eps_curve([many], "l2", title="x")}</root>')
    at = [(float(t.get("x")), len(t.text)) for t in svg.iter(f"{NS}text") if t.get("y") == str(HEIGHT - BOTTOM + 20)]
    assert len(at) > 4 and all(b - a > 4 * (m + n) for (a, m), (b, n) in pairwise(at))


def test_curves_of_a_checkpoint():
    """What was measured at several radii is a line from its own clean accuracy; others' figures are others' curves."""
    own = get("resnet18_x0_25_cifar10_l2_eps0_5")
    pgd, auto = eps_curves(own, "l2")
    assert (pgd.joined, pgd.measured, [p.x for p in pgd.points]) == (True, True, [0, 0.1, 0.25, 0.5, 1])
    by = {(m.attack, m.eps, m.n): m for m in own.measured}
    assert [p.y for p in pgd.points[1:]] == [round(by["pgd-20", x, 1000].accuracy, 2) for x in (0.1, 0.25, 0.5, 1)]
    assert pgd.points[1].interval == by["pgd-20", 0.1, 1000].count.interval
    assert (auto.joined, [(p.x, p.y) for p in auto.points]) == (False, [(0.5, 54.4)])
    peng = eps_curves(get("raresnet50_peng2023_linf_eps4"), "linf")
    assert {(c.measured, c.joined) for c in peng} == {(False, True), (False, False)}
    assert eps_curves(get("resnet50_l2_eps3"), "l2") == ()


def test_a_scatter_numbers_its_front():
    dots = [
        Dot(70.0, 50.0, 1e8, "big & good", "model/a.html", "1", False),
        Dot(60.0, 40.0, 1e6, "small", "model/b.html", "", True),
    ]
    svg = drawn(scatter(dots, title="T", across="Clean", up="Robust").replace("<svg ", f'<svg xmlns="{NS[1:-1]}" ', 1))
    links = {a.get("href"): a.find(f"{NS}circle") for a in svg.iter(f"{NS}a")}
    a, b = links["model/a.html"], links["model/b.html"]
    assert (a.get("class"), b.get("class")) == ("dot on", "dot full")
    assert float(a.get("r")) > float(b.get("r")) and float(a.get("cx")) > float(b.get("cx"))
    assert float(a.get("cy")) < float(b.get("cy")) and a.find(f"{NS}title").text == "big & good"
    assert [t.text for t in svg.iter(f"{NS}text") if t.get("class") == "tag"] == ["1"]
    assert "1: big & good" in svg.get("aria-label")
