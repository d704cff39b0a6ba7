"""The error of a mean over crossed backbones and draws, where it is known."""

import numpy as np
import pytest

from robust_zoo.training.transfer.crossed import Crossed


def test_what_adds_up_varies_by_its_parts():
    """Nothing but effects of backbones and of draws: their variances over their numbers."""
    rows, columns = np.array([1.0, 4.0, 7.0]), np.array([0.0, 2.0, 3.0, 9.0])
    found = Crossed(rows[:, None] + columns)
    assert found.mean == pytest.approx(rows.mean() + columns.mean())
    assert found.error**2 == pytest.approx(rows.var(ddof=1) / 3 + columns.var(ddof=1) / 4)


def test_two_by_two_by_hand():
    """Row means 2 and 5, column means 3 and 4, so 9, 1 and 4 left: draws count as zero."""
    found = Crossed(np.array([[2.5, 1.5], [3.5, 6.5]]))
    assert (found.mean, found.error) == (3.5, pytest.approx((9 / 4) ** 0.5))
    assert str(found) == "3.5 ± 1.5"


def test_on_average_it_is_how_far_the_mean_is_off():
    """20,000 drawn tables, all parts well above zero."""
    draw = np.random.default_rng(0)
    tables = (
        3 * draw.normal(size=(20_000, 5, 1)) + 2 * draw.normal(size=(20_000, 1, 5)) + draw.normal(size=(20_000, 5, 5))
    )
    true = 9 / 5 + 4 / 5 + 1 / 25
    assert np.mean([Crossed(table).error ** 2 for table in tables[:4000]]) == pytest.approx(true, rel=0.03)
    assert tables.mean(axis=(1, 2)).var() == pytest.approx(true, rel=0.03)


def test_a_draw_that_both_had_cancels():
    draws = np.array([[0.0, 5.0, -5.0]])
    one, other = Crossed(draws + np.array([[1.0], [2.0], [3.0]])), Crossed(draws + np.array([[0.0], [0.5], [1.0]]))
    assert (one - other).mean == pytest.approx(1.5)
    assert (one - other).error == pytest.approx((0.25 / 3) ** 0.5) and one.error > 2


def test_of_one_backbone_over_draws():
    assert Crossed(np.array([[1.0, 2.0, 6.0]])).error == pytest.approx((7 / 3) ** 0.5)
