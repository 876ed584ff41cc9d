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


def test_the_control_test_counts_sets_that_are_as_far_from_the_middle():
    generator = np.random.default_rng(3)
    own, controls = generator.normal(0, [1, 5, 1], size=3), generator.normal(0, [[1], [5], [1]], size=(3, 30))
    own[0] -= 40
    found = control_test(own.tolist(), list(controls))
    distances = []
    for effect, draws in zip(own, controls, strict=True):
        pool = [effect, *draws]
        distances.append([abs(value - np.median(pool)) for value in pool])
        rank = sum(distance >= distances[-1][0] for distance in distances[-1])
        assert found.p[len(distances) - 1] == rank / 31
    overall = np.mean(distances)
    scaled = [
        [group[draw] / np.sqrt(np.mean(np.delete(group, draw)) * overall) for draw in range(31)] for group in distances
    ]
    largest = [max(group[draw] for group in scaled) for draw in range(31)]
    for group in range(3):
        assert found.p_family[group] == sum(value >= scaled[group][0] - 1e-9 for value in largest) / 31
    assert found.p_family[0] == 1 / 31
    assert (found.p_family >= found.p).all()


def test_effects_beyond_the_critical_distance_are_significant_and_others_are_not():
    controls = np.random.default_rng(0).normal(size=(4, 40))
    middles = [float(np.median(draws)) for draws in controls]
    critical = control_test([-5.0, *middles[1:]], list(controls)).critical[0]
    middle = float(np.median([-5.0, *controls[0]]))
    for share, significant in ((0.9, False), (1.1, True)):
        found = control_test([middle - share * critical, *middles[1:]], list(controls))
        assert (found.p_family[0] < 0.05) == significant


@pytest.mark.parametrize(("n", "least"), [(4, 1 / 5), (19, 1 / 20), (20, 1 / 21), (100, 1 / 101)])
def test_few_control_sets_cannot_show_anything(n, least):
    draws = np.random.default_rng(0).normal(size=n)
    found = control_test([-1e6], [draws])
    assert found.p[0] == found.p_family[0] == pytest.approx(least)
    assert np.isfinite(found.critical[0]) == (n >= 20)


def test_controls_without_effect_prove_nothing_about_a_single_fact():
    none = np.zeros(30)
    assert control_test([-1 / 80], [none], resolution=1 / 40).p[0] == 1
    assert control_test([-10 / 40], [none], resolution=1 / 40).p[0] == pytest.approx(1 / 31)
    assert control_test([0.0], [none]).p[0] == 1
    assert np.isnan(control_test([-1.0], [np.array([])]).p[0])


def test_a_group_without_controls_leaves_the_others_as_they_are():
    draws = np.random.default_rng(0).normal(size=25)
    alone, beside = control_test([-3.0], [draws]), control_test([-3.0, -1.0], [draws, np.array([])])
    assert (beside.p[0], beside.p_family[0], beside.critical[0]) == (alone.p[0], alone.p_family[0], alone.critical[0])
    assert np.isnan(beside.p[1])


HEAVY = {
    "normal": lambda generator, shape: generator.normal(0.3, 0.2, shape),
    "lognormal": lambda generator, shape: -generator.lognormal(0, 1.5, shape),
    "one in fifty breaks the model": lambda generator, shape: np.where(
        generator.random(shape) < 0.02, -50, generator.normal(0, 0.2, shape)
    ),
    "groups of unequal spread": lambda generator, shape: (
        generator.normal(0, 1, shape) * np.geomspace(0.01, 10, shape[0])[:, None]
    ),
}


@pytest.mark.parametrize("n_draws", [20, 50])
@pytest.mark.parametrize("effects", HEAVY)
def test_the_control_test_keeps_its_level_over_families(effects, n_draws):
    generator, wrong, single = np.random.default_rng(0), 0, []
    for _ in range(1000):
        sets = HEAVY[effects](generator, (12, n_draws + 1))
        found = control_test(sets[:, 0].tolist(), list(sets[:, 1:]))
        wrong += bool((found.p_family < 0.05).any())
        single += (found.p < 0.05).tolist()
    assert wrong <= stats.binom.ppf(0.999, 1000, 0.05)
    assert wrong >= stats.binom.ppf(0.001, 1000, 1 / (n_draws + 1))  # it can reject
    assert np.mean(single) < 0.06


def test_the_sign_flip_test_keeps_its_level():
    generator = np.random.default_rng(0)
    rejections = [sign_flip_test(generator.laplace(size=20)) < 0.05 for _ in range(300)]
    assert np.mean(rejections) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


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
