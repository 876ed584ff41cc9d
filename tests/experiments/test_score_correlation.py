"""Scores of the same neurons for two relations, against scikit-learn and the ranking of all."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.experiments.score_correlation import score_pair
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.neurons.ranking import rank_neurons
from relation_neurons.prompts.contrast import contrast

SPACE = NeuronSpace("tiny", 2, (("gate", 7), ("down", 3)))
NAMES = ("alpha", "beta", "gamma")


def prompt(relation, number):
    return rn.Prompt(relation=relation, subject=f"s{number}", object="o", text=f"{relation} {number} is", query_start=0)


@pytest.fixture(scope="module")
def activations():
    """Random ones, rounded so that there are ties; gate:L0.N2 is good for alpha and beta, down:L1.N0 for beta."""
    prompts = tuple(prompt(name, number) for number in range(9) for name in NAMES)
    values = np.random.default_rng(0).normal(0, 1, (len(prompts), len(SPACE))).round(1)
    own = np.array([one.relation for one in prompts])
    values[own != "gamma", SPACE.flatten([Neuron("gate", 0, 2)])[0]] += 3
    values[own == "beta", SPACE.flatten([Neuron("down", 1, 0)])[0]] += 5
    return rn.Activations(torch.from_numpy(values).float(), prompts, SPACE)


def test_scores_are_scikit_learns_over_the_same_negatives(activations):
    table = score_pair(activations, "beta", "alpha", k=3, seed=2)
    labels, mask = contrast(activations.prompts, seed=2)
    assert len(table) == len(SPACE)  # the others are fewer than 3000
    for row in table.to_dict("records"):
        neuron = Neuron(row["site"], row["layer"], row["index"])
        assert row["neuron"] == str(neuron)
        values = activations.values[:, SPACE.flatten([neuron])[0]].numpy()
        for place, relation in (("first", 1), ("second", 0)):
            part = mask[:, relation]
            expected = average_precision_score(labels[part, relation], values[part])
            assert row[f"score_{place}"] == pytest.approx(expected, abs=1e-6)


def test_groups_are_the_best_of_the_ranking(activations):
    table = score_pair(activations, "alpha", "beta", k=12, seed=1)
    ranking = rank_neurons(activations, depth=12, seed=1)
    alpha, beta = (set(map(str, ranking.top(name, 12))) for name in ("alpha", "beta"))
    groups = {group: set(rows["neuron"]) for group, rows in table.groupby("group")}
    assert "gate:L0.N2" in groups["both"]
    assert "down:L1.N0" in groups["second"]
    assert groups["both"] == alpha & beta
    assert groups["first"] == alpha - beta
    assert groups["second"] == beta - alpha
    assert not groups["rest"] & (alpha | beta)
    assert set(table["first"]) == {"alpha"}
    assert set(table["second"]) == {"beta"}


def test_the_background_is_a_sample_that_its_seed_repeats(activations):
    one, again, other = (
        score_pair(activations, "alpha", "beta", k=2, n_background=5, seed=seed).query("group == 'rest'")
        for seed in (0, 0, 1)
    )
    assert len(one) == len(set(one["neuron"])) == 5
    assert list(one["neuron"]) == list(again["neuron"])
    assert list(one["neuron"]) != list(other["neuron"])


def test_what_cannot_be_compared_is_refused(activations):
    with pytest.raises(rn.RelationNeuronsError, match=r"no prompts of 'alpa'.*did you mean 'alpha'"):
        score_pair(activations, "alpa", "beta", k=2)
    with pytest.raises(rn.RelationNeuronsError, match="named twice"):
        score_pair(activations, "beta", "beta", k=2)
    with pytest.raises(rn.RelationNeuronsError, match="n_background is -1"):
        score_pair(activations, "alpha", "beta", k=2, n_background=-1)
    with pytest.raises(rn.RelationNeuronsError, match="k is 21"):
        score_pair(activations, "alpha", "beta", k=21)
