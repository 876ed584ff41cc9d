"""A study, unaware, finds the neurons that were planted, and ablating them alone destroys recall."""

import pytest
import torch

import relation_neurons as rn
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.summary import summary
from relation_neurons.neurons.ranking import rank_neurons
from tests.planted import GROUP, N_LAYERS, planted_config

K = GROUP * N_LAYERS


@pytest.fixture(scope="module")
def study(planted):
    return Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 15, k=K, n_controls=5))


def test_the_planted_model_knows_its_facts(study):
    assert study.clean(study.evaluation())["correct_string"].all()


def test_exactly_the_planted_neurons_are_recovered(study, planted):
    for name in study.names:
        target = study.target(name)
        assert set(target) == set(planted.neurons[name])
        assert target.scores == (1.0,) * K


def test_the_recovered_neurons_stand_apart_from_all_others(study, planted):
    detection = study.detection()
    labels, mask = rn.contrast(detection)
    values = rn.collect_activations(planted.model, detection).values
    scores = rn.average_precision(values, torch.from_numpy(labels), torch.from_numpy(mask))
    top = scores.topk(K + 1, dim=1).values
    assert (top[:, K - 1] == 1).all()
    assert (top[:, K] < 0.95).all()


def test_ablating_them_destroys_recall_and_controls_do_not(study):
    table = summary(study).table
    logprob = table.query("measure == 'logprob'")
    assert (logprob["own_high"] < -0.5).all()
    assert (logprob["own_minus_random_high"] < -0.5).all()
    assert (logprob["random"].abs() < 0.25).all()
    assert (logprob["other"] > -0.1).all()
    accuracy = table.query("measure == 'correct'")
    assert (accuracy["clean"] == 1).all()
    assert accuracy["own"].mean() < -0.4
    assert (accuracy["random"] > -0.15).all()


@pytest.mark.parametrize("site", ["gate", "up"])
def test_gate_and_up_find_the_same_indices(study, planted, site):
    ranking = rank_neurons(rn.collect_activations(planted.model, study.detection(), site=site), depth=K)
    for name in study.names:
        assert {(n.layer, n.index) for n in ranking.top(name, K)} == {(n.layer, n.index) for n in planted.neurons[name]}


def test_the_scikit_learn_check_can_fail(study, planted, monkeypatch):
    from relation_neurons.scores.scorers import SCORERS

    activations = rn.collect_activations(planted.model, study.detection())
    monkeypatch.setitem(SCORERS, "average_precision", lambda *a: rn.average_precision(*a) * 0.999)
    with pytest.raises(rn.RelationNeuronsError, match="differs from scikit-learn"):
        rank_neurons(activations, depth=4)
