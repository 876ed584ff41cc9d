import numpy as np
import pytest
from scipy import stats

import relation_neurons as rn
from relation_neurons.statistics.intervals import CHANGES, SHARES, accuracy_interval, mean_interval, proportion_interval


def test_the_bootstrap_agrees_with_the_t_interval_on_normal_data():
    values = np.random.default_rng(0).normal(2, 1, size=400)
    interval = mean_interval(values)
    low, high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(low, abs=0.02)
    assert interval.high == pytest.approx(high, abs=0.02)
    assert interval.n == 400


def test_the_interval_has_about_its_nominal_coverage():
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        interval = mean_interval(generator.exponential(1.0, size=40) - 1.0, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 0.87 <= covered / 200 <= 0.99  # percentile intervals of 40 skewed values cover about 0.93


def test_prompts_of_one_fact_count_once():
    values = np.array([0.0, 1.0, 0.0, 1.0, 5.0, 7.0])
    clusters = ["a", "a", "b", "b", "c", "c"]
    assert mean_interval(values, clusters) == mean_interval(np.array([0.5, 0.5, 6.0]))
    repeated = mean_interval(np.repeat(values, 10), np.repeat(clusters, 10).tolist())
    assert repeated == mean_interval(values, clusters)


def test_intervals_of_equal_values_and_of_a_single_value():
    assert mean_interval(np.zeros(9))[:3] == (0, 0, 0)
    assert mean_interval(np.array([3.0]))[1:] == (-np.inf, np.inf, 1)


def test_bounded_values_that_are_all_equal_are_not_taken_for_certain():
    z = stats.norm.ppf(0.975)
    other = z**2 / (25 + z**2)  # Wilson's upper bound of 0 of 25
    assert mean_interval(np.zeros(25), bounds=CHANGES)[:3] == pytest.approx((0, -other, other))
    assert mean_interval(np.ones(25), bounds=SHARES)[:3] == pytest.approx((1, 1 - other, 1))
    assert mean_interval(np.array([0.0]), bounds=CHANGES)[:3] == (0, -1, 1)
    values = np.array([0.0, 0.0, -1.0, 0.0])
    assert mean_interval(values, bounds=CHANGES) == mean_interval(values)


def test_an_accuracy_counts_facts_and_not_their_prompts():
    right, facts = np.arange(40) < 20, np.arange(40)
    alone = accuracy_interval(right, facts.tolist())
    assert alone == proportion_interval(right)
    assert accuracy_interval(np.repeat(right, 5), np.repeat(facts, 5).tolist()) == alone
    mixed = accuracy_interval(np.array([True, False, True, True]), ["a", "a", "b", "b"])
    assert mixed == mean_interval(np.array([0.5, 1.0]), bounds=SHARES)


def test_the_side_of_zero():
    assert mean_interval(np.array([-1.0, -1.1, -0.9])).side == "below"
    assert mean_interval(np.array([1.0, 1.1, 0.9])).side == "above"
    assert mean_interval(np.array([1.0, -1.1, 0.1])).side == "across"


def test_a_proportion_has_its_wilson_interval():
    # Wilson 1927 by hand for 25 of 50: centre 1/2, half-width z/(1 + z^2/50) * sqrt(1/200 + z^2/10000) = 0.13355.
    interval = proportion_interval(np.arange(50) < 25)
    assert interval.mean == 0.5
    assert interval.high - 0.5 == pytest.approx(0.13355, abs=1e-5)


def test_empty_and_nonfinite_values_are_refused():
    with pytest.raises(rn.RelationNeuronsError):
        mean_interval(np.array([]))
    with pytest.raises(rn.RelationNeuronsError):
        mean_interval(np.array([1.0, np.nan]))
    with pytest.raises(rn.RelationNeuronsError):
        proportion_interval(np.array([], dtype=bool))
