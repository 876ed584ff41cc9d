"""The pipeline, unaware, finds the neurons that were planted, and ablating them alone destroys recall."""

import pytest
import torch

import relation_neurons as rn
from relation_neurons.experiments.ablation import conditions, measure, select_neurons, summarise
from tests.planted import GROUP, N_LAYERS

K = GROUP * N_LAYERS


@pytest.fixture(scope="module")
def found(planted):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=15))
    activations = rn.collect_activations(planted.model, prompts.detection)
    selection = select_neurons(activations, k=K, n_controls=5, seed=0)
    asked = conditions(prompts.evaluation, selection.targets, selection.controls)
    return selection, measure(planted.model, asked)


def test_the_planted_model_knows_its_facts(found):
    clean = found[1].query("kind == 'clean'")
    assert clean["correct_string"].all()


def test_exactly_the_planted_neurons_are_recovered(found, planted):
    for name, target in found[0].targets.items():
        assert set(target) == set(planted.neurons[name])
        assert target.scores == (1.0,) * K


def test_the_recovered_neurons_stand_apart_from_all_others(planted):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=15))
    activations = rn.collect_activations(planted.model, prompts.detection)
    labels, weights = rn.contrast(prompts.detection)
    scores = rn.average_precision(activations.values, torch.from_numpy(labels), torch.from_numpy(weights))
    top = scores.topk(K + 1, dim=1).values
    assert (top[:, K - 1] == 1).all()
    assert (top[:, K] < 0.95).all()


def test_ablating_them_destroys_recall_and_controls_do_not(found):
    summary = summarise(found[1])
    logprob = summary.query("measure == 'logprob'")
    assert (logprob["own_high"] < -0.5).all()
    assert (logprob["own_minus_random_high"] < -0.5).all()
    assert (logprob["random_mean"].abs() < 0.25).all()
    assert (logprob["other_mean"] > -0.1).all()
    accuracy = summary.query("measure == 'correct_string'")
    assert (accuracy["clean_mean"] == 1).all()
    assert accuracy["own_mean"].mean() < -0.4
    assert (accuracy["random_mean"] > -0.15).all()


@pytest.mark.parametrize("site", ["gate", "up"])
def test_gate_and_up_find_the_same_indices(planted, site):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=15))
    activations = rn.collect_activations(planted.model, prompts.detection, site=site)
    selection = select_neurons(activations, k=K, n_controls=1, seed=0)
    for name, target in selection.targets.items():
        assert {(n.layer, n.index) for n in target} == {(n.layer, n.index) for n in planted.neurons[name]}
