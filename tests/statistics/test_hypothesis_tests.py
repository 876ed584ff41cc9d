"""Hypothesis tests against hand counts, other libraries and their nominal error rates."""

import inspect
from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

import relation_neurons as rn
from relation_neurons.statistics.hypothesis_tests import (
    adjust,
    control_test,
    mcnemar_test,
    minimum_effect,
    moderated_spreads,
    pooled_spread,
    sign_flip_test,
)


def test_sign_flips_match_a_full_enumeration():
    values = np.array([0.3, -1.2, 2.5, 0.7, -0.1, 1.9])
    observed = abs(values.mean())
    means = [abs((values * signs).mean()) for signs in product([-1, 1], repeat=6)]
    assert sign_flip_test(values) == pytest.approx(np.mean([mean >= observed - 1e-12 for mean in means]))


def test_sign_flips_of_gains_and_losses_match_mcnemars_test():
    changes = np.array([-1.0] * 9 + [1.0] * 2 + [0.0] * 29)
    assert mcnemar_test(9, 2) == pytest.approx(stats.binom.cdf(2, 11, 0.5) * 2)
    assert sign_flip_test(changes) == pytest.approx(mcnemar_test(9, 2))


def test_many_flips_resolve_small_p_values():
    values = np.concatenate([np.full(17, -1.0), [0.4, 0.3, 0.2]])
    halves = np.array(list(product([-1, 1], repeat=10)))
    sums = np.add.outer((halves * values[:10]).sum(axis=1), (halves * values[10:]).sum(axis=1))
    exact = np.mean(np.abs(sums) >= abs(values.sum()) - 1e-9)
    assert exact < 1e-4
    assert sign_flip_test(values) == pytest.approx(exact, abs=3 * np.sqrt(exact / 200_000) + 2e-5)
    assert sign_flip_test(np.full(30, -1.0)) <= 2 / 200_000


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [3.0], [0.0, 2.0]])
def test_a_single_change_proves_nothing(values):
    assert sign_flip_test(np.array(values)) == 1
    assert mcnemar_test(0, 0) == 1


def test_the_control_test_is_a_prediction_t_test():
    controls = np.array([-0.1, 0.2, 0.05, -0.3, 0.0])
    own = -0.9
    sd = np.std(controls, ddof=1)
    t = abs(own - controls.mean()) / (sd * np.sqrt(1 + 1 / 5))
    assert control_test(own, controls) == pytest.approx(2 * (1 - stats.t.cdf(t, 4)))
    assert control_test(own, controls, spread=pooled_spread([controls])) == pytest.approx(control_test(own, controls))


def test_controls_without_effect_prove_little_about_a_single_fact():
    none = np.zeros(10)
    assert control_test(-1 / 40, none, resolution=1 / 40) > 0.3
    assert control_test(-10 / 40, none, resolution=1 / 40) < 0.001
    assert control_test(0.0, none) == 1
    assert np.isnan(control_test(-1.0, np.array([0.1])))


def test_the_pooled_spread_is_about_each_groups_own_mean():
    groups = [np.array([1.0, 3.0]), np.array([10.0, 10.0, 13.0])]
    assert pooled_spread(groups) == (pytest.approx(np.sqrt((2 + 6) / 3)), 3)
    assert pooled_spread([np.array([1.0])])[1] == 0


@pytest.mark.parametrize("spread", ["own", "pooled"])
def test_the_control_test_keeps_its_level(spread):
    generator = np.random.default_rng(0)
    rejections = []
    for _ in range(2000):
        sets = generator.normal(0.3, 0.2, size=(6, 4))
        known = pooled_spread(list(sets[:, 1:])) if spread == "pooled" else None
        rejections.append(control_test(float(sets[0, 0]), sets[0, 1:], spread=known) < 0.05)
    assert 0.035 < np.mean(rejections) < 0.065


def test_the_sign_flip_test_keeps_its_level():
    generator = np.random.default_rng(0)
    rejections = [sign_flip_test(generator.laplace(size=20)) < 0.05 for _ in range(300)]
    assert np.mean(rejections) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_moderated_spreads_estimate_the_prior_degrees_of_freedom():
    """Variances drawn with 8 degrees of freedom about 0.25: each estimate gains those 8."""
    generator = np.random.default_rng(0)
    variances = 0.25 * 8 / generator.chisquare(8, size=4000)
    groups = [generator.normal(5, np.sqrt(variance), size=4) for variance in variances]
    spreads = moderated_spreads(groups)
    assert spreads[0][1] == pytest.approx(3 + 8, rel=0.1)
    sd = np.std(groups[7], ddof=1)
    assert spreads[7][0] ** 2 == pytest.approx((3 * sd**2 + 8 * 0.25) / 11, rel=0.1)


def test_moderated_spreads_pool_equal_groups_and_leave_few_groups_unchanged():
    generator = np.random.default_rng(1)
    groups = list(generator.normal(0, 2, size=(30, 3)))
    spreads = moderated_spreads(groups)
    assert len({round(sd, 6) for sd, _ in spreads}) == 1
    assert spreads[0][0] == pytest.approx(2, rel=0.2)
    assert spreads[0][1] == 60  # no more than all groups have together
    assert moderated_spreads(groups[:2]) == [pooled_spread([group]) for group in groups[:2]]
    single = moderated_spreads([*groups, np.array([1.0])])
    assert np.isnan(single[-1][0])
    assert single[:-1] == spreads
    same = moderated_spreads([np.zeros(4)] * 5, least=0.1)
    assert same[0][0] == pytest.approx(0.05, rel=0.3)


@pytest.mark.parametrize("prior", [4, np.inf])
def test_the_moderated_control_test_keeps_its_level(prior):
    generator, rejections = np.random.default_rng(0), []
    for _ in range(300):
        factor = prior / generator.chisquare(prior, size=16) if np.isfinite(prior) else np.ones(16)
        sets = generator.normal(0.1, 0.3 * np.sqrt(factor)[:, None], size=(16, 4))
        spreads = moderated_spreads(list(sets[:, 1:]))
        rejections += [
            control_test(float(own[0]), own[1:], spread=spread) < 0.05
            for own, spread in zip(sets, spreads, strict=True)
        ]
    assert 0.04 < np.mean(rejections) < 0.065


def test_corrections_match_hand_counts_and_skip_missing_values():
    p = np.array([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(adjust(p, "holm"), [0.03, np.nan, 0.06, 0.06])
    np.testing.assert_allclose(adjust(p, "benjamini-hochberg"), [0.03, np.nan, 0.04, 0.04])
    assert np.isnan(adjust(np.array([np.nan]), "holm")).all()
    with pytest.raises(rn.RelationNeuronsError, match="not a known correction"):
        inspect.unwrap(adjust)(p, "bonferoni")


@pytest.mark.parametrize(("ours", "theirs"), [("holm", "holm"), ("benjamini-hochberg", "fdr_bh")])
def test_corrections_match_those_of_statsmodels(ours, theirs):
    p = np.random.default_rng(0).beta(0.3, 1, size=50)
    p[7] = p[8]
    np.testing.assert_allclose(adjust(p, ours), multipletests(p, method=theirs)[1])


def test_the_minimum_effect_is_detected_with_the_nominal_power():
    generator = np.random.default_rng(0)
    sample = generator.normal(size=30)
    least = minimum_effect(sample) / np.std(sample, ddof=1)
    rejections = [stats.ttest_1samp(generator.normal(least, 1, size=30), 0).pvalue < 0.05 for _ in range(2000)]
    assert 0.77 < np.mean(rejections) < 0.83
    assert np.isnan(minimum_effect(np.array([1.0])))
