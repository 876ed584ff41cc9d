"""Effects compared with controls: every number against a naive computation."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import relation_neurons as rn
from relation_neurons.statistics.effects import compare, judged
from relation_neurons.statistics.hypothesis_tests import control_test, moderated_spreads, sign_flip_test


def answers(effects, *, spread=0.3, n=12, draws=(), seed=0, templates=2):
    """Answers to n facts in two templates for every group, changed by its effect plus noise."""
    generator = np.random.default_rng(seed)
    rows = []
    for group, effect in effects.items():
        for draw in draws or (None,):
            for fact in range(n):
                for template in range(templates):
                    change = effect + spread * generator.normal()
                    row = {"ablated": group, "relation": group, "unit": f"f{fact}", "template": template}
                    row |= {"clean_logprob": -1.0 - fact, "d_logprob": change, "clean_correct": float(fact % 2)}
                    row["d_correct"] = -float(fact % 2 and change < -0.5)
                    rows.append(row if draw is None else row | {"draw": draw})
    return pd.DataFrame(rows)


def test_every_number_matches_a_loop_over_facts():
    own = answers({"a": -1.0, "b": 0.0})
    controls = answers({"a": 0.0, "b": 0.0}, draws=range(5), seed=1)
    row = compare(own, controls, by=["ablated"]).query("ablated == 'a' and measure == 'logprob'").iloc[0]
    own_means = [own[(own["ablated"] == "a") & (own["unit"] == f"f{i}")]["d_logprob"].mean() for i in range(12)]
    drawn = controls[controls["ablated"] == "a"]
    sets = [drawn[drawn["draw"] == draw].groupby("unit")["d_logprob"].mean().mean() for draw in range(5)]
    by_fact = [drawn[drawn["unit"] == f"f{i}"]["d_logprob"].mean() for i in range(12)]
    assert row["n"] == 12
    assert row["effect"] == pytest.approx(np.mean(own_means))
    assert row["clean"] == pytest.approx(-6.5)
    assert row["random"] == pytest.approx(np.mean(sets))
    assert (row["random_min"], row["random_max"]) == (pytest.approx(min(sets)), pytest.approx(max(sets)))
    assert row["random_sd"] == pytest.approx(np.std(sets, ddof=1))
    assert row["difference"] == pytest.approx(np.mean(np.subtract(own_means, by_fact)))
    assert row["p_chance"] == pytest.approx(sign_flip_test(np.array(own_means)))
    assert row["p_random"] == pytest.approx(control_test(np.mean(own_means), np.array(sets), resolution=1e-3))
    assert row["p"] == max(row["p_chance"], row["p_random"])
    assert row["p_holm"] == pytest.approx(min(1, 2 * row["p"]))
    assert row["verdict"] == "falls"  # two groups: each has its own spread
    assert (row["lost"], row["gained"]) == (12, 0)


def test_accuracy_is_tested_by_mcnemar_over_facts():
    own = answers({"a": -1.0}, spread=0.1)
    controls = answers({"a": 0.0}, draws=range(8), spread=0.1, seed=1)
    row = compare(own, controls, by=["ablated"]).query("measure == 'correct'").iloc[0]
    assert (row["lost"], row["gained"]) == (6, 0)
    assert row["effect"] == pytest.approx(-0.5)
    assert row["p_chance"] == pytest.approx(stats.binomtest(0, 6).pvalue)
    assert row["random"] == 0


def test_an_effect_that_random_neurons_have_too_is_not_shown():
    own = answers({"a": -1.0})
    controls = answers({"a": -1.0}, draws=range(5), seed=1)
    generator = np.random.default_rng(2)
    controls["d_logprob"] += controls["draw"].map(dict(enumerate(generator.normal(0, 0.5, size=5))))
    row = compare(own, controls, by=["ablated"]).iloc[0]
    assert row["p_chance"] < 0.001
    assert row["p_random"] > 0.1
    assert row["verdict"] == "not shown"


def test_an_effect_opposite_to_its_difference_from_controls_is_not_shown():
    own = answers({"a": -0.5}, spread=0.1)
    controls = answers({"a": -2.0}, draws=range(5), spread=0.1, seed=1)
    row = compare(own, controls, by=["ablated"]).iloc[0]
    assert row["p_chance"] < 0.001
    assert row["p_random"] < 0.001
    assert row["p"] == 1
    assert row["verdict"] == "not shown"


def test_a_single_control_or_none_proves_nothing():
    own = answers({"a": -1.0})
    for controls in (answers({"a": 0.0}, draws=[0], seed=1), answers({"b": 0.0}, draws=[0])):
        row = compare(own, controls, by=["ablated"]).iloc[0]
        assert np.isnan(row["p"])
        assert row["verdict"] == "not shown"
        assert row["effect"] == pytest.approx(own["d_logprob"].mean())


def test_the_spread_is_pooled_over_groups_that_share_a_value():
    own = answers({"a": -1.0, "b": 0.0})
    controls = answers({"a": 0.0, "b": 0.0}, draws=range(2), seed=1)
    own["relation"] = controls["relation"] = "asked"
    table = compare(own, controls, by=["ablated", "relation"], pool="relation").query("measure == 'logprob'")
    sets = controls.groupby(["ablated", "draw"])["d_logprob"].mean().unstack().to_numpy()
    pooled = np.sqrt(np.square(sets - sets.mean(axis=1, keepdims=True)).sum() / 2)
    assert table["random_sd"].tolist() == [pytest.approx(pooled)] * 2


def test_the_spread_of_many_groups_is_moderated():
    names = [f"r{number}" for number in range(6)]
    own, controls = answers(dict.fromkeys(names, -0.2)), answers(dict.fromkeys(names, 0.0), draws=range(3), seed=1)
    table = compare(own, controls, by=["ablated"], measures=["logprob"])
    sets = controls.groupby(["ablated", "draw"])["d_logprob"].mean().unstack().to_numpy()
    expected = moderated_spreads(list(sets), least=1e-3)
    assert table["random_sd"].tolist() == [pytest.approx(sd) for sd, _ in expected]
    assert expected[0][1] > 2


def test_controls_must_have_the_same_facts():
    own = answers({"a": -1.0})
    controls = answers({"a": 0.0}, draws=range(3), n=11)
    with pytest.raises(rn.RelationNeuronsError, match="lack some of its facts"):
        compare(own, controls, by=["ablated"])
    with pytest.raises(rn.RelationNeuronsError, match="nothing to compare"):
        compare(own.iloc[:0], controls, by=["ablated"])


def test_corrections_are_over_the_rows_of_each_measure():
    table = pd.DataFrame({"measure": ["x", "x", "y"], "p": [0.02, 0.04, 0.04], "effect": [-1.0, 1.0, 1.0]})
    corrected = judged(table)
    assert corrected["p_holm"].tolist() == [pytest.approx(0.04), pytest.approx(0.04), 0.04]
    assert corrected["verdict"].tolist() == ["falls", "rises", "rises"]


def test_random_sets_have_the_nominal_false_positive_rate():
    """Sets whose effect is drawn like that of their controls: only the control test detects this."""
    generator, shown = np.random.default_rng(0), 0
    for seed in range(200):
        centre = generator.normal(0, 0.5, size=6)
        own = answers({"a": centre[0]}, seed=seed, templates=1)
        controls = answers({"a": 0.0}, draws=range(5), seed=seed + 1000, templates=1)
        controls["d_logprob"] += controls["draw"].map(dict(enumerate(centre[1:])))
        table = compare(own, controls, by=["ablated"], measures=["logprob"])
        shown += int((table["verdict"] != "not shown").iloc[0])
    assert shown <= stats.binom.ppf(0.999, 200, 0.05)
