"""Neurons of contrasts against plain rankings, column by column and block by block."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.neurons import pairwise
from relation_neurons.neurons.pairwise import kept_apart, leaving_out, rank_contrasts
from relation_neurons.neurons.ranking import rank_neurons
from relation_neurons.prompts.contrast import Contrast, contrast_with
from tests.planted_properties import RELATIONS, plant_nothing

NAMES = RELATIONS[:5]


@pytest.fixture(scope="module")
def activations():
    planted = plant_nothing()
    prompts = rn.make_prompts(planted.relations[:5], rn.PromptConfig(shots=0, n_evaluation=15)).detection
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(len(prompts), 300)).astype(np.float32)).round(
        decimals=1
    )
    values[[prompt.relation == NAMES[0] for prompt in prompts], :40] += 20  # perfect scores, so that ties decide
    space = NeuronSpace("m", 3, (("gate", 100),))
    return rn.Activations(values, prompts, space)


def test_a_contrast_has_the_negatives_that_were_chosen(activations):
    prompts = activations.prompts
    own = np.array([prompt.relation for prompt in prompts])
    first, second, *others = NAMES
    labels, mask = contrast_with(prompts, [Contrast(first, tuple(others)), Contrast(second, (first,))], ratio=2)
    assert set(own[mask[:, 0] & ~labels[:, 0]]) == set(others)
    assert (labels == np.stack([own == first, own == second], axis=1)).all()
    n = (own == first).sum()
    assert mask[:, 0].sum() == 3 * n
    assert (mask[:, 1] == (own == first) | (own == second)).all()  # fewer than two for each positive
    counts = [(own[mask[:, 0]] == other).sum() for other in others]
    assert max(counts) - min(counts) <= 1
    everything = [Contrast(name, tuple(one for one in NAMES if one != name)) for name in NAMES]
    assert all((a == b).all() for a, b in zip(contrast_with(prompts, everything), rn.contrast(prompts), strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Contrast("speaks", ()), "negatives of 'speaks'"),
        (Contrast("speaks", ("speaks",)), "negatives of 'speaks'"),
        (Contrast("speaks", ("nothing",)), "no prompts of 'nothing'"),
    ],
)
def test_impossible_contrasts_are_refused(activations, wrong, message):
    with pytest.raises(rn.RelationNeuronsError, match=message):
        contrast_with(activations.prompts, [wrong])


def test_groups_are_left_out_and_their_negatives_kept_apart():
    assert leaving_out(NAMES, NAMES[:2]) == (Contrast(NAMES[0], NAMES[2:]), Contrast(NAMES[1], NAMES[2:]))
    seen = set()
    for seed in range(6):
        for group in combinations(RELATIONS, 3):
            contrasts = kept_apart(RELATIONS, group, seed=seed)
            negatives = [name for one in contrasts for name in one.negatives]
            assert sorted(negatives) == sorted(set(RELATIONS) - set(group))
            assert {len(one.negatives) for one in contrasts} == {1, 2}
        seen.add(kept_apart(RELATIONS, RELATIONS[:2], seed=seed))
    assert len(seen) > 3
    with pytest.raises(rn.RelationNeuronsError, match="negatives of its own"):
        kept_apart(NAMES, NAMES[:3])


def test_subjects_that_relations_have_in_common_are_dealt_to_one_of_them(activations):
    first, second, *others = NAMES
    subjects = {name: [f"subject {i}" for i in range(12)] for name in NAMES}
    prompts = [
        dataclasses.replace(prompt, subject=subjects[prompt.relation].pop(), unit="")
        for prompt in activations.prompts
        if subjects[prompt.relation]
    ]
    subject = np.array([prompt.subject for prompt in prompts])
    contrasts = [Contrast(first, tuple(others[:1]), (second,)), Contrast(second, tuple(others[1:2]), (first,))]
    labels, mask = contrast_with(prompts, contrasts)
    kept = [set(subject[labels[:, column] & mask[:, column]]) for column in (0, 1)]
    assert not kept[0] & kept[1]
    assert kept[0] | kept[1] == set(subject)
    assert min(map(len, kept)) > 1
    whole = contrast_with(prompts, [one._replace(apart_from=()) for one in contrasts])[1]
    assert (whole & labels).sum() == labels.sum() == 24


@pytest.mark.parametrize("scorer", ["average_precision", "auroc", "activation_probability_entropy"])
def test_against_all_others_the_neurons_are_those_of_the_ranking(activations, scorer, monkeypatch):
    monkeypatch.setattr(pairwise, "BLOCK", 37)
    contrasts = [Contrast(name, tuple(one for one in NAMES if one != name)) for name in NAMES]
    exclude = [Neuron("gate", 0, 3), Neuron("gate", 2, 99)]
    found = rank_contrasts(activations, contrasts, k=25, scorer=scorer, exclude=exclude)
    expected = rank_neurons(activations, depth=25, scorer=scorer, exclude=exclude).best
    assert [(one.name, one.neurons, one.scores) for one in found] == [
        (name, one.neurons, one.scores) for name, one in expected.items()
    ]


def test_pairs_are_ranked_as_scikit_learn_and_the_lowest_as_negated_values(activations):
    contrasts = [one for pair in combinations(NAMES, 2) for one in leaving_out(NAMES, pair)]
    labels, mask = contrast_with(activations.prompts, contrasts)
    lowest = rank_contrasts(activations, contrasts, k=10, lowest=True)
    negated = dataclasses.replace(activations, values=-activations.values)
    assert lowest == rank_contrasts(negated, contrasts, k=10)
    for column in (3, 11):
        part = mask[:, column]
        values = -activations.values[part].numpy()
        scores = [average_precision_score(labels[part, column], one) for one in values.T]
        assert sorted(lowest[column].scores) == pytest.approx(np.sort(scores)[-10:], abs=1e-6)


def test_more_neurons_than_there_are_is_refused(activations):
    with pytest.raises(rn.RelationNeuronsError, match="1 to 299"):
        rank_contrasts(activations, leaving_out(NAMES, NAMES[:2]), k=300, exclude=[Neuron("gate", 0, 0)])
