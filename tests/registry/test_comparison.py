"""Which figures of several checkpoints stand in one line, and which of them chance can explain."""

import math
from dataclasses import replace

import pytest

from robust_zoo.counts import PairedCount, sign_test
from robust_zoo.registry.comparison import ALONE, UNKNOWN, compare
from robust_zoo.registry.lookup import get
from robust_zoo.registry.measurement import Measurement
from robust_zoo.registry.reported import Reported

A, B, C = (get(name) for name in ("resnet50_linf_eps4", "resnet18_linf_eps4", "wide_resnet50_2_linf_eps4"))


def said(value, attack="autoattack", n=5000, norm="linf", eps=4 / 255, by="them", size=None):
    return Reported(value, by, n, attack, norm, eps, size)


def clean(value, n=5000, by="them"):
    return Reported(value, by, n)


def here(correct, n, data="imagenet validation", attack="autoattack"):
    return Measurement(attack, correct, n, data, "0" * 64, "code", "linf", 4 / 255)


def lines(*figures, rows=(A, B, C), paired=None):
    kinds = (Reported, Measurement)
    filled = [
        replace(row, reported=tuple(f for f in of if isinstance(f, kinds[0])),
                measured=tuple(f for f in of if isinstance(f, kinds[1])))
        for row, of in zip(rows, figures, strict=False)
    ]  # fmt: skip
    return compare(filled, paired) if paired else compare(filled)


def values(line):
    return [figure and figure.value for figure in line.figures]


def test_figures_of_one_kind_share_a_line():
    found = lines([clean(76.0), said(56.0)], [clean(72.0), said(50.0)], [said(55.5)])
    assert [values(line) for line in found] == [[76.0, 72.0, None], [56.0, 50.0, 55.5]]
    assert [line.word for line in found] == ["", ""]
    assert found[0].pairs == ((0, 1, None),) and found[0].apart == (True,)  # 1.2 percent each way
    assert found[1].pairs == ((0, 1, None), (0, 2, None), (1, 2, None)) and found[1].apart == (True, False, True)


# each differs from the first in one thing; both stand alone
OTHERS = [
    said(50.0, "pgd-100"), said(50.0, n=1000), said(50.0, size=256), said(50.0, n=None), here(2500, 5000),
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=range(len(OTHERS)))
def test_another_attack_number_or_size_of_images_is_another_line(other):
    found = lines([said(56.0)], [other])
    assert [line.word for line in found] == [ALONE, ALONE] and not any(line.pairs for line in found)
    assert sorted(v for line in found for v in values(line) if v) == [50.0, 56.0]


def test_other_images_are_another_line():
    assert [line.word for line in lines([here(9, 20)], [here(9, 20, "imagenet robustbench")])] == [ALONE, ALONE]
    other = replace(get("resnet18_x0_25_cifar10_linf_eps8"))
    assert [line.word for line in lines([said(50.0)], [said(50.0)], rows=(A, other))] == [ALONE, ALONE]


def test_threat_models_that_only_one_has_figures_at_are_left_out():
    assert lines([said(56.0), said(70.0, norm="l2", eps=2.0)], [said(50.0, eps=8 / 255)]) == []
    assert len(lines([said(70.0, norm="l2", eps=2.0)], [said(35.0, "pgd-100", norm="l2", eps=2.0)])) == 2


def test_a_number_of_images_that_is_not_said_is_judged_by_nobody():
    (line,) = lines([said(90.0, n=None)], [said(10.0, n=None)])
    assert (line.word, line.pairs, values(line)) == (UNKNOWN, (), [90.0, 10.0])


def test_a_second_reporter_of_the_same_kind_is_not_lost():
    found = lines([said(56.0), said(57.0, by="others")], [said(50.0)])
    assert [(values(line), line.word) for line in found] == [([56.0, 50.0], ""), ([57.0, None], ALONE)]


def test_intervals_that_meet_are_not_told_apart():
    """Wilson's of 40 in 100 ends at 49.8 %: (0.4192 + 0.0979) / 1.0384; that of 60 in 100 is its mirror image."""
    (line,) = lines([here(40, 100)], [here(60, 100)])
    assert line.apart == (True,) and line.kind.interval[1] == pytest.approx(49.80, abs=0.01)
    assert lines([here(40, 100)], [here(59, 100)])[0].apart == (False,)


def test_the_same_images_tell_more_than_intervals():
    counted = PairedCount(1, 10, 100)
    (line,) = lines(
        [here(40, 100)], [here(49, 100)], paired=lambda i, j, f: counted if (i, j, f.n) == (0, 1, 100) else None
    )
    assert line.pairs == ((0, 1, counted),) and line.apart == (True,)
    assert lines([here(40, 100)], [here(90, 100)], paired=lambda *_: PairedCount(4, 9, 100))[0].apart == (False,)


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(0, 0, 1), (0, 5, 2 / 32), (5, 0, 2 / 32), (1, 9, 2 * (1 + 10) / 1024), (3, 3, 1), (2, 3, 1), (0, 1, 1)],
)
def test_sign_test(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p, rel=1e-12)


def test_sign_test_of_many_is_the_normal_distributions():
    z = (200 - 1) / math.sqrt(10_200)  # with the correction for continuity
    assert sign_test(5000, 5200) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_interval_of_a_paired_difference():
    """Tango's, as published for Bentur et al. 2009: 1 and 7 of 21 (Fagerland, Lydersen and Laake 2014)."""
    counted = PairedCount(1, 7, 21)
    assert (counted.difference, *counted.interval) == pytest.approx((-28.57, -51.7, -2.6), abs=0.05)
    assert PairedCount(7, 1, 21).interval == pytest.approx((2.6, 51.7), abs=0.05)
    zz = 1.959964**2  # no discordant image: one proportion's score limit
    assert PairedCount(0, 0, 50).interval == pytest.approx((-100 * zz / (50 + zz), 100 * zz / (50 + zz)))
    assert PairedCount(9, 0, 9).interval[1] == 100


def score(wins, losses, n, d):
    """The score statistic with the likeliest proportions under a difference, found by trying."""
    q = max(
        (k / 1e5 * (1 - abs(d)) / 2 + max(0, -d) for k in range(1, 100_000)),
        key=lambda q: wins * math.log(q + d) + losses * math.log(q) + (n - wins - losses) * math.log(1 - 2 * q - d),
    )
    return (wins - losses - n * d) / math.sqrt(n * (2 * q + d - d * d))


@pytest.mark.parametrize(("wins", "losses", "n"), [(12, 5, 250), (40, 61, 300)])
def test_interval_ends_where_the_score_test_rejects(wins, losses, n):
    low, high = (end / 100 for end in PairedCount(wins, losses, n).interval)
    assert score(wins, losses, n, low) == pytest.approx(1.96, abs=1e-3)
    assert score(wins, losses, n, high) == pytest.approx(-1.96, abs=1e-3)
