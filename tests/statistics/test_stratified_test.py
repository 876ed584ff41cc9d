"""The stratified rank test against enumeration, its level, and pooled rows of `compare`."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relation_neurons.statistics.effects import compare, pooled
from relation_neurons.statistics.power import LEVEL, Design
from relation_neurons.statistics.stratified_test import critical_shift, stratified_rank_test


def by_enumeration(own, controls):
    """Every choice of one set from each stratum, the sum of their ranks."""
    ranks = [stats.rankdata([effect, *draws]) for effect, draws in zip(own, controls, strict=True)]
    centre = sum(one.mean() for one in ranks)
    sums = np.array([sum(choice) for choice in itertools.product(*ranks)])
    return np.mean(np.abs(sums - centre) >= abs(sum(one[0] for one in ranks) - centre) - 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_equals_enumeration_with_ties_and_unequal_numbers_of_controls(seed):
    generator = np.random.default_rng(seed)
    controls = [generator.integers(0, 4, size=n).astype(float) for n in generator.integers(1, 5, size=4)]
    own = generator.integers(0, 4, size=4).astype(float).tolist()
    assert stratified_rank_test(own, controls) == pytest.approx(by_enumeration(own, controls))


def test_strata_without_controls_do_not_count():
    assert stratified_rank_test([-1.0, 5.0], [np.array([0.0, 1.0]), np.empty(0)]) == pytest.approx(2 / 3)
    assert np.isnan(stratified_rank_test([-1.0], [np.empty(0)]))


@pytest.mark.parametrize("tails", ["normal", "log-normal"])
def test_the_level_holds(tails):
    generator, strata, p = np.random.default_rng(0), 6, []
    for _ in range(2000):
        sets = generator.normal(size=(strata, 4)) if tails == "normal" else -generator.lognormal(0, 2, (strata, 4))
        p.append(stratified_rank_test(sets[:, 0].tolist(), list(sets[:, 1:])))
    assert 0.03 < np.mean(np.array(p) < LEVEL) < 0.06


def test_the_critical_shift_is_where_the_test_turns():
    controls = list(np.random.default_rng(1).normal(size=(5, 3)))
    shift = critical_shift(controls, LEVEL)
    for beyond, shown in ((0.99, False), (1.01, True)):
        own = [float(np.median(draws)) - beyond * shift for draws in controls]
        assert (stratified_rank_test(own, controls) < LEVEL) == shown
    assert critical_shift(controls[:2], LEVEL) == np.inf  # 2 / 4^2


def tables(effect, *, relations=6, n=5, draws=2):
    generator, rows = np.random.default_rng(3), {"own": [], "controls": []}
    for relation, draw in itertools.product(range(relations), range(-1, draws)):
        for fact in range(n):
            change = (effect if draw < 0 else 0.0) + 0.1 * generator.normal()
            row = {"ablated": f"r{relation}", "relation": f"r{relation}", "unit": f"f{fact}"}
            row |= {"clean_logprob": -1.0, "d_logprob": change}
            rows["own" if draw < 0 else "controls"].append(row if draw < 0 else row | {"draw": draw})
    return pd.DataFrame(rows["own"]), pd.DataFrame(rows["controls"])


def test_two_control_sets_of_each_of_several_relations_suffice_for_all_together():
    own, controls = tables(-1.0)
    each = compare(own, controls, by=["ablated"], measures=["logprob"])
    (together,) = compare(*pooled(own, controls), by=["ablated"], measures=["logprob"]).to_dict("records")
    assert set(each["verdict"]) == {"cannot be shown"}
    assert (together["ablated"], together["n"], together["verdict"]) == ("all", 30, "falls")
    assert together["p_random"] == pytest.approx(2 / 3**6)
    assert together["smallest_p"] == Design(1, 30, 2, 6).smallest_p == pytest.approx(2 / 3**6)
    assert together["effect"] == pytest.approx(own["d_logprob"].mean())
    assert together["minimum_effect"] < 0.3
    own, controls = tables(0.0)
    (nothing,) = compare(*pooled(own, controls), by=["ablated"], measures=["logprob"]).to_dict("records")
    assert nothing["verdict"] == "not shown"
    means = [own.loc[own["ablated"] == name, "d_logprob"].mean() for name in own["ablated"].unique()]
    draws = [rows.groupby("draw")["d_logprob"].mean() for _, rows in controls.groupby("ablated", sort=False)]
    assert nothing["p_random"] == pytest.approx(by_enumeration(np.round(means, 3), [one.round(3) for one in draws]))


def test_too_few_relations_for_their_control_sets():
    design = Design(1, 30, 2, 3)
    assert design.smallest_p == pytest.approx(2 / 27)
    assert not design.can_show
    assert design.controls_needed == 3
    assert "3 control sets" in design.needs
    (together,) = compare(*pooled(*tables(-1.0, relations=3)), by=["ablated"], measures=["logprob"]).to_dict("records")
    assert (together["verdict"], together["minimum_effect"]) == ("cannot be shown", np.inf)
