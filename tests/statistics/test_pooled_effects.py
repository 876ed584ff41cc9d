"""Intervals over relations and facts are those of a plain loop, and pooled rows those of `compare`."""

import numpy as np
import pandas as pd
import pytest

from relation_neurons.errors import RelationNeuronsError
from relation_neurons.statistics.cluster_bootstrap import resampled_means, two_stage_interval
from relation_neurons.statistics.effects import compare
from relation_neurons.statistics.intervals import mean_interval
from relation_neurons.statistics.pooled_effects import pooled_effects


def by_loop(values, n_resamples, seed):
    generator, means = np.random.default_rng(seed), []
    for _ in range(n_resamples):
        clusters = [values[number] for number in generator.integers(len(values), size=len(values))]
        drawn = [generator.choice(units, size=len(units)) for units in clusters]
        means.append(np.concatenate(drawn).mean())
    return np.array(means)


def test_resamples_are_distributed_as_those_of_a_loop():
    generator = np.random.default_rng(0)
    values = [generator.normal(mean, 1, size=n) for mean, n in ((-3, 4), (0, 10), (1, 7), (2, 30))]
    found, expected = resampled_means(values, 20_000, 1), by_loop(values, 6_000, 2)
    levels = [2.5, 10, 50, 90, 97.5]
    np.testing.assert_allclose(np.percentile(found, levels), np.percentile(expected, levels), atol=0.1)


def test_relations_that_differ_make_the_interval_wide():
    generator = np.random.default_rng(0)
    values = [generator.normal(mean, 0.1, size=25) for mean in (-2, -1, 0, 1, 2)]
    over_facts, over_both = mean_interval(np.concatenate(values)), two_stage_interval(values)
    assert over_both.mean == pytest.approx(over_facts.mean)
    assert over_both.n == 125
    assert over_both.high - over_both.low > 4 * (over_facts.high - over_facts.low)
    alike = [generator.normal(0, 1, size=25) for _ in range(40)]
    ratio = np.ptp(two_stage_interval(alike)[1:3]) / np.ptp(mean_interval(np.concatenate(alike))[1:3])
    assert 0.9 < ratio < 1.7  # both stages add the noise of facts


def test_a_single_relation_has_no_end_and_none_is_refused():
    assert two_stage_interval([np.array([1.0, 2.0])])[:3] == (1.5, -np.inf, np.inf)
    for wrong in ([], [np.array([1.0]), np.array([])]):
        with pytest.raises(RelationNeuronsError, match="at least one value"):
            two_stage_interval(wrong)


def answers(effects, n_draws=0):
    """Changes of three facts for each relation, under its own set or under control sets."""
    generator = np.random.default_rng(len(effects) + n_draws)
    rows = [
        {"ablated": name, "relation": name, "unit": f"u{unit}", "clean_logprob": -1.0, "draw": draw}
        | {"d_logprob": effect + generator.normal(0, 0.1)}
        for name, effect in effects.items()
        for draw in range(n_draws or 1)
        for unit in range(3)
    ]
    table = pd.DataFrame(rows)
    return table if n_draws else table.drop(columns="draw")


def test_pooled_rows_are_one_group_of_all_relations():
    own = answers({"a": -1.0, "b": -3.0})
    controls = answers({"a": 0.0, "b": 0.5}, 20)
    (row,) = pooled_effects(own, controls, measures=["logprob"]).to_dict("records")
    (plain,) = compare(own.assign(every=0), controls.assign(every=0), by=["every"], measures=["logprob"]).to_dict(
        "records"
    )
    assert row["ablated"] == "all"
    assert (row["n"], row["n_controls"]) == (6, 20)
    for name in ("effect", "difference", "random"):
        assert row[name] == pytest.approx(plain[name])
    by_hand = [
        own[own["ablated"] == name]["d_logprob"].to_numpy()
        - controls[controls["ablated"] == name].groupby("unit")["d_logprob"].mean().to_numpy()
        for name in "ab"
    ]
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(two_stage_interval(by_hand)[1:3])
    assert row["difference_low"] < plain["difference_low"]


def test_without_controls_there_is_an_effect_and_no_difference():
    own = answers({"a": -1.0, "b": -3.0})
    (row,) = pooled_effects(own, answers({"a": 0.0}, 2).head(0), measures=["logprob"]).to_dict("records")
    assert np.isfinite(row["effect_low"])
    assert np.isnan(row["difference_low"])
    assert row["verdict"] == "cannot be shown"
