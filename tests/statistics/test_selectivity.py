"""Own drops at equal cost to others, against drops read off by hand."""

import numpy as np
import pandas as pd
import pytest

from relation_neurons.statistics.selectivity import drops_at_equal_cost


def changes(curves):
    """Rows of hand-made curves: {scorer: {relation: {k: (own, other)}}}, accuracy being a tenth."""
    return pd.DataFrame(
        [
            {"scorer": scorer, "k": k, "ablated": name, "measure": measure, "own": own / part, "other": other / part}
            for scorer, relations in curves.items()
            for name, points in relations.items()
            for k, (own, other) in points.items()
            for measure, part in (("logprob", 1), ("correct", 10))
        ]
    )


CURVES = {
    "steep": {"a": {10: (-1.0, -0.04), 20: (-3.0, -0.12)}, "b": {10: (-1.0, -0.04), 20: (-5.0, -0.28)}},
    "flat": {"a": {10: (-0.5, 0.0), 20: (-0.6, -0.05)}, "b": {10: (-0.7, 0.02), 20: (-1.0, -0.05)}},
}


def test_the_drop_is_that_of_the_mean_curve_where_others_reach_the_cost():
    table = drops_at_equal_cost(changes(CURVES), cost=0.1, first="flat").set_index(["measure", "scorer"])
    steep, flat = table.loc["logprob", "steep"], table.loc["logprob", "flat"]
    # The mean curve goes from (0.04, -1) to (0.20, -4); at 0.1 it is 6/16 of the way.
    assert steep["own"] == pytest.approx(-1 - 3 * 6 / 16)
    assert (steep["reached"], flat["reached"]) == (True, False)
    assert flat["own"] == pytest.approx(-0.8)
    assert steep["difference"] == pytest.approx(steep["own"] + 0.8)
    assert steep["ratio"] == pytest.approx(steep["own"] / -0.8)
    assert table.loc[("correct", "steep"), "own"] == pytest.approx(steep["own"] / 10)
    assert steep["n"] == 2


def test_the_interval_is_of_relations_resampled_together():
    table = drops_at_equal_cost(changes(CURVES), cost=0.1, first="flat").set_index(["measure", "scorer"])
    steep = table.loc["logprob", "steep"]
    alone = [-1 - 2 * 6 / 8, -1 - 4 * 6 / 24]  # a quarter of the resamples is one of the relations twice
    assert [steep["own_low"], steep["own_high"]] == pytest.approx(sorted(alone))
    differences = [alone[0] + 0.6, alone[1] + 1.0]
    assert [steep["difference_low"], steep["difference_high"]] == pytest.approx(
        [min(*differences, steep["difference"]), max(*differences, steep["difference"])]
    )


def test_a_first_scorer_that_takes_nothing_has_no_ratio():
    curves = {"none": {"a": {10: (0.0, -1.0)}}, "some": {"a": {10: (-1.0, -1.0)}}}
    table = drops_at_equal_cost(changes(curves), cost=0.5, first="none").set_index(["measure", "scorer"])
    assert np.isinf(table.loc[("logprob", "some"), "ratio"])
    assert np.isnan(table.loc[("logprob", "some"), "ratio_low"])
    assert table.loc[("logprob", "some"), "own"] == pytest.approx(-0.5)
