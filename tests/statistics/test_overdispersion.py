import numpy as np
import pytest
from scipy import stats

from relation_neurons.statistics.overdispersion import dispersed_tail, dispersion


def test_the_dispersion_is_that_of_the_mixture_with_its_error():
    generator = np.random.default_rng(0)
    rates = generator.gamma(2.0, 3.0, size=20_000)  # mean 6, variance 18: Poisson counts vary by 24
    counts = generator.poisson(rates)
    factor = dispersion(counts, np.full(20_000, 6.0), np.full(20_000, 6.0))
    assert factor == pytest.approx(24 / 6 * (1 + np.sqrt(2 / 20_000)), rel=0.05)
    assert dispersion(np.array([5, 5]), np.full(2, 5.0), np.ones(2)) == 1
    assert dispersion(np.array([0, 7]), np.full(2, 5.0), np.zeros(2)) == 1
    tried = np.array([1, 8, 20, 35])
    exceeded = [(counts >= count).mean() for count in tried]
    assert dispersed_tail(tried, np.full(4, 6.0), np.full(4, 24.0)) == pytest.approx(exceeded, abs=0.01)


def test_without_more_variance_the_tail_is_poisson():
    counts, means = np.array([4, 4, 0, 2]), np.array([1.5, 1.5, 1.0, 0.0])
    tails = dispersed_tail(counts, means, np.array([1.0, 1.5 + 1e-9, 2.0, 1.0]))
    assert tails == pytest.approx([stats.poisson.sf(3, 1.5), stats.poisson.sf(3, 1.5), 1, 0], rel=1e-3)
