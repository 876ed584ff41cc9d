"""Neurons of the objects are told from neurons of the relation: shares near 0 and near 1, and one case by hand."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.experiments import object_halves
from relation_neurons.experiments.carry_over import CarryOverConfig, _targets, carry_over
from relation_neurons.experiments.object_halves import halves, place_of
from relation_neurons.experiments.study import Study
from relation_neurons.relations.relation import key
from relation_neurons.relations.splits import split_relations
from tests.planted import plant, planted_config

BY_OBJECT = "eats"
K = 4
OPTIONS = CarryOverConfig(("average_precision", "attribution"), n_other=2, n_carry_over_controls=2)


@pytest.fixture(scope="module")
def model():
    return plant(by_object=(BY_OBJECT,))


@pytest.fixture(scope="module")
def study(model):
    lives, eats, plays = model.relations
    relations = (lives, eats, dataclasses.replace(plays, templates_zs=()))
    return Study(model.model, relations, planted_config(rn.StudyConfig, 16, k=K, rule="prefix"))


@pytest.fixture(scope="module")
def found(study):
    return carry_over(study, OPTIONS)


def row_of(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def share(found, scorer, name, objects="unseen", tested="main"):
    asked = {"scorer": scorer, "ablated": name, "objects": objects, "tested": tested, "measure": "logprob"}
    return row_of(found.tables["shares"], **asked)


def test_only_the_neurons_of_a_relation_carry_over_to_unseen_objects(found, study):
    for name in study.names:
        row = share(found, "average_precision", name)
        assert row["seen_effect"] < -0.3
        assert row["ratio"] == pytest.approx(0 if name == BY_OBJECT else 1, abs=0.1)
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]


def test_the_verdict_gives_the_facts_that_shares_are_of(found):
    pooled = found.tables["shares"].query("ablated == 'all' and measure == 'logprob'")
    (sentence,) = [one for one in found.verdict if one.startswith("Log-probability") and "as a share" in one]
    assert f"; n = {min(pooled['n'])} to {max(pooled['n'])} facts. An interval below 1" in sentence


def test_the_same_neurons_leave_other_relations_alone(found, study):
    rows = found.tables["other"].query("scorer == 'average_precision' and measure == 'logprob'")
    assert set(rows["ablated"]) == {*study.names, "all"}
    assert (rows["n"] == [4, 4, 4, 6]).all()
    assert (rows["effect"].abs() < 0.1).all()


def test_another_template_set_is_tested_where_there_is_one(found, study):
    tested = found.table.groupby("ablated")["tested"].unique().map(set).to_dict()
    assert tested == {"lives": {"main", "zs"}, "eats": {"main", "zs"}, "plays": {"main"}}
    assert share(found, "average_precision", "lives", "seen", "zs")["ratio"] == pytest.approx(1, abs=0.1)
    facts = found.tables["answers"].query("ablated == 'lives' and scorer == 'attribution'")
    by_set = facts.groupby(["objects", "tested"])["fact"].apply(sorted)
    for objects in ("seen", "unseen"):
        assert by_set[objects, "zs"] == by_set[objects, "main"]


def best_by_hand(study, values, name, half, half_of):
    """The K best neurons for a relation's prompts of one half against negatives of both halves."""
    detection = study.prompts().detection
    mine = np.array([one.relation == name and half_of[place_of(one)] == half for one in detection])
    positives = np.array([half_of[place_of(one)] == half for one in detection])
    rows = rn.contrast(detection, positives=positives)[1][:, study.names.index(name)]
    assert {one.relation for one, kept in zip(detection, rows & ~mine, strict=True) if kept} == {"lives", "plays"}
    scores = [average_precision_score(mine[rows], column) for column in values[rows].T]
    return rn.NeuronSet.from_pairs([divmod(int(i), values.shape[1] // 2) for i in np.argsort(scores)[-K:]])


def test_each_half_is_found_and_both_are_tested_as_by_hand(found, study, model):
    half_of = halves(study.relations, study.config.prompts)
    values = rn.collect_activations(study.model, study.prompts().detection).values.numpy()
    facts = study.evaluation(BY_OBJECT)
    clean, changes = rn.recall(study.model, facts)["logprob"], {}
    for half in "AB":
        target = best_by_hand(study, values, BY_OBJECT, half, half_of)
        assert set(target) < set(model.neurons[BY_OBJECT])
        with rn.ablate(study.model, target):
            changes[half] = (rn.recall(study.model, facts)["logprob"] - clean).to_numpy()
    own = [half_of[place_of(one)] for one in facts]
    seen, unseen = (
        [changes[half][i] for i, half in enumerate(kept)] for kept in (own, ["BA"[half == "B"] for half in own])
    )
    row = share(found, "average_precision", BY_OBJECT)
    assert row["n"] == 16
    assert (row["seen_effect"], row["effect"]) == pytest.approx((np.mean(seen), np.mean(unseen)), abs=1e-5)
    assert row["ratio"] == pytest.approx(np.mean(unseen) / np.mean(seen), abs=1e-5)
    cell = {"scorer": "average_precision", "ablated": BY_OBJECT, "measure": "logprob"}
    for there in "AB":
        across = row_of(found.tables["halves"], **cell, found="AB"[there == "A"], tested_on=there)
        expected = [changes["AB"[there == "A"]][i] for i, half in enumerate(own) if half == there]
        assert (across["n"], across["effect"]) == (len(expected), pytest.approx(np.mean(expected), abs=1e-5))
    assert row_of(found.table, **cell, objects="seen", tested="main")["effect"] == pytest.approx(
        np.mean(seen), abs=1e-5
    )


def test_objects_of_few_shot_examples_are_in_neither_half():
    relations = rn.load_relations("country_continent", "country_language")
    prompts = rn.PromptConfig(shots=2, n_evaluation=20, split_seed=3)
    found = halves(relations, prompts)
    for relation in relations:
        shown = {key(one.object) for one in split_relations(relations, n_evaluation=20, seed=3)[relation.name].shots}
        objects = {half: set() for half in "AB"}
        for (name, fact), half in found.items():
            if name == relation.name:
                objects[half].add(key(fact.rpartition(" = ")[2]))
        assert objects["A"]
        assert objects["B"]
        assert not objects["A"] & objects["B"]
        assert not shown & (objects["A"] | objects["B"])


def test_facts_are_tested_only_if_their_object_was_an_answer_in_detection(study):
    relations = [*study.relations[:2], dataclasses.replace(study.relations[2], templates_zs=("in {} plays",))]
    first = relations[0]
    once = {fact.subject for fact in study.prompts().detection if fact.relation == "lives"}
    other = tuple(rn.Fact(one.subject, "s0") if one.subject not in once else one for one in first.facts)
    changed = Study(study.model, [dataclasses.replace(first, facts=other), *relations[1:]], study.config)
    asked = changed.config.prompts
    half_of, detection = halves(changed.relations, asked), changed.detection()
    for prompts in object_halves.tested_prompts(changed, asked, half_of, detection).values():
        assert {one.relation for one in prompts} == {"eats", "plays"}


def test_relations_without_repeated_objects_are_left_out_and_named(study):
    alone = tuple(
        rn.Relation(
            one.name, one.templates, (), tuple(rn.Fact(f.subject, f"s{(i + 1) % 40}") for i, f in enumerate(one.facts))
        )
        for one in study.relations
    )
    found = carry_over(Study(study.model, alone, study.config))
    assert found.verdict[0].endswith("left out: lives, eats, plays.")
    assert all(table.empty for table in found.tables.values())


def test_neurons_of_halves_are_kept_and_not_found_again(model, tmp_path, monkeypatch):
    targets = []
    for _ in range(2):
        again = Study(model.model, model.relations, planted_config(rn.StudyConfig, 12, k=K, keep_critical=True))
        again.keep_in(tmp_path)
        half_of = halves(again.relations, again.config.prompts)
        targets.append(_targets(again, "average_precision", again.detection(), half_of, again.names))
        monkeypatch.setattr(rn.experiments.detection, "kept_activations", lambda *a, **k: pytest.fail("read again"))
    assert targets[0] == targets[1]
    assert len({*targets[0]}) == 6


def test_unknown_scorers_are_refused():
    with pytest.raises(rn.RelationNeuronsError, match="'atribution' is not a scorer"):
        CarryOverConfig(scorers=("atribution",))
    with pytest.raises(rn.RelationNeuronsError, match="There is no scorer"):
        CarryOverConfig(scorers=())
