"""Ratios of means and the areas under their curve, against sums by hand and another bootstrap."""

import numpy as np
import pytest

from relation_neurons.statistics.faithfulness import interval, model_distance, performance_ratio, restored
from relation_neurons.statistics.intervals import share_of_drop

CLEAN = np.array([-1.0, -2.0, -1.5, -0.5])
ACROSS = np.array([0.5, -0.6, 0.5, -0.5])
NONE = np.array([-5.0, -6.0, -4.5, -6.5])  # means -1.25 and -5.5: a way of 4.25


def test_ratios_are_those_of_means_not_means_of_ratios():
    values = np.stack([NONE, CLEAN, (NONE + CLEAN) / 2, NONE - 4.25, [-5.5, -4.5, -5.5, -2.25]], axis=1)
    found = restored(values, NONE, CLEAN)
    np.testing.assert_allclose(found.shares, [0, 1, 0.5, -1, (5.5 - 4.4375) / 4.25])
    assert found.n == 4
    for point in range(3):  # these have no spread: every resample has the same facts on both sides
        np.testing.assert_allclose(found.resampled[:, point], found.shares[point], atol=1e-12)


def test_intervals_are_those_of_another_bootstrap():
    rng = np.random.default_rng(3)
    clean = rng.normal(-1, 0.5, size=40)
    none, kept = clean - rng.normal(4, 1, size=40), clean - rng.normal(1.5, 1.5, size=40)
    mine = restored(kept[:, None], none, clean, seed=1).interval(0)
    other = share_of_drop(none - kept, none - clean, seed=2)
    assert mine.mean == pytest.approx(other.mean)
    assert mine[1:] == pytest.approx(other[1:], abs=0.015)
    assert mine.high - mine.low > 0.1


@pytest.mark.parametrize("none", [CLEAN + 0.1, CLEAN + ACROSS, CLEAN], ids=["above", "across", "equal"])
def test_a_ratio_without_a_loss_is_undefined(none):
    found = restored(np.stack([none, CLEAN], axis=1), none, CLEAN)
    assert np.isnan(found.shares).all()
    assert np.isnan(found.interval(1)[:3]).all()
    assert found.n == 4


def test_one_fact_gives_no_ratio():
    assert np.isnan(restored(CLEAN[:1, None], NONE[:1], CLEAN[:1]).shares).all()


def areas_in_a_loop(shares, faithfulness):
    """The trapezoids one by one."""
    under = distance = 0.0
    for left in range(len(shares) - 1):
        width = shares[left + 1] - shares[left]
        heights = faithfulness[left : left + 2]
        under += width * (heights[0] + heights[1]) / 2
        distance += width * (abs(1 - heights[0]) + abs(1 - heights[1])) / 2
    return under, distance


@pytest.mark.parametrize(
    ("shares", "faithfulness", "cpr", "cmd"),
    [
        ([0.0, 1.0], [1.0, 1.0], 1.0, 0.0),
        ([0.0, 1.0], [0.0, 1.0], 0.5, 0.5),
        ([0.1, 0.2, 1.0], [0.5, 1.0, 1.0], 0.1 * 0.75 + 0.8, 0.1 * 0.25),
        ([0.0, 0.5, 1.0], [0.0, 2.0, 1.0], 0.5 * 1 + 0.5 * 1.5, 0.5 * 1 + 0.5 * 0.5),
        ([0.001, 0.01, 1.0], [-1.0, 0.0, 1.0], 0.009 * -0.5 + 0.99 * 0.5, 0.009 * 1.5 + 0.99 * 0.5),
    ],
)
def test_areas_of_curves_by_hand(shares, faithfulness, cpr, cmd):
    curve = np.array(faithfulness), np.array(shares)
    assert float(performance_ratio(*curve)) == pytest.approx(cpr)
    assert float(model_distance(*curve)) == pytest.approx(cmd)
    assert areas_in_a_loop(shares, faithfulness) == pytest.approx((cpr, cmd))


def test_areas_of_resamples_are_those_of_each_row():
    rng = np.random.default_rng(0)
    curves, shares = rng.normal(0.5, 1, size=(20, 6)), np.sort(rng.random(6))
    expected = np.array([areas_in_a_loop(shares, curve) for curve in curves])
    np.testing.assert_allclose(performance_ratio(curves, shares), expected[:, 0])
    np.testing.assert_allclose(model_distance(curves, shares), expected[:, 1])


def test_an_interval_has_the_middle_95_percent():
    found = interval(0.5, np.arange(1001) / 1000, 9)
    assert found == pytest.approx((0.5, 0.025, 0.975, 9))
