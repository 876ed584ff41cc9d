"""The written models have the properties that they are written to have, or none."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch

import relation_neurons as rn
from tests.planted_properties import (
    GROUP,
    INTERFERING,
    N_SHARED,
    RELATIONS,
    VERSATILE,
    PlantedProperties,
    plant_nothing,
    plant_properties,
)

ZERO_SHOT = rn.PromptConfig(shots=0, n_evaluation=15)
DOSES = (1, 2, 4, 8, 12, GROUP)
FACT = ["relation", "subject"]
BOTH = pytest.mark.parametrize("kind", ["cumulative", "not cumulative"])
RELATED = {VERSATILE, VERSATILE[::-1], INTERFERING}
"""Pairs of relations of which ablating the first is to change the second."""


@dataclass
class Found:
    """What the package finds in a model."""

    planted: PlantedProperties
    prompts: rn.Prompts
    activations: rn.Activations
    scores: pd.DataFrame
    """Average precision, a row for each relation."""
    top: dict[str, rn.NeuronSet]
    clean: pd.DataFrame
    """Clean answers; a row for each fact."""
    ablated: pd.DataFrame
    """Answers of all relations with each relation's best neurons ablated."""
    doses: dict[int, pd.DataFrame] = field(default_factory=dict)

    def ask(self, sets: dict[str, rn.NeuronSet]) -> pd.DataFrame:
        """Answers of each relation with a set of its own ablated; a row for each fact."""
        conditions = [
            rn.Condition(
                name, tuple(p for p in self.prompts.evaluation if p.relation == name), (rn.Intervention(ablated),)
            )
            for name, ablated in sets.items()
        ]
        return rn.recall_under(self.planted.model, conditions, generate=False).set_index(FACT)

    def dose(self, k: int) -> pd.DataFrame:
        """Answers with the k best neurons of each relation ablated."""
        if k not in self.doses:
            self.doses[k] = self.ask({name: rn.NeuronSet(best.neurons[:k]) for name, best in self.top.items()})
        return self.doses[k]

    def changes(self, column: str = "logprob") -> dict[tuple[str, str], np.ndarray]:
        """For each pair, ablated and asked, the change of each fact."""
        ablated = self.ablated.set_index("condition", append=True)[column].unstack().astype(float)
        change = ablated.sub(self.clean[column].astype(float), axis=0)
        return {(a, b): change.loc[b, a].to_numpy() for a in RELATIONS for b in RELATIONS}


def average_precisions(activations: rn.Activations, prompts: list[rn.Prompt]) -> pd.DataFrame:
    labels, weights = rn.contrast(prompts)
    scores = rn.average_precision(activations.values, torch.from_numpy(labels), torch.from_numpy(weights))
    return pd.DataFrame(scores.numpy(), index=list(dict.fromkeys(prompt.relation for prompt in prompts)))


def find(planted: PlantedProperties) -> Found:
    prompts = rn.make_prompts(planted.relations, ZERO_SHOT)
    activations = rn.collect_activations(planted.model, prompts.detection, site="post")
    scores = average_precisions(activations, prompts.detection)
    top = rn.top_k(scores.to_numpy(), GROUP, activations.space, list(scores.index))
    conditions = [rn.Condition(name, prompts.evaluation, (rn.Intervention(best),)) for name, best in top.items()]
    clean = rn.recall(planted.model, prompts.evaluation).set_index(FACT)
    ablated = rn.recall_under(planted.model, conditions, generate=False).set_index(FACT)
    return Found(planted, prompts, activations, scores, top, clean, ablated)


@pytest.fixture(scope="module")
def found():
    return {
        "cumulative": find(plant_properties()),
        "not cumulative": find(plant_properties(cumulative=False)),
        "nothing": find(plant_nothing()),
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_best_neurons_are_the_planted_ones(seed):
    planted = plant_properties(seed)
    prompts = rn.make_prompts(planted.relations, ZERO_SHOT).detection
    activations = rn.collect_activations(planted.model, prompts, site="post")
    scores = average_precisions(activations, prompts)
    top = rn.top_k(scores.to_numpy(), GROUP, activations.space, RELATIONS)
    for name in RELATIONS:
        assert set(top[name]) == set(planted.neurons[name])
        assert top[name].neurons[: GROUP - N_SHARED] == planted.neurons[name].neurons[: GROUP - N_SHARED]
    for name in set(RELATIONS) - set(VERSATILE):
        assert top[name].scores == (1.0,) * GROUP


@BOTH
def test_shared_neurons_are_worse_than_own_ones_and_better_than_all_others(found, kind):
    run = found[kind]
    shared = set(run.activations.space.flatten(list(run.planted.shared[VERSATILE])).tolist())
    for name in VERSATILE:
        assert run.top[name].scores[: GROUP - N_SHARED] == (1.0,) * (GROUP - N_SHARED)
        ranked = run.scores.loc[name].sort_values(ascending=False)
        assert set(ranked.index[GROUP - N_SHARED : GROUP]) == shared
        assert 0.55 < ranked.iloc[GROUP - N_SHARED : GROUP].mean() < 0.8  # the other's prompts are among the negatives
        assert 0.5 < ranked.iloc[GROUP - 1] < ranked.iloc[GROUP - N_SHARED] < 0.95
        assert ranked.iloc[GROUP] < ranked.iloc[GROUP - 1] - 0.02
        assert ranked.iloc[GROUP:].mean() == pytest.approx(0.2, abs=0.05)  # one positive for four negatives


@BOTH
def test_only_the_versatile_relations_overlap(found, kind):
    top = found[kind].top
    for a in RELATIONS:
        for b in RELATIONS:
            expected = GROUP if a == b else N_SHARED if {a, b} == set(VERSATILE) else 0
            assert top[a].overlap(top[b]) == expected


@BOTH
def test_the_clean_model_knows_most_facts_and_fewer_of_the_disturbed_relation(found, kind):
    clean = found[kind].clean
    assert (clean["correct_prefix"] == clean["correct_string"]).all()
    assert set(clean["error"]) == {"right", "other"}
    accuracy = clean.groupby("relation")["correct_prefix"].mean()
    assert 0.3 < accuracy.pop(INTERFERING[1]) < 0.7
    assert accuracy.between(0.7, 1).all()
    assert 0.8 < accuracy.mean() < 1


def test_log_probabilities_fall_steadily_with_the_dose(found):
    run = found["cumulative"]
    table = pd.DataFrame({0: run.clean["logprob"]} | {k: run.dose(k)["logprob"] for k in DOSES})
    means = table.groupby("relation").mean()
    assert (means.diff(axis=1).iloc[:, 1:] < -0.02).all(axis=None)
    assert (means[0] - means[1] < 0.15).all()
    assert (means[0] - means[GROUP] > 1).all()


def test_facts_flip_one_after_the_other(found):
    run = found["cumulative"]
    right = pd.Series(
        {0: run.clean["correct_prefix"].mean()} | {k: run.dose(k)["correct_prefix"].mean() for k in DOSES}
    )
    assert (right.diff().iloc[1:] < 0).all()
    assert right[0] - right[1] < 0.1
    assert right[0] - right[4] < 0.35
    assert 0.3 < right[8] < 0.7
    assert right[GROUP] < 0.25


def test_the_second_half_alone_flips_few_of_the_facts_that_the_whole_flips(found):
    run = found["cumulative"]
    half, whole = (run.dose(k)["correct_prefix"] for k in (GROUP // 2, GROUP))
    alone = run.ask({name: rn.NeuronSet(best.neurons[GROUP // 2 :]) for name, best in run.top.items()})
    flipped = half & ~whole
    assert flipped.sum() > 20
    assert (~alone["correct_prefix"])[flipped].mean() < 0.1


def test_without_cumulativity_a_single_neuron_does_all_and_the_others_nothing(found):
    run = found["not cumulative"]
    whole = run.dose(GROUP)
    carriers = run.ask(run.planted.carriers)
    others = {
        name: rn.NeuronSet(tuple(neuron for neuron in best if neuron not in run.planted.carriers[name].neurons))
        for name, best in run.top.items()
    }
    assert all(len(rest) == GROUP - 1 for rest in others.values())
    rest = run.ask(others)
    lost = (run.clean["logprob"] - whole["logprob"]).groupby("relation").mean()
    assert (lost > 1).all()
    assert (carriers["logprob"] - whole["logprob"]).groupby("relation").mean().abs().max() < 0.15
    assert (rest["logprob"] - run.clean["logprob"]).groupby("relation").mean().abs().max() < 0.15
    assert whole["correct_prefix"].mean() < 0.25


def test_without_cumulativity_the_slice_with_that_neuron_flips_whatever_the_whole_flips(found):
    run = found["not cumulative"]
    before = run.clean["correct_prefix"]
    flipped_by_slices = n_alone = 0
    for low, high in [(0, 4), (4, 8), (8, 12), (12, GROUP)]:
        now = run.dose(high)["correct_prefix"]
        alone = run.ask({name: rn.NeuronSet(best.neurons[low:high]) for name, best in run.top.items()})
        flipped_by_slices += (before & ~now).sum()
        n_alone += (before & ~now & ~alone["correct_prefix"]).sum()
        before = now
    assert flipped_by_slices > 60
    assert n_alone > 0.95 * flipped_by_slices


@BOTH
def test_ablating_a_relation_destroys_it(found, kind):
    for (ablated, asked), change in found[kind].changes().items():
        if ablated == asked:
            assert change.mean() < -1.2
            assert (change < 0.1).all()


@BOTH
def test_ablating_a_versatile_relation_harms_the_other(found, kind):
    for pair in (VERSATILE, VERSATILE[::-1]):
        assert found[kind].changes()[pair].mean() < -0.4
        assert found[kind].changes("correct_prefix")[pair].mean() < 0


@BOTH
def test_ablating_the_interfering_neurons_turns_wrong_into_right(found, kind):
    assert found[kind].changes()[INTERFERING].mean() > 0.5
    turned = found[kind].changes("correct_prefix")[INTERFERING]
    assert turned.min() >= 0
    assert turned.sum() >= 3


@BOTH
def test_no_other_pair_is_affected(found, kind):
    changes, flips = found[kind].changes(), found[kind].changes("correct_prefix")
    untouched = [pair for pair in changes if pair[0] != pair[1] and pair not in RELATED]
    assert len(untouched) == len(RELATIONS) * (len(RELATIONS) - 1) - 3
    for pair in untouched:
        assert np.abs(changes[pair]).max() < 0.01
        assert (flips[pair] == 0).all()


@BOTH
def test_the_neurons_work_in_the_second_template_as_well(found, kind):
    run = found[kind]
    config = rn.PromptConfig(shots=0, n_evaluation=15, template_set="zs")
    asked = rn.make_prompts(run.planted.relations, config).evaluation
    assert asked[0].text.startswith("in speaks s")
    clean = rn.recall(run.planted.model, asked, generate=False)
    with rn.ablate(run.planted.model, run.planted.neurons[INTERFERING[0]]):
        ablated = rn.recall(run.planted.model, asked, generate=False)
    change = (ablated["logprob"] - clean["logprob"]).groupby(clean["relation"]).mean()
    assert change.pop(INTERFERING[0]) < -1.2
    assert change.pop(INTERFERING[1]) > 0.5
    assert change.abs().max() < 0.01


def test_relations_of_nothing_are_names_only():
    planted = plant_nothing()
    assert not any([planted.neurons, planted.carriers, planted.shared, planted.interfering])
    assert len({relation.templates + relation.templates_zs for relation in planted.relations}) == 1
    assert len({relation.objects for relation in planted.relations}) == 1
    subjects = [fact.subject for relation in planted.relations for fact in relation.facts]
    assert len(set(subjects)) == len(subjects)


@pytest.mark.parametrize("seed", range(3))
def test_neurons_of_nothing_are_as_precise_as_with_shuffled_names(seed):
    planted = plant_nothing(seed)
    prompts = list(rn.make_prompts(planted.relations, ZERO_SHOT).detection)
    activations = rn.collect_activations(planted.model, prompts, site="post")

    def best(order: np.ndarray) -> np.ndarray:
        """Mean precision of the best neurons of each relation, where prompts are dealt out in this order."""
        dealt = rn.Activations(activations.values[torch.from_numpy(order)], activations.prompts, activations.space)
        scores = average_precisions(dealt, prompts).to_numpy()
        return np.sort(scores, axis=1)[:, -GROUP:].mean(axis=1)

    generator = np.random.default_rng(seed)
    shuffled = np.concatenate([best(generator.permutation(len(prompts))) for _ in range(20)])
    real = best(np.arange(len(prompts)))
    assert np.abs((real - shuffled.mean()) / shuffled.std()).max() < 4
    assert abs(real.mean() - shuffled.mean()) < 3 * shuffled.std() / np.sqrt(len(real))
    assert real.max() < 0.5


def test_nothing_knows_some_facts_and_ablating_moves_all_relations_either_way(found):
    run = found["nothing"]
    assert run.clean.groupby("relation")["correct_prefix"].mean().between(0.3, 0.95).all()
    changes = run.changes()
    pooled = np.concatenate(list(changes.values()))
    assert 0.05 < pooled.std() < 0.5
    assert 0.3 < (pooled > 0).mean() < 0.7
    own, other = (np.array([c.mean() for (a, b), c in changes.items() if (a == b) is same]) for same in (True, False))
    assert abs(own.mean() - other.mean()) < 0.05
    flips = np.concatenate(list(run.changes("correct_prefix").values()))
    assert flips.min() == -1
    assert flips.max() == 1


@pytest.mark.parametrize("common", [0.0, 1.0])
def test_a_set_of_neurons_moves_all_facts_of_nothing_alike_only_if_neurons_read_common_words(common):
    changes = find(plant_nothing(common=common)).changes()
    t = []
    for ablated in RELATIONS:
        change = np.concatenate([changes[ablated, asked] for asked in RELATIONS])
        t.append(change.mean() / (change.std(ddof=1) / np.sqrt(len(change))))
    spread = np.sqrt(np.mean(np.square(t)))  # about 1 if facts are independent
    assert spread > 2.5 if common else 0.5 < spread < 1.6


@pytest.mark.parametrize("make", [plant_properties, plant_nothing])
def test_seeds_choose_model_and_facts_and_nothing_else_does(make):
    first, again, other = make(0), make(0), make(1)
    assert first.relations == again.relations
    assert first.neurons == again.neurons
    for a, b in zip(first.relations, other.relations, strict=True):
        assert len({fact.subject for fact in a.facts} & {fact.subject for fact in b.facts}) < len(a.facts) / 2
    asked = rn.make_prompts(first.relations, ZERO_SHOT).evaluation
    said = [rn.recall(planted.model, asked, generate=False)["logprob"] for planted in (first, again, other)]
    assert (said[0] == said[1]).all()
    assert abs(np.corrcoef(said[0], said[2])[0, 1]) < 0.5
