import copy
import operator
import pickle
from collections import Counter

import numpy as np
import pytest

import relation_neurons as rn
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.neurons.controls import NEIGHBOURS, random_sets

SPACE = NeuronSpace("toy", 3, (("gate", 4), ("down", 2)))  # 18 neurons


def test_flat_indices_and_neurons_correspond():
    flat = np.arange(len(SPACE))
    neurons = [rn.Neuron(*one) for one in zip(*(list(part) for part in SPACE.locate(flat)), strict=True)]
    assert neurons[0] == ("gate", 0, 0)
    assert neurons[4] == ("gate", 1, 0)
    assert neurons[12] == ("down", 0, 0)
    assert neurons[17] == ("down", 2, 1)
    assert (SPACE.flatten(neurons) == flat).all()


def test_a_neuron_is_printed_in_the_usual_notation():
    assert str(rn.Neuron("post", 12, 345)) == "L12.N345"
    assert str(rn.Neuron("gate", 0, 1)) == "gate:L0.N1"


@pytest.mark.parametrize("neuron", [("gate", 3, 0), ("gate", 0, 4), ("down", 0, 2), ("up", 0, 0), ("gate", 0, -1)])
def test_neurons_outside_the_space_are_refused(neuron):
    with pytest.raises(rn.RelationNeuronsError, match="'toy' has no neuron"):
        SPACE.flatten([rn.Neuron(*neuron)])


def test_top_k_breaks_ties_by_flat_order():
    scores = np.zeros((2, 18), dtype=np.float32)
    scores[0, [3, 9, 15]] = [0.5, 1.0, 1.0]
    chosen = rn.top_k(scores, 5, SPACE, ["a", "b"])
    assert SPACE.flatten(list(chosen["a"])).tolist() == [9, 15, 3, 0, 1]
    assert chosen["a"].scores == (1.0, 1.0, 0.5, 0.0, 0.0)
    assert SPACE.flatten(list(chosen["b"])).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("k", [0, 19])
def test_k_outside_the_model_is_refused(k):
    with pytest.raises(rn.RelationNeuronsError, match=f"k is {k}"):
        rn.top_k(np.zeros((1, 18)), k, SPACE, ["a"])


def test_controls_match_the_target_and_avoid_it():
    space = NeuronSpace("toy", 3, (("gate", 40), ("down", 20)))
    target = rn.NeuronSet((rn.Neuron("gate", 0, 1), rn.Neuron("gate", 0, 2), rn.Neuron("down", 2, 0)), "t")
    controls = rn.random_controls(target, space, n=20, seed=3)
    for control in controls:
        assert control.by_place().keys() == target.by_place().keys()
        assert {place: len(found) for place, found in control.by_place().items()} == {("gate", 0): 2, ("down", 2): 1}
        assert control.overlap(target) == 0
    assert controls == rn.random_controls(target, space, n=20, seed=3)
    assert controls[:5] == rn.random_controls(target, space, n=5, seed=3)
    assert controls != rn.random_controls(target, space, n=20, seed=4)


def test_controls_are_drawn_evenly():
    space = NeuronSpace("toy", 1, (("post", 10),))
    target = rn.NeuronSet.from_pairs([(0, 0), (0, 1)])
    drawn = np.zeros(10)
    for control in rn.random_controls(target, space, n=2000):
        drawn[[neuron.index for neuron in control]] += 1
    assert (drawn[:2] == 0).all()
    assert np.abs(drawn[2:] / 2000 - 2 / 8).max() < 0.05  # five standard errors


def test_a_full_layer_leaves_no_controls():
    with pytest.raises(rn.RelationNeuronsError, match="Layer 0 of site 'down'"):
        rn.random_controls(rn.NeuronSet((rn.Neuron("down", 0, 0), rn.Neuron("down", 0, 1))), SPACE)


def test_sets_are_created_from_valid_pairs_only():
    one = rn.NeuronSet.from_pairs([(12, 345), (np.int64(13), 7)], site="gate")
    assert list(one) == [("gate", 12, 345), ("gate", 13, 7)]
    assert (one.layer_counts(14)[12:] == [1, 1]).all()
    for pairs, site, says in [
        ([], "post", "empty"),
        ([(0, 1), (0, 1)], "post", "twice"),
        ([(0, 1)], "ffn", "one simple"),
        ([(0, 1)], "psot", "did you mean 'post'"),
    ]:
        with pytest.raises(rn.RelationNeuronsError, match=says):
            rn.NeuronSet.from_pairs(pairs, site=site)


def test_a_set_round_trips_through_its_frame():
    ranked = rn.NeuronSet((rn.Neuron("up", 3, 4), rn.Neuron("down", 0, 1)), "some", (0.9, 0.5))
    assert rn.NeuronSet.from_frame(ranked.to_frame()) == ranked
    plain = rn.NeuronSet.from_pairs([(0, 1), (0, 2)], name="plain")
    assert rn.NeuronSet.from_frame(plain.to_frame()) == plain


def test_overlap_counts_shared_neurons():
    a, b = rn.NeuronSet.from_pairs([(0, 1), (0, 2), (1, 1)]), rn.NeuronSet.from_pairs([(1, 1), (0, 2), (2, 2)])
    assert a.overlap(b) == b.overlap(a) == 2


def test_controls_matched_by_activity_are_drawn_from_the_nearest():
    space = NeuronSpace("wide", 2, (("post", 1000),))
    activity = np.tile(np.random.default_rng(0).permutation(1000).astype(float), 2)  # neurons 0 to 999, twice
    target = rn.NeuronSet.from_pairs([(0, 100), (0, 500), (1, 100)], name="t")
    drawn = set()
    for control in rn.random_controls(target, space, n=50, activity=activity):
        for theirs, ours in zip(control, target, strict=True):
            assert theirs.layer == ours.layer
            assert abs(activity[theirs.index] - activity[ours.index]) <= NEIGHBOURS
            drawn.add(theirs)
        assert not set(control) & set(target)
    assert len(drawn) > 2 * NEIGHBOURS  # not always the same


def test_random_sets_are_drawn_from_everywhere_outside_the_target():
    space = NeuronSpace("wide", 4, (("post", 50), ("down", 10)))
    target = rn.NeuronSet.from_pairs([(0, index) for index in range(40)], name="t")
    sets = random_sets(target, space, n=30, seed=1)
    assert all(len(one) == 40 and not one.overlap(target) for one in sets)
    places = Counter((neuron.site, neuron.layer) for one in sets for neuron in one)
    assert len(places) == 8  # every site and layer
    assert places["post", 1] / 1200 == pytest.approx(50 / 200, abs=0.05)
    assert places["post", 0] / 1200 == pytest.approx(10 / 200, abs=0.03)
    with pytest.raises(rn.RelationNeuronsError, match="5 neurons to draw from"):
        random_sets(target, NeuronSpace("small", 1, (("post", 45),)))


@pytest.mark.parametrize("draw", [rn.random_controls, random_sets])
def test_sets_that_may_share_neurons_with_the_target_can_be_as_large_as_the_model(draw):
    space = NeuronSpace("small", 2, (("post", 30),))
    left_out = rn.NeuronSet.from_pairs([(0, 7), (1, 9)])
    places = [(layer, index) for layer in range(2) for index in range(30)]
    target = rn.NeuronSet.from_pairs([place for place in places if place not in ((0, 7), (1, 9))], name="t")
    first, second = draw(target, space, n=2, seed=3, exclude=left_out, disjoint=False)
    assert set(first) == set(second) == set(target)
    assert first.neurons != target.neurons != second.neurons
    shared = [one.overlap(target.part(0, 10)) for one in draw(target.part(0, 10), space, n=200, disjoint=False)]
    pool = 30 if draw is rn.random_controls else 60  # all ten are in the first layer
    assert np.mean(shared) == pytest.approx(10 * 10 / pool, abs=0.3)
    with pytest.raises(rn.RelationNeuronsError, match="neurons to draw from"):
        draw(target, space, exclude=left_out)


def test_parts_of_a_set_keep_order_and_scores():
    whole = rn.NeuronSet(tuple(Neuron("post", 0, index) for index in (5, 3, 9)), "w", (0.9, 0.8, 0.7))
    assert whole.part(1, 3) == rn.NeuronSet(whole.neurons[1:], "w", (0.8, 0.7))
    for start, stop in ((0, 4), (2, 2), (-1, 2)):
        with pytest.raises(rn.RelationNeuronsError, match="Ranks"):
            whole.part(start, stop)


A = rn.NeuronSet.from_pairs([(5, 0), (1, 1), (3, 2), (2, 9)], name="a")
A = rn.NeuronSet(A.neurons, "a", (0.9, 0.8, 0.7, 0.6))
B = rn.NeuronSet.from_pairs([(3, 2), (4, 4), (5, 0)], name="b")


def test_a_slice_is_a_set_and_a_number_is_a_neuron():
    assert A[:2] == A.part(0, 2)
    assert A[1:] == A.part(1, 4)
    assert A[::-2] == rn.NeuronSet((A.neurons[3], A.neurons[1]), "a", (0.6, 0.8))
    assert A[:100] == A
    assert B[:2].scores is None
    assert (A[0], A[-1], A[np.int64(1)]) == (A.neurons[0], A.neurons[3], A.neurons[1])
    assert isinstance(A[0], rn.Neuron)
    assert list(reversed(A)) == list(A.neurons[::-1])


@pytest.mark.parametrize("rank", [4, -5, "0", 1.0, None, slice(2, 2), slice(4, None), slice("x"), slice(0, 1, 0)])
def test_ranks_that_a_set_does_not_have_are_refused(rank):
    with pytest.raises(rn.RelationNeuronsError, match="neuron set 'a'"):
        A[rank]


def test_sets_are_compared_neuron_by_neuron():
    members = set(A.neurons), set(B.neurons)
    assert set(A & B) == members[0] & members[1]
    assert set(A | B) == members[0] | members[1]
    assert set(A - B) == members[0] - members[1]
    assert len(A & B) == A.overlap(B)


def test_sets_keep_the_order_and_the_scores_of_the_first():
    assert rn.NeuronSet((A.neurons[0], A.neurons[2]), "a & b", (0.9, 0.7)) == A & B
    assert rn.NeuronSet((A.neurons[1], A.neurons[3]), "a - b", (0.8, 0.6)) == A - B
    assert rn.NeuronSet((*A.neurons, B.neurons[1]), "a | b") == A | B
    assert rn.NeuronSet((B.neurons[0], B.neurons[2]), "b & a") == B & A


def test_nothing_left_is_refused_and_other_things_are_no_sets():
    with pytest.raises(rn.RelationNeuronsError, match="'a' - 'a' has no neuron"):
        A - A
    with pytest.raises(rn.RelationNeuronsError, match="'a & b' & 'a - b' has no neuron"):
        (A & B) & (A - B)
    for operate in (operator.and_, operator.or_, operator.sub):
        with pytest.raises(TypeError, match="unsupported operand"):
            operate(A, set(B))


def test_membership_is_that_of_the_neurons():
    assert all(neuron in A for neuron in A)
    assert rn.Neuron("post", 4, 4) not in A
    assert rn.Neuron("gate", 5, 0) not in A
    assert "L5.N0" not in A
    assert copy.deepcopy(A) == pickle.loads(pickle.dumps(A)) == A
    assert hash(A) == hash(rn.NeuronSet(A.neurons, "a", A.scores))
