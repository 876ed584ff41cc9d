"""Simulated power against the tests themselves, and standard deviations found again in made changes."""

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.statistics.effects import decide
from relation_neurons.statistics.hypothesis_tests import control_test, family_p, sign_flip_test
from relation_neurons.statistics.power import Design
from relation_neurons.statistics.simulation import Spread, least_effect, power, shown
from relation_neurons.statistics.variance import spread_of


@pytest.mark.parametrize("resolution", [0.0, 0.3])
def test_many_families_at_once_have_the_p_values_of_each(resolution):
    effects = np.random.default_rng(0).standard_t(2, (6, 5, 21))
    alone = [control_test(one[:, 0].tolist(), list(one[:, 1:]), resolution=resolution).p_family for one in effects]
    np.testing.assert_allclose(family_p(effects, resolution=resolution), alone)


def test_simulated_power_is_that_of_the_verdicts_on_facts():
    design, spread, effect, n = Design(2, 12, 25), Spread(1.0, 0.8, 0.2), 1.0, 60
    generator, found = np.random.default_rng(1), []
    for seed in range(n):
        sets = generator.normal(0, spread.set, (2, 26))
        sets[0, 0] = np.median(sets[0]) - effect
        own = sets[:, :1] + generator.normal(0, spread.fact, (2, 12))
        controls = sets[:, None, 1:] + generator.normal(0, spread.control, (2, 12, 25))
        p = [sign_flip_test(values, seed=seed) for values in own]
        found.append(decide(list(own), list(controls), p, resolution=1e-3)["verdict"][0] == "falls")
    assert 0.5 < np.mean(found) < 0.95  # neither certain, so that the comparison says something
    assert abs(power(design, spread, effect) - np.mean(found)) < 3 * np.sqrt(0.25 / n)


def test_power_grows_with_effects_facts_and_control_sets_and_ends_where_nothing_can_be_shown():
    spread = Spread(1.0, 1.0, 0.3, 0.2)
    assert power(Design(12, 20, 30), spread, 0.3) < power(Design(12, 20, 30), spread, 1.2)
    assert power(Design(12, 10, 30), spread, 1.0) < power(Design(12, 40, 30), spread, 1.0)
    assert power(Design(12, 20, 20), spread, 1.0) < power(Design(12, 20, 60), spread, 1.0)
    assert power(Design(12, 20, 19), spread, 100.0) == 0.0
    assert least_effect(Design(12, 20, 19), spread) == np.inf
    least = least_effect(Design(12, 20, 30), spread)
    assert power(Design(12, 20, 30), spread, least) >= 0.8 > power(Design(12, 20, 30), spread, 0.8 * least)


@pytest.mark.parametrize("tails", ["normal", "heavy tails"])
def test_families_without_an_effect_have_no_verdict_beyond_the_level(tails):
    wrong = shown(Design(8, 20, 25), Spread(1.0, 1.0, 0.3, 0.3), 0.0, tails=tails, n_families=1000).any(axis=1).mean()
    assert wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def made(spread, n_groups=40, n_facts=10, n_sets=6, seed=0):
    """Changes of facts with known standard deviations, as tables."""
    generator = np.random.default_rng(seed)
    scale = np.exp(generator.normal(0, spread.between, (n_groups, 1)))
    own = scale * generator.normal(0, spread.fact, (n_groups, n_facts))
    sets = scale[..., None] * generator.normal(0, spread.set, (n_groups, 1, n_sets))
    noise = scale[..., None] * generator.normal(0, spread.control, (n_groups, n_facts, n_sets))
    common = scale[..., None] * generator.normal(0, 0.1, (n_groups, n_facts, 1))
    index = pd.MultiIndex.from_product([range(n_groups), range(n_facts)], names=["ablated", "unit"])
    table = pd.DataFrame({"d_logprob": own.ravel(), "clean_logprob": 0.0}, index=index).reset_index()
    index = pd.MultiIndex.from_product(
        [range(n_groups), range(n_facts), range(n_sets)], names=["ablated", "unit", "draw"]
    )
    controls = pd.DataFrame({"d_logprob": (sets + noise + common).ravel()}, index=index).reset_index()
    return table.assign(relation="r"), controls.assign(relation="r")


def test_standard_deviations_are_found_again_and_a_broken_group_does_not_decide():
    true = Spread(1.0, 0.5, 0.3, 0.4)
    mean = np.mean([spread_of(*made(true, seed=seed), by=["ablated"]) for seed in range(6)], axis=0)
    np.testing.assert_allclose(mean, true, rtol=0.15)
    own, controls = made(true)
    whole = spread_of(own, controls, by=["ablated"])
    own.loc[own["ablated"] == 0, "d_logprob"] *= 1000
    controls.loc[controls["draw"].eq(0) & controls["ablated"].eq(1), "d_logprob"] -= 50
    np.testing.assert_allclose(spread_of(own, controls, by=["ablated"])[:3], whole[:3], rtol=0.1)


def test_one_fact_or_one_control_set_has_no_spread():
    for options in ({"n_facts": 1}, {"n_sets": 1}):
        with pytest.raises(rn.RelationNeuronsError, match="fewer than two facts or control sets"):
            spread_of(*made(Spread(1.0, 1.0, 1.0), **options), by=["ablated"])
