"""The experiment's tables against naive recalculations on the planted model."""

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.experiments.ablation import (
    conditions,
    effect_matrix,
    effects,
    keep_right,
    measure,
    select_neurons,
    summarise,
    verdict,
)


@pytest.fixture(scope="module")
def world(planted):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=12))
    activations = rn.collect_activations(planted.model, prompts.detection)
    selection = select_neurons(activations, k=4, n_controls=3, seed=1)
    table = measure(planted.model, conditions(prompts.evaluation, selection.targets, selection.controls))
    return planted, prompts, selection, table


def test_every_condition_is_asked_what_it_should_be(world):
    _, prompts, _, table = world
    n = len(prompts.evaluation)
    assert table["kind"].value_counts().to_dict() == {"clean": n, "own": n, "other": 2 * n, "random": 3 * n}
    assert (table.query("kind == 'own' or kind == 'random'").eval("ablated == relation")).all()
    assert (table.query("kind == 'other'").eval("ablated != relation")).all()


def test_effects_are_differences_from_the_same_fact(world):
    planted, prompts, selection, table = world
    row = effects(table).query("kind == 'own' and relation == 'eats'").iloc[3]
    prompt = next(p for p in prompts.evaluation if (p.relation, p.subject) == ("eats", row["subject"]))
    clean = rn.recall(planted.model, [prompt]).iloc[0]
    with rn.ablate(planted.model, selection.targets["eats"]):
        ablated = rn.recall(planted.model, [prompt]).iloc[0]
    assert row["d_logprob"] == pytest.approx(ablated["logprob"] - clean["logprob"], abs=1e-5)
    assert row["d_correct_string"] == float(ablated["correct_string"]) - float(clean["correct_string"])


def test_the_summary_equals_a_loop_over_facts(world):
    table = world[3]
    summary = summarise(table).set_index(["relation", "measure"])
    for relation in ("lives", "eats", "plays"):
        own, random, other = [], [], []
        clean = {(r.relation, r.subject): r.logprob for r in table.query("kind == 'clean'").itertuples()}
        for row in table.itertuples():
            if row.ablated == relation:
                change = row.logprob - clean[row.relation, row.subject]
                {"own": own, "random": random, "other": other}[row.kind].append(change)
        found = summary.loc[(relation, "logprob")]
        assert found["own_mean"] == pytest.approx(np.mean(own))
        assert found["random_mean"] == pytest.approx(np.mean(random))
        assert found["other_mean"] == pytest.approx(np.mean(other))
        assert found["own_minus_random_mean"] == pytest.approx(np.mean(own) - np.mean(random))
        assert (found["own_n"], found["random_n"], found["other_n"]) == (12, 12, 24)
        assert found["own_low"] <= found["own_mean"] <= found["own_high"]


def test_the_matrix_holds_own_and_other_means(world):
    table = world[3]
    matrix = effect_matrix(table)
    changed = effects(table)
    for ablated in matrix.index:
        for relation in matrix.columns:
            cell = changed[
                (changed["ablated"] == ablated) & (changed["relation"] == relation) & (changed["kind"] != "random")
            ]
            assert matrix.loc[ablated, relation] == pytest.approx(cell["d_logprob"].mean())


def test_the_verdict_sorts_relations_by_their_interval():
    rows = []
    for relation, (low, high) in {"a": (-2, -1), "b": (-1, 1), "c": (0.5, 1)}.items():
        row = {"relation": relation, "measure": "logprob"}
        row |= {"own_minus_random_mean": (low + high) / 2, "own_minus_random_low": low, "own_minus_random_high": high}
        rows.append({**row, "own_minus_random_n": 10})
    assert verdict(pd.DataFrame(rows)) == {"below": ["a"], "across": ["b"], "above": ["c"]}


def test_validation_keeps_right_prompts_and_refuses_too_few(world):
    _, prompts, _, _ = world
    answers = pd.DataFrame({"correct_string": [n % 3 != 0 for n in range(len(prompts.detection))]})
    kept = keep_right(prompts.detection, answers, "string", at_least=5)
    assert kept == tuple(p for n, p in enumerate(prompts.detection) if n % 3 != 0)
    answers["correct_string"] = [p.relation != "eats" for p in prompts.detection]
    with pytest.raises(rn.RelationNeuronsError, match="eats 0"):
        keep_right(prompts.detection, answers, "string", at_least=5)


@pytest.mark.parametrize("name", ["clean", "eats random 0"])
def test_a_relation_cannot_have_a_conditions_name(world, name):
    with pytest.raises(rn.RelationNeuronsError, match="condition's name"):
        conditions(world[1].evaluation, {name: world[2].targets["eats"]}, {})


def test_the_scikit_learn_check_can_fail(world, monkeypatch):
    planted, prompts, _, _ = world
    from relation_neurons.neurons import ranking

    activations = rn.collect_activations(planted.model, prompts.detection)
    monkeypatch.setitem(ranking.SCORERS, "average_precision", lambda *a: rn.average_precision(*a) * 0.999)
    with pytest.raises(rn.RelationNeuronsError, match="differs from scikit-learn"):
        select_neurons(activations, k=4, n_controls=1, seed=0)
