"""Neurons of equal score are ordered by effect size, then by place, as a slow recount orders them."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons import ranking as ranking_module
from relation_neurons.neurons.ranking import rank_neurons
from relation_neurons.results.neuron_verdicts import tie_rule
from relation_neurons.scores import average_precision as ap_module
from relation_neurons.scores import effect_size
from relation_neurons.scores.average_precision import average_precision_torch

SPACE = NeuronSpace("toy", 3, (("gate", 20), ("down", 10)))
NAMES = ("a", "b", "c")
PROMPTS = tuple(rn.Prompt(name, f"subject {i}", "object", f"{name} {i}") for name in NAMES for i in range(12))


def many_ties(seed, dtype=torch.float32):
    """Whole numbers, so that sums are exact; a third of the neurons separate a relation, many are copies of others."""
    generator = np.random.default_rng(seed)
    values = generator.integers(-2, 3, (len(PROMPTS), len(SPACE)))
    for neuron in range(0, 60):
        own = [prompt.relation == NAMES[neuron % 3] for prompt in PROMPTS]
        noise = generator.integers(0, 1 + neuron % 4, len(PROMPTS))  # none at all for a quarter of them
        values[:, neuron] = np.where(own, 4 + neuron % 2, 0) + noise
    values[:, 60] = 1
    values = values[:, generator.permutation(len(SPACE))]
    copied = generator.choice(len(SPACE), (2, 25))
    values[:, copied[0]] = values[:, copied[1]]
    return rn.Activations(torch.tensor(values, dtype=dtype), PROMPTS, SPACE, False)


def slow_effect(own, others):
    if np.ptp(own) == np.ptp(others) == 0:
        return math.copysign(math.inf, own[0] - others[0]) if own[0] != others[0] else 0.0
    squares = sum((own - own.mean()) ** 2) + sum((others - others.mean()) ** 2)
    return (own.mean() - others.mean()) / math.sqrt(squares / (len(own) + len(others) - 2))


def slow_order(activations, number):
    """All neurons of a relation as (-score, -effect, index), best first, one at a time."""
    labels, mask = rn.contrast(PROMPTS)
    kept, values = mask[:, number], activations.values.double().numpy()
    rows = []
    for neuron, column in enumerate(values.T):
        score = average_precision_score(labels[kept, number], column[kept])
        effect = slow_effect(column[kept & labels[:, number]], column[kept & ~labels[:, number]])
        rows.append((-np.float32(score), -np.float32(effect), neuron))
    return sorted(rows)


@pytest.fixture(params=["compiled", "torch"])
def path(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(ap_module, "can_rank", lambda scores: False)
    elif not ap_module.can_rank(torch.zeros(2, 2)):
        pytest.skip("needs numba")


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("seed", range(4))
def test_the_ranking_is_that_of_a_slow_recount(seed, dtype, monkeypatch):
    monkeypatch.setattr(effect_size, "CHUNK_BYTES", 48 * len(PROMPTS) * 4)  # chunks of 4 neurons
    activations = many_ties(seed, dtype)
    expected = {name: slow_order(activations, number) for number, name in enumerate(NAMES)}
    for depth in (1, 7, 40, len(SPACE)):
        best = rank_neurons(activations, depth=depth).best
        for name, order in expected.items():
            assert SPACE.flatten(list(best[name])).tolist() == [neuron for _, _, neuron in order[:depth]]
            assert best[name].scores == tuple(-score for score, _, _ in order[:depth])


def test_the_recount_has_ties_of_every_kind():
    order = slow_order(many_ties(0), 0)
    perfect = [row for row in order if row[0] == -1]
    effects = [effect for _, effect, _ in perfect]
    assert len(perfect) > 15
    assert effects.count(-np.inf) > 1
    assert len(set(effects)) > 4
    assert any(effects.count(effect) > 1 for effect in effects if np.isfinite(effect))
    assert [neuron for _, _, neuron in perfect] != sorted(neuron for _, _, neuron in perfect)


@pytest.mark.parametrize("depth", [5, 30, len(SPACE)])
def test_neurons_chosen_by_the_tie_rule_are_counted(depth):
    activations = many_ties(1)
    ranking = rank_neurons(activations, depth=depth)
    for number, name in enumerate(NAMES):
        scores = [score for score, _, _ in slow_order(activations, number)]
        for k in range(1, depth + 1):
            tied = k < len(scores) and scores[k] == scores[k - 1]
            expected = [tied and score == scores[k - 1] for score in scores[:k]]
            assert ranking.top_frame(name, k)["by_tie_rule"].tolist() == expected


def test_effect_sizes_are_computed_only_for_neurons_that_share_their_score(monkeypatch):
    seen = []

    def recorded(*arguments):
        sizes = effect_size.by_effect_size(*arguments)
        return lambda number, neurons: seen.append((number, neurons)) or sizes(number, neurons)

    monkeypatch.setattr(ranking_module, "by_effect_size", recorded)
    activations = many_ties(2)
    rank_neurons(activations, depth=9)
    for number, neurons in seen:
        scores = {neuron: score for score, _, neuron in slow_order(activations, number)}
        at_least = [neuron for neuron, score in scores.items() if score <= sorted(scores.values())[8]]
        shared = [neuron for neuron in at_least if list(scores.values()).count(scores[neuron]) > 1]
        assert sorted(neurons.tolist()) == sorted(shared)


def test_neurons_with_infinities_come_last_among_equals():
    activations = many_ties(3)
    labels, mask = rn.contrast(PROMPTS)
    activations.values[:, 4] = torch.from_numpy(np.where(labels[:, 0], np.inf, 0.0))
    perfect = average_precision_torch(activations.values, torch.from_numpy(labels), torch.from_numpy(mask))[0] == 1
    ties = rn.by_effect_size(activations.values, labels, mask)
    scores = perfect.float().numpy()[None]
    best = rn.top_k(scores, int(perfect.sum()), SPACE, ["a"], ties)["a"]
    assert SPACE.flatten(list(best)).tolist()[-1] == 4


def test_the_tie_rule_is_put_into_words():
    rows = {"name": ["a"] * 3 + ["b"] * 3, "rank": [1, 2, 3] * 2, "by_tie_rule": [False, True, True] + [False] * 3}
    sentence = tie_rule(pd.DataFrame(rows))
    assert sentence.startswith(
        "Of the 3 neurons of each of 2 relations, the tie rule chose 2 in a, none in 1: equal scores"
    )
    assert "the tie rule chose 2 in a: " in tie_rule(pd.DataFrame(rows)[:3])
    assert "the tie rule chose none in 1: " in tie_rule(pd.DataFrame(rows)[3:])
