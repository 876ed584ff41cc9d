"""Overlaps of random sets against enumeration and draws."""

import math
from itertools import combinations

import numpy as np
import pytest

from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.random_overlap import matched_overlap, moments, overlap_table

SMALL = NeuronSpace("small", 2, (("gate", 5), ("up", 4)))


def named(name, *neurons):
    return NeuronSet(tuple(Neuron(*neuron) for neuron in neurons), name)


A = named("a", ("gate", 0, 0), ("gate", 0, 1), ("gate", 1, 2), ("up", 1, 3))
B = named("b", ("gate", 0, 1), ("gate", 0, 4), ("gate", 0, 2), ("up", 1, 3))
C = named("c", ("gate", 0, 1), ("up", 0, 0), ("gate", 1, 4), ("up", 1, 3))


def test_an_overlap_is_counted_and_both_nulls_are_those_of_enumeration():
    row = overlap_table([({"first": "a", "second": "b"}, A, B)], SMALL).iloc[0]
    assert (row["first"], row["second"], row["count"]) == ("a", "b", 2)
    assert (row["jaccard"], row["coefficient"]) == (2 / 6, 2 / 4)
    anywhere = [len({0, 1, 2, 3} & set(drawn)) for drawn in combinations(range(18), 4)]
    assert row["expected_uniform"] == pytest.approx(np.mean(anywhere))
    assert row["p_uniform"] == pytest.approx(np.mean(np.array(anywhere) >= 2))
    # a has 2 and b 3 of 5 in gate 0, both 1 of 4 in up 1, and gate 1 is a's alone
    matched = [
        len({0, 1} & set(gate)) + (up == 0) for gate in combinations(range(5), 3) for up in range(4) for _ in range(5)
    ]
    assert row["expected"] == pytest.approx(np.mean(matched))
    assert row["p"] == pytest.approx(np.mean(np.array(matched) >= 2))
    assert (row["low"], row["high"]) == tuple(np.quantile(matched, [0.025, 0.975], method="inverted_cdf"))


def test_the_exact_matched_p_is_that_of_random_draws():
    space = NeuronSpace("m", 3, (("gate", 60), ("up", 40)))
    generator = np.random.default_rng(0)
    first, second = (
        NeuronSet(tuple(Neuron("gate", layer, i) for layer in range(3) for i in range(n * (layer + 1)))) for n in (6, 9)
    )
    row = overlap_table([({}, first, second)], space).iloc[0]
    assert (row["count"], row["coefficient"]) == (6 + 12 + 18, 1)
    drawn = sum(generator.hypergeometric(6 * n, 60 - 6 * n, 9 * n, size=9999) for n in (1, 2, 3))
    pmf = matched_overlap([first, second], space)
    assert pmf.sum() == pytest.approx(1)
    for count in (12, 15, 18):
        exact = pmf[count:].sum()
        assert (1 + (drawn >= count).sum()) / 10_000 == pytest.approx(exact, abs=4 * math.sqrt(exact / 9999))
    assert row["expected"] == pytest.approx(drawn.mean(), abs=0.1)
    assert [row["low"], row["high"]] == np.quantile(drawn, [0.025, 0.975]).tolist()


def test_tails_far_below_what_draws_can_show_are_exact():
    space = NeuronSpace("m", 1, (("gate", 1000),))
    same = NeuronSet.from_pairs([(0, i) for i in range(50)], site="gate")
    row = overlap_table([({}, same, same)], space).iloc[0]
    assert row["p"] == pytest.approx(1 / math.comb(1000, 50), rel=1e-6)
    assert row["p_uniform"] == pytest.approx(row["p"], rel=1e-6)
    none = overlap_table([({}, same, NeuronSet.from_pairs([(0, 99)], site="gate"))], space).iloc[0]
    assert (none["count"], none["p"], none["verdict"]) == (0, 1, "not shown")


def test_three_sets_have_in_common_what_enumeration_and_draws_give():
    three = matched_overlap([A, B, C], SMALL)
    # all have neurons in gate 0 (2, 3 and 1 of 5) and up 1 (1 of 4 each)
    drawn = [
        len({0, 1} & set(gate) & {other}) + (up == 0 and last == 0)
        for gate in combinations(range(5), 3)
        for other in range(5)
        for up in range(4)
        for last in range(4)
    ]
    assert three == pytest.approx(np.bincount(drawn, minlength=len(three)) / len(drawn))
    assert moments(three) == pytest.approx((np.mean(drawn), np.var(drawn)))
    space, generator = NeuronSpace("m", 2, (("gate", 30),)), np.random.default_rng(0)
    sizes = [(12, 20), (15, 9), (10, 18)]
    sets = [NeuronSet.from_pairs([(layer, i) for layer in (0, 1) for i in range(n[layer])], site="gate") for n in sizes]
    exact, counts = matched_overlap(sets, space), []
    for _ in range(4000):
        held = [[set(generator.choice(30, n, replace=False)) for n in one] for one in sizes]
        counts.append(sum(len(set.intersection(*(one[layer] for one in held))) for layer in (0, 1)))
    assert exact.sum() == pytest.approx(1)
    found = np.bincount(counts, minlength=len(exact)) / 4000
    assert found == pytest.approx(exact, abs=0.03)
    assert np.mean(counts) == pytest.approx(moments(exact)[0], abs=0.1)
