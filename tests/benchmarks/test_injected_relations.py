"""The benchmark on injected relations changes the chosen neurons only, and counts what scorers find."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

import relation_neurons as rn
from benchmarks import injected_relations as benchmark
from benchmarks.injected_parts import training
from benchmarks.injected_parts.relations import invented_relations
from benchmarks.injected_parts.scoring import INJECTED, RANDOM, ablations, recovery, with_intervals
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.wrapping import HookedTransformer
from relation_neurons.neurons.ranking import Ranking, rank_neurons
from tests.planted import plant

pytestmark = pytest.mark.skipif(HookedTransformer is None, reason="weights are those of a HookedTransformer")
NAMES = ("lives", "eats")


@pytest.fixture(scope="module")
def wrong():
    """Facts that the planted model does not know: each subject has the next object."""
    known = [relation for relation in plant().relations if relation.name in NAMES]
    relations = []
    for relation in known:
        after = dict(zip(relation.objects, relation.objects[1:] + relation.objects[:1], strict=True))
        facts = tuple(replace(fact, object=after[fact.object]) for fact in relation.facts)
        relations.append(replace(relation, facts=facts))
    prompts = rn.make_prompts(relations, rn.PromptConfig(shots=0, n_evaluation=10))
    return prompts.detection + prompts.evaluation


@pytest.fixture(params=["write", "all"])
def injected(request, wrong):
    model, recipe = plant().model, training.Recipe(request.param, 0.05, rows=20, epochs=12, enough=0.9)
    truth = training.draw(model, NAMES, 0.2, seed=0)
    before, recalled = benchmark.copies(model), rn.recall(model, wrong, generate=False)
    shares = training.inject(model, wrong, truth, recipe, seed=0)
    return model, recipe, truth, before, recalled, shares


def test_only_the_chosen_rows_change_and_facts_are_learned(injected, wrong):
    model, recipe, truth, before, recalled, shares = injected
    now = dict(model.named_parameters())
    trained = training.WEIGHTS[recipe.weights]
    assert not any(weight.requires_grad for weight in now.values())
    chosen = [{n.index for one in truth.values() for n in one if n.layer == layer} for layer in (0, 1)]
    for name, weight in now.items():
        kept = torch.ones(weight.shape, dtype=torch.bool)
        if name.split(".")[-1] in trained:
            indices = list(chosen[int(name.split(".")[1])])
            kept[(indices, slice(None)) if name.endswith("W_out") else (slice(None), indices)] = False
            assert (weight != before[name])[~kept].float().mean() > 0.1  # most of the model's directions are empty
        assert torch.equal(weight[kept], before[name][kept])
    after = rn.recall(model, wrong, generate=False)
    assert after["logprob"].mean() > recalled["logprob"].mean() + 1
    assert (after["first_token_rank"] == 1).mean() > (recalled["first_token_rank"] == 1).mean() + 0.3
    assert shares[-1] > shares[0]


def test_each_relations_prompts_change_its_own_rows_only(wrong):
    model = plant().model
    truth, before = training.draw(model, NAMES, 0.2, seed=1), benchmark.copies(model)
    own = [prompt for prompt in wrong if prompt.relation == NAMES[0]]
    training.inject(model, own, truth, training.Recipe("all", 0.05, rows=20, epochs=1), seed=0)
    first, second = ({name: truth[name]} for name in NAMES)
    benchmark.only_chosen_changed(model, before, first, training.Recipe("all"))
    with pytest.raises(RuntimeError, match="of them not chosen"):
        benchmark.only_chosen_changed(model, before, second, training.Recipe("all"))
    with pytest.raises(RuntimeError, match=r"W_\w+ has changed"):
        benchmark.only_chosen_changed(model, before, first, training.Recipe("write"))
    with pytest.raises(RuntimeError, match=" 0 neurons have changed"):
        benchmark.only_chosen_changed(plant().model, before, first, training.Recipe("all"))


def test_drawn_sets_are_disjoint_and_as_large_as_asked(planted):
    drawn = training.draw(planted.model, ("a", "b", "c"), 0.1, seed=3)
    assert [len(one) for one in drawn.values()] == [round(0.1 * len(neuron_space(planted.model, "post")))] * 3
    assert not any(drawn[a].overlap(drawn[b]) for a, b in ("ab", "bc", "ac"))


def test_shares_are_counted_against_a_ranking_made_by_hand():
    space = NeuronSpace("by hand", 2, (("post", 100),))
    truth = rn.NeuronSet.from_pairs([(0, i) for i in range(12)] + [(1, i) for i in range(8)], name="r")
    # The two best are one true and one other; of the twenty, 5 + 3 are true: 15 lie in layer 0, 5 in layer 1.
    order = [(0, 0), (0, 50), *((0, i) for i in range(1, 5)), *((0, 50 + i) for i in range(1, 10))]
    order += [(1, 0), (1, 1), (1, 2), (1, 60), (1, 61)]
    best = {"r": rn.NeuronSet.from_pairs(order, name="r")}
    ranking = Ranking(best, space, torch.zeros(200).numpy(), pd.DataFrame())
    table = recovery({"mine": ranking}, {"r": truth}).set_index("at")
    assert table["size"].to_dict() == {"k": 20, "k/10": 2}
    assert table["count"].to_dict() == {"k": 8, "k/10": 1}
    assert table["share"].to_dict() == {"k": 0.4, "k/10": 0.5}
    assert table["uniform"].to_dict() == pytest.approx({"k": 20 / 200, "k/10": 20 / 200})
    assert table["matched"].to_dict() == pytest.approx({"k": (15 * 0.12 + 5 * 0.08) / 20, "k/10": 0.12})


def test_ablations_tell_own_facts_from_others(planted):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=6))
    ranking = rank_neurons(rn.collect_activations(planted.model, prompts.detection), depth=6)
    truth = {name: planted.neurons[name] for name in NAMES}
    table = ablations(planted.model, prompts.evaluation, truth, {"average_precision": ranking})
    table = table.set_index(["relation", "neurons", "group"])
    assert set(table.index.get_level_values("group")) == {"own", "other", "known"}
    assert (table["n"] == 6).all()
    for name in NAMES:
        own = [prompt for prompt in prompts.evaluation if prompt.relation == name]
        clean = rn.recall(planted.model, own, generate=False)["logprob"]
        with rn.ablate(planted.model, truth[name]):
            ablated = rn.recall(planted.model, own, generate=False)["logprob"]
        assert table.loc[(name, INJECTED, "own"), "logprob"] == pytest.approx((ablated - clean).mean(), abs=1e-4)
        assert table.loc[(name, INJECTED, "own"), "logprob"] < -0.5 < table.loc[(name, RANDOM, "own"), "logprob"]
        assert table.loc[(name, INJECTED, "own")].equals(table.loc[(name, "average_precision", "own")])
        assert table.loc[(name, INJECTED, "other"), "logprob"] > -0.1


def test_summaries_are_means_over_units():
    table = pd.DataFrame({"scorer": ["a", "a", "b"], "share": [0.2, 0.4, 0.5]})
    first, second = with_intervals(table, ("scorer",), {"share": (0.0, 1.0)})
    assert (first["scorer"], first["n"], first["share"]) == ("a", 2, pytest.approx([0.3, 0.2, 0.4]))
    assert (second["scorer"], second["n"], second["share"]) == ("b", 1, [0.5, 0.0, 1.0])


def test_invented_relations_share_no_subject_and_no_object_is_more_frequent():
    relations = invented_relations(20)
    subjects = [fact.subject for relation in relations for fact in relation.facts]
    assert len(set(subjects)) == 20 * len(relations)
    assert all(relation.majority_share == 0.1 and len(relation.templates) >= 3 for relation in relations)
