"""Effects compared with controls: every number against a naive computation."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import relation_neurons as rn
from relation_neurons.statistics.effects import compare, judged
from relation_neurons.statistics.hypothesis_tests import control_test, sign_flip_test


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
    controls = answers({"a": 0.0, "b": 0.0}, draws=range(25), seed=1)
    row = compare(own, controls, by=["ablated"]).query("ablated == 'a' and measure == 'logprob'").iloc[0]
    own_means = [own[(own["ablated"] == "a") & (own["unit"] == f"f{i}")]["d_logprob"].mean() for i in range(12)]
    drawn = controls[controls["ablated"] == "a"]
    sets = [drawn[drawn["draw"] == draw].groupby("unit")["d_logprob"].mean().mean() for draw in range(25)]
    by_fact = [drawn[drawn["unit"] == f"f{i}"]["d_logprob"].mean() for i in range(12)]
    assert row["n"] == 12
    assert row["effect"] == pytest.approx(np.mean(own_means))
    assert row["clean"] == pytest.approx(-6.5)
    assert row["random"] == pytest.approx(np.mean(sets))
    assert (row["random_min"], row["random_max"]) == (pytest.approx(min(sets)), pytest.approx(max(sets)))
    assert row["random_sd"] == pytest.approx(np.std(sets, ddof=1))
    assert row["difference"] == pytest.approx(np.mean(np.subtract(own_means, by_fact)))
    assert row["p_chance"] == pytest.approx(sign_flip_test(np.array(own_means)))
    assert row["p_random"] == control_test([np.mean(own_means)], [np.array(sets)], resolution=1e-3).p[0] == 1 / 26
    assert row["p"] == max(row["p_chance"], row["p_random"])
    assert row["p_holm"] == pytest.approx(max(2 * row["p_chance"], 1 / 26))
    assert row["smallest_p"] == pytest.approx(max(2 * 2 / 2**12, 1 / 26))
    assert row["verdict"] == "falls"
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
    controls = answers({"a": -1.0}, draws=range(25), seed=1)
    generator = np.random.default_rng(2)
    controls["d_logprob"] += controls["draw"].map(dict(enumerate(generator.normal(0, 0.5, size=25))))
    row = compare(own, controls, by=["ablated"]).iloc[0]
    assert row["p_chance"] < 0.001
    assert row["p_random"] > 0.1
    assert row["verdict"] == "not shown"


def test_an_effect_opposite_to_its_difference_from_controls_is_not_shown():
    own = answers({"a": -0.5}, spread=0.1)
    controls = answers({"a": -2.0}, draws=range(25), spread=0.1, seed=1)
    row = compare(own, controls, by=["ablated"]).iloc[0]
    assert row["p_chance"] < 0.001
    assert row["p_random"] == 1 / 26
    assert row["p"] == 1
    assert row["verdict"] == "not shown"


def test_too_few_controls_cannot_show_an_effect_however_large():
    own = answers({"a": -100.0})
    for n_draws in (0, 1, 19):
        controls = answers({"a": 0.0}, draws=range(n_draws), seed=1) if n_draws else answers({"b": 0.0}, draws=[0])
        row = compare(own, controls, by=["ablated"]).iloc[0]
        assert row["n_controls"] == n_draws
        assert row["smallest_p"] >= 0.05
        assert row["verdict"] == "cannot be shown"
        assert row["minimum_effect"] == np.inf
        assert row["effect"] == pytest.approx(own["d_logprob"].mean())


@pytest.mark.parametrize(("n_facts", "verdict"), [(11, "cannot be shown"), (12, "falls")])
def test_too_few_facts_for_a_family_cannot_show_an_effect_however_large(n_facts, verdict):
    names = [f"r{number}" for number in range(60)]  # 60 tests: 60 * 2 / 2^12 < 0.05
    own = answers(dict.fromkeys(names, -100.0), n=n_facts, templates=1)
    controls = answers(dict.fromkeys(names, 0.0), n=n_facts, draws=range(20), seed=1, templates=1)
    table = compare(own, controls, by=["ablated"], measures=["logprob"])
    assert set(table["verdict"]) == {verdict}
    assert (table["p_holm"] == np.maximum(60 * 2 / 2**n_facts, 1 / 21)).all()
    assert (table["smallest_p"] == table["p_holm"]).all()


def test_the_minimum_effect_is_found_with_eighty_percent_power():
    """Simulated: an effect of that size passes both tests in about 80 % of samples."""
    generator, hits, least = np.random.default_rng(0), 0, []
    for seed in range(80):
        own = answers({"a": -1.15}, n=15, spread=1.0, templates=1, seed=seed)
        controls = answers({"a": 0.0}, n=15, spread=1.0, templates=1, draws=range(30), seed=seed + 1000)
        controls["d_logprob"] += controls["draw"].map(dict(enumerate(generator.normal(0, 0.3, size=30))))
        row = compare(own, controls, by=["ablated"], measures=["logprob"]).iloc[0]
        hits += row["verdict"] == "falls"
        least.append(row["minimum_effect"])
    assert np.median(least) == pytest.approx(1.15, abs=0.1)
    assert 0.68 < hits / 80 < 0.92


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


@pytest.mark.full
def test_random_sets_have_the_nominal_false_positive_rate():
    """Sets whose effect is drawn like that of their controls: only the control test detects this."""
    generator, shown = np.random.default_rng(0), 0
    for seed in range(200):
        centre = generator.normal(0, 0.5, size=26)
        own = answers({"a": centre[0]}, seed=seed, templates=1)
        controls = answers({"a": 0.0}, draws=range(25), seed=seed + 1000, templates=1)
        controls["d_logprob"] += controls["draw"].map(dict(enumerate(centre[1:])))
        table = compare(own, controls, by=["ablated"], measures=["logprob"])
        shown += int(table["verdict"].isin(["falls", "rises"]).iloc[0])
    assert shown <= stats.binom.ppf(0.999, 200, 0.05)
