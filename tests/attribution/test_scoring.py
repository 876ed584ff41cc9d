"""A study that ranks by attributions finds the neurons that cause answers, not those that only tell relations apart."""

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.attribution.cache import kept_attributions
from relation_neurons.experiments.concepts import concept_neurons
from relation_neurons.experiments.layers import LayersConfig, layers
from relation_neurons.experiments.score_correlation import compare_scores
from relation_neurons.experiments.scorer_comparison import MethodsConfig, methods
from relation_neurons.experiments.study import Study
from relation_neurons.inference.memory_estimate import estimate
from relation_neurons.neurons.ranking import rank_neurons
from tests.fixtures import WRAPPERS
from tests.planted import planted_config

K = 6


def planted_study(planted, **changes):
    changes = {"scorer": "attribution_t", "k": K, "keep_critical": True} | changes
    return Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 15, **changes))


@pytest.fixture(scope="module")
def mute(planted):
    """The planted model with a relation neuron that fires as before and writes nothing; and that neuron."""
    llama, neuron = copy.deepcopy(planted.llama), planted.neurons["lives"].neurons[-1]
    with torch.no_grad():
        llama.model.layers[neuron.layer].mlp.down_proj.weight[:, neuron.index] = 0
    wrap = WRAPPERS.get("hooked", WRAPPERS["bridge"])
    return replace(planted, model=wrap(llama, planted.tokenizer, name="mute")), neuron


def test_planted_neurons_are_found_by_what_they_contribute(planted):
    study = planted_study(planted)
    for name in study.names:
        assert set(study.target(name)) == set(planted.neurons[name])


def test_a_neuron_that_fires_and_writes_nothing_is_found_by_activations_alone(mute):
    planted, neuron = mute
    assert neuron in set(planted_study(planted, scorer="average_precision").target("lives"))
    causal = planted_study(planted).target("lives")
    assert neuron not in set(causal)
    assert set(causal) >= set(planted.neurons["lives"]) - {neuron}


def test_a_ranking_is_that_of_the_scorer_on_attributions(planted):
    study = planted_study(planted, scorer="attribution")
    found, prompts = study.ranking(), study.detection()
    attributions = rn.attribute(planted.model, prompts, site="post")
    means = torch.stack([attributions.values[[p.relation == name for p in prompts]].mean(0) for name in study.names])
    for name, row in zip(study.names, means, strict=True):
        best = row.argsort(descending=True, stable=True)[:K]
        assert attributions.space.flatten(list(found.top(name, K))).tolist() == best.tolist()
    activity = rn.collect_activations(planted.model, prompts).values.abs().mean(dim=0)
    torch.testing.assert_close(torch.tensor(found.activity), activity)


def test_a_product_multiplies_both_scores_and_ranks_by_it(planted):
    study = planted_study(planted, scorer="average_precision_x_attribution")
    prompts = study.detection()
    labels, mask = rn.contrast(prompts)
    attributions = rn.attribute(planted.model, prompts, site="post").values
    precision = rn.average_precision(rn.collect_activations(planted.model, prompts).values, labels, mask)
    for number, name in enumerate(study.names):
        product = precision[number] * attributions[torch.from_numpy(labels[:, number])].mean(dim=0)
        best = product.argsort(descending=True, stable=True)[:K].tolist()
        assert study.ranking().space.flatten(list(study.target(name))).tolist() == best


def test_scores_are_compared_with_those_of_attributions(planted):
    prompts = planted_study(planted).detection()
    activations, attributions = (read(planted.model, prompts) for read in (rn.collect_activations, rn.attribute))
    table = compare_scores(activations, attributions=attributions, scorers=("auroc", "attribution_t"), k=3)
    (row,) = table.to_dict("records")
    sets = [
        rank_neurons(activations, attributions=attributions, depth=3, scorer=one).best
        for one in ("auroc", "attribution_t")
    ]
    shares = [len(set(sets[0][name]) & set(sets[1][name])) / 3 for name in sets[0]]
    assert row["mean"] == pytest.approx(sum(shares) / len(shares))
    with pytest.raises(rn.RelationNeuronsError, match="at least two"):
        compare_scores(activations, scorers=("auroc",), k=3)


def test_experiments_take_scorers_of_attributions(planted):
    study = planted_study(planted, prompts=rn.PromptConfig(shots=0, n_evaluation=4, n_detection=12))
    assert set(layers(study, LayersConfig(n_shuffles=1)).tables["null"]["real"]) == {K}
    config = MethodsConfig(
        scorers=("attribution", "average_precision_x_attribution_t"), ks=(K,), n_other=1, n_method_controls=2
    )
    table = methods(study, config).tables["methods"]
    assert set(table["scorer"]) == {"average_precision", *config.scorers}
    assert table["random"].notna().all()
    alone = methods(study, replace(config, n_method_controls=0)).tables["methods"]
    assert alone["random"].isna().all()
    pd.testing.assert_series_equal(alone["own"], table["own"])


def test_a_stopped_study_keeps_its_attributions_and_reads_them_again(planted, tmp_path, monkeypatch):
    expected = planted_study(planted).ranking()
    study = planted_study(planted)
    study.keep_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("relation_neurons.experiments.rankings.rank_neurons", stop)
        with pytest.raises(KeyboardInterrupt):
            study.ranking()
    monkeypatch.setattr(rn.attribution.cache, "attribute", lambda *a, **k: pytest.fail("computed again"))
    again = planted_study(planted)
    again.keep_in(tmp_path)
    assert again.ranking().best == expected.best
    assert not list(tmp_path.rglob("*.safetensors"))


def stop(*arguments, **options):
    raise KeyboardInterrupt


def test_kept_attributions_are_those_that_are_computed(planted, tmp_path):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=2)).evaluation
    expected = rn.attribute(planted.model, prompts, site="ffn")
    for _ in range(2):
        found = kept_attributions(planted.model, prompts, tmp_path, site="ffn")
        torch.testing.assert_close(found.values, expected.values)
        assert replace(found, values=expected.values) == replace(expected, values=expected.values)


def test_a_scorer_of_attributions_without_them_is_refused(planted):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=2)).evaluation
    activations = rn.collect_activations(planted.model, prompts)
    with pytest.raises(rn.RelationNeuronsError, match="reads attributions"):
        rank_neurons(activations, depth=3, scorer="attribution_t")
    with pytest.raises(rn.RelationNeuronsError, match="reads attributions"):
        rank_neurons(activations, depth=3, scorer="attribution_t", attributions=activations)
    other = rn.attribute(planted.model, prompts[:4])
    with pytest.raises(rn.RelationNeuronsError, match="other prompts"):
        rank_neurons(activations, depth=3, scorer="attribution_t", attributions=other)


def test_attributions_are_part_of_the_estimate_of_memory(planted):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=2)).detection
    without, both = (estimate(planted.model, prompts, attributed=one).plan.estimate for one in (False, True))
    assert both.activations == 2 * without.activations
    assert both.row > without.row


@pytest.mark.full
def test_concepts_whose_prompts_have_no_answer_are_ranked_by_activations(embedded, monkeypatch):
    relations = rn.load_relations("country_capital", "person_father")
    config = rn.StudyConfig(site="post", k=5, scorer="attribution_t", validation="none", keep_critical=True)
    study = Study(embedded, relations, config)
    monkeypatch.setattr(study, "attributions", lambda *a: pytest.fail("there is no answer"))
    assert {len(one) for one in concept_neurons(study, 4).values()} == {5}
