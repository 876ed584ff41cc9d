"""Stopping where nothing can be shown any more changes no verdict, whatever would have been drawn."""

import numpy as np
import pytest
from scipy import stats

from relation_neurons.statistics.effects import decide
from relation_neurons.statistics.hypothesis_tests import control_test
from relation_neurons.statistics.sequential import blocks, can_still_be_shown


def stopped_at(own, controls, p_chance):
    """How many control sets are drawn."""
    n = controls.shape[1]
    stops = (stop for _, stop in blocks(n) if not can_still_be_shown(own, controls[:, :stop], p_chance, n))
    return next(stops, n)


def test_blocks_double_and_end_with_the_last_control_set():
    assert list(blocks(50)) == [(0, 5), (5, 10), (10, 20), (20, 40), (40, 50)]
    assert list(blocks(3)) == [(0, 3)]
    assert list(blocks(5)) == [(0, 5)]
    assert list(blocks(0)) == []


@pytest.mark.parametrize("tails", ["normal", "heavy"])
@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_early_verdicts_are_those_with_all_control_sets(tails, effect):
    generator, early = np.random.default_rng(0), 0
    for _ in range(60):
        shape = (4, 51)
        sets = generator.normal(0, 0.3, shape) if tails == "normal" else -0.3 * generator.lognormal(0, 1.5, shape)
        sets[0, 0] -= effect
        own = sets[:, :1] + generator.normal(0, 1, (4, 30))
        controls = sets[:, None, 1:] + generator.normal(0, 1, (4, 30, 50))
        p = stats.ttest_1samp(own, 0, axis=1).pvalue
        n = stopped_at(own.mean(axis=1), controls.mean(axis=1), p)
        verdicts = [
            decide(list(own), list(controls[..., :drawn]), p.tolist(), resolution=1e-3, n_planned=[50] * 4)[
                "verdict"
            ].tolist()
            for drawn in (50, n)
        ]
        assert verdicts[0] == verdicts[1]
        assert "cannot be shown" not in verdicts[1]
        early += n < 50
    assert early > (20 if not effect else 3)  # so that the comparison says something


def test_after_a_stop_not_even_the_most_favourable_draws_show_anything():
    generator, n = np.random.default_rng(1), 40
    for _ in range(200):
        own, controls = generator.normal(size=1), generator.normal(size=(1, n))
        drawn = stopped_at(own, controls, np.zeros(1))
        if drawn == n:
            continue
        for far in (-1e6, 1e6, float(own[0]) + 1e-9, float(own[0]) - 1e-9, 0.0):
            favourable = np.append(controls[:, :drawn], np.full((1, n - drawn), far), axis=1)
            assert control_test(own.tolist(), list(favourable)).p[0] >= 0.05


def test_a_set_beyond_all_draws_goes_on_and_a_failed_test_over_facts_stops_at_once():
    controls = np.random.default_rng(2).normal(size=(2, 5))
    own = np.array([-9.0, 0.0])
    assert can_still_be_shown(own, controls, np.array([0.001, 0.001]), 20)
    assert not can_still_be_shown(own, controls, np.array([0.03, 0.03]), 20)  # 0.06 after Holm's correction
    assert not can_still_be_shown(own[1:], controls[1:], np.array([0.001]), 20)
