import numpy as np
import pytest
from scipy import stats

import relation_neurons as rn
from relation_neurons.statistics.intervals import mean_interval, proportion_interval


def test_the_bootstrap_agrees_with_the_t_interval_on_normal_data():
    values = np.random.default_rng(0).normal(2, 1, size=400)
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    assert found.n == 400


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        found = mean_interval(generator.exponential(1.0, size=40) - 1.0, seed=trial)
        covered += found.low <= 0 <= found.high
    assert 0.87 <= covered / 200 <= 0.99  # percentile intervals of 40 skewed values cover about 0.93


def test_prompts_of_one_fact_count_once():
    values = np.array([0.0, 1.0, 0.0, 1.0, 5.0, 7.0])
    clusters = ["a", "a", "b", "b", "c", "c"]
    assert mean_interval(values, clusters) == mean_interval(np.array([0.5, 0.5, 6.0]))
    repeated = mean_interval(np.repeat(values, 10), np.repeat(clusters, 10).tolist())
    assert repeated == mean_interval(values, clusters)


def test_no_spread_and_one_value():
    assert mean_interval(np.zeros(9))[:3] == (0, 0, 0)
    assert mean_interval(np.array([3.0]))[1:] == (-np.inf, np.inf, 1)


def test_sides():
    assert mean_interval(np.array([-1.0, -1.1, -0.9])).side == "below"
    assert mean_interval(np.array([1.0, 1.1, 0.9])).side == "above"
    assert mean_interval(np.array([1.0, -1.1, 0.1])).side == "across"


def test_wilson():
    # Wilson 1927 by hand for 25 of 50: centre 1/2, half-width z/(1 + z^2/50) * sqrt(1/200 + z^2/10000) = 0.13355.
    found = proportion_interval(np.arange(50) < 25)
    assert found.mean == 0.5
    assert found.high - 0.5 == pytest.approx(0.13355, abs=1e-5)


def test_nothing_has_no_interval():
    with pytest.raises(rn.RelationNeuronsError):
        mean_interval(np.array([]))
    with pytest.raises(rn.RelationNeuronsError):
        mean_interval(np.array([1.0, np.nan]))
    with pytest.raises(rn.RelationNeuronsError):
        proportion_interval(np.array([], dtype=bool))
