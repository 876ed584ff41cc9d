"""The sign-flip test agrees with scipy's for one group and with a plain loop for several, and keeps its level."""

import itertools

import numpy as np
import pytest
from scipy import stats

from relation_neurons.statistics.sign_flips import sign_flip_max_t, smallest_flip_p


def by_loop(values):
    """P-values of each group alone and step-down over all, by every flip in turn."""
    n_units, n_groups = values.shape
    norms = [np.sqrt(sum(value * value for value in values[:, group])) for group in range(n_groups)]
    observed = [values[:, group].sum() / norms[group] for group in range(n_groups)]
    order = sorted(range(n_groups), key=lambda group: -observed[group])
    alone, family = [0] * n_groups, [0] * n_groups
    for signs in itertools.product((1, -1), repeat=n_units):
        sums = [
            sum(sign * value for sign, value in zip(signs, values[:, group], strict=True)) / norms[group]
            for group in range(n_groups)
        ]
        for place, group in enumerate(order):
            alone[group] += sums[group] >= observed[group] - 1e-9
            family[group] += max(sums[other] for other in order[place:]) >= observed[group] - 1e-9
    stepped, least = [0.0] * n_groups, 0.0
    for group in order:
        least = max(least, family[group] / 2**n_units)
        stepped[group] = least
    return np.array(alone) / 2**n_units, np.array(stepped)


def test_all_flips_are_counted_as_a_loop_counts_them():
    values = np.random.default_rng(0).standard_t(2, size=(9, 4)) + np.array([1.5, 0.5, 0.0, -1.0])
    values[6:, 0] = 0.0  # a group that asks other facts
    values[:4, 3] = 0.0
    found, (alone, family) = sign_flip_max_t(values), by_loop(values)
    np.testing.assert_allclose(found.p, alone)
    np.testing.assert_allclose(found.p_family, family)
    assert found.p_family[0] < 0.2 < found.p_family[3]


@pytest.mark.parametrize("n", [8, 40])
def test_one_group_has_the_p_of_scipy(n):
    values = np.random.default_rng(n).standard_t(3, size=n) + 0.4
    found = sign_flip_max_t(values[:, None])
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", alternative="greater", n_resamples=9_999, rng=1
    )
    assert found.p[0] == pytest.approx(expected.pvalue, abs=1e-12 if n < 14 else 0.01)
    np.testing.assert_array_equal(found.p, found.p_family)


def test_a_group_of_zeros_shows_nothing_and_equal_groups_share_a_p():
    values = np.random.default_rng(0).normal(1, 1, size=(8, 1)) * np.array([1.0, 1.0, 0.0])
    found = sign_flip_max_t(values)
    assert found.p[2] == found.p_family[2] == 1
    assert found.p_family[0] == found.p_family[1] == found.p[0]


def test_the_least_p_is_reached():
    for n in (3, 8, 20):
        assert sign_flip_max_t(np.ones((n, 1))).p[0] == pytest.approx(smallest_flip_p(n), rel=1e-6)


def test_the_family_wise_level_holds_with_heavy_tails_and_dependent_groups():
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        shared = generator.standard_t(2, size=(12, 1))
        values = shared + generator.standard_t(2, size=(12, 10))
        wrong += sign_flip_max_t(values, n_flips=999).p_family.min() < 0.05
    assert stats.binomtest(wrong, 400, 0.05, alternative="greater").pvalue > 0.01
    assert wrong > 2
