"""What a family of tests can reach at best."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relation_neurons.statistics.effects import decide
from relation_neurons.statistics.hypothesis_tests import mcnemar_test, sign_flip_test
from relation_neurons.statistics.power import CONTROLS_NEEDED, Design


@pytest.mark.parametrize("design", [Design(1, 6, 20), Design(12, 9, 25), Design(240, 14, 40), Design(16, 10, 3)])
def test_no_p_value_is_smaller_than_the_smallest_and_the_greatest_effect_reaches_it(design):
    shape = (design.n_tests, design.n_facts)
    controls = np.random.default_rng(0).normal(size=(design.n_tests, design.n_facts, design.n_controls))
    own = np.full(shape, -1e6)
    for chance in (sign_flip_test(own[0]), mcnemar_test(design.n_facts, 0)):
        table = decide(list(own), list(controls), [chance] * design.n_tests, resolution=1e-3)
        assert table["p_holm"].min() == pytest.approx(design.smallest_p, rel=0.1)
        assert table["smallest_p"].tolist() == [design.smallest_p] * design.n_tests
        assert set(table["verdict"]) == {"falls" if design.can_show else "cannot be shown"}


def test_what_is_needed_is_enough_and_less_is_not():
    for n_tests in (1, 12, 240):
        needed = Design(n_tests, 1, CONTROLS_NEEDED).facts_needed
        assert Design(n_tests, needed, CONTROLS_NEEDED).can_show
        assert not Design(n_tests, needed - 1, CONTROLS_NEEDED).can_show
        assert not Design(n_tests, needed, CONTROLS_NEEDED - 1).can_show
        assert n_tests * stats.binomtest(0, needed).pvalue < 0.05


def test_a_design_states_what_it_can_show_or_needs():
    size = "240 tests, each of 12 facts and 2 control sets"
    assert str(Design(240, 12, 2)) == f"{size}: no effect can be shown; needed are 14 facts and 20 control sets"
    assert str(Design(16, 25, 20)).endswith("the smallest p that can be reached is 0.048, corrected for all tests")


def test_without_controls_there_are_estimates_and_no_verdicts():
    own = [np.full(20, -3.0), np.full(20, 1.0)]
    table = decide(own, [np.empty((20, 0))] * 2, [1e-6, 1e-6], resolution=1e-3)
    assert set(table["verdict"]) == {"cannot be shown"}
    pd.testing.assert_series_equal(table["p"], pd.Series([np.nan, np.nan], name="p"))
