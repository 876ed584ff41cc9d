"""Layers, overlap and concepts of selected neurons against naive recalculations and closed forms."""

import dataclasses
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.experiments import concepts as concepts_module
from relation_neurons.experiments import layers as layers_module
from relation_neurons.experiments.concepts import concept_neurons, concepts, own_against_others
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.layers import LayersConfig, layers, third_of
from relation_neurons.experiments.study import Study
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.relations.relation import key
from relation_neurons.results import neuron_verdicts
from relation_neurons.scores.scorers import standardised_mean_difference

K = 20


def config(**changes):
    settings = {"k": K, "n_controls": 3, "validation": "none", "rule": "string", "seed": 4}
    return StudyConfig(**settings | {"prompts": rn.PromptConfig(shots=0, n_evaluation=6)} | changes)


@pytest.fixture(scope="module")
def study(planted):
    return Study(planted.model, planted.relations, config())


@pytest.fixture(scope="module")
def people(planted):
    """The planted relations under names whose concepts are known, their subjects apart by concept; one is not known."""
    lives, eats, plays = planted.relations
    parts = [("person_father", lives, 0, 20), ("person_mother", plays, 0, 20), ("company_ceo", eats, 20, 40)]
    relations = [dataclasses.replace(one, name=name, facts=one.facts[i:j]) for name, one, i, j in parts]
    odd = dataclasses.replace(eats, name="odd", facts=eats.facts[5:30])
    return Study(planted.model, (*relations, odd), config(site="post", n_controls=4))


@pytest.fixture(scope="module")
def people_found(people):
    return concepts(people)


def test_layers_are_split_into_thirds_by_their_middle():
    assert [third_of(layer, 3) for layer in range(3)] == ["first", "middle", "last"]
    assert [third_of(layer, 5) for layer in range(5)] == ["first", "first", "middle", "last", "last"]
    assert Counter(third_of(layer, 32) for layer in range(32)) == {"first": 11, "middle": 10, "last": 11}
    assert Counter(third_of(layer, 40) for layer in range(40)) == {"first": 13, "middle": 14, "last": 13}


def test_every_site_and_layer_is_counted(study):
    table = layers(study).tables["layers"]
    widths = {"gate": 128, "up": 128, "down": 96}
    assert len(table) == 3 * 3 * 2
    for row in table.itertuples():
        here = [n for n in study.target(row.relation) if (n.site, n.layer) == (row.site, row.layer)]
        assert (row.count, row.share) == (len(here), len(here) / K)
        assert row.chance == pytest.approx(K * widths[row.site] / (2 * sum(widths.values())))


@pytest.fixture(scope="module")
def shuffled(study):
    """What `layers` found, and all that its scorer was given."""
    calls = []
    score = layers_module.score_neurons

    def recorded(scorer, values, labels, mask, **_):
        calls.append((values.numpy(), labels, mask))
        return score(scorer, values, labels, mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers_module, "score_neurons", recorded)
        result = layers(study, LayersConfig(n_shuffles=2))
    return result, calls


def test_shuffled_labels_are_as_many_among_those_that_take_part(study, shuffled):
    [(values, labels, mask)] = shuffled[1]
    real, taking_part = rn.contrast(study.detection(), seed=study.config.seed)
    assert values.shape[0] == len(labels)
    assert np.array_equal(labels[:, :3], real)
    for column in range(9):
        assert np.array_equal(mask[:, column], taking_part[:, column % 3])
        assert labels[:, column].sum() == real[:, column % 3].sum()
        assert not (labels[:, column] & ~mask[:, column]).any()
    different = {labels[:, column].tobytes() for column in range(9)}
    assert len(different) == 9


def test_prompts_that_take_no_part_stay_out_of_the_shuffles():
    labels, mask = np.zeros((60, 1), dtype=bool), np.zeros((60, 1), dtype=bool)
    labels[5:15], mask[:25] = True, True
    for shuffle in range(5):
        found = layers_module._shuffled(labels, mask, 0, shuffle)
        assert found.sum() == found[:25].sum() == 10


def test_neurons_of_shuffled_labels_are_those_of_scikit_learn(study, shuffled):
    result, [(values, labels, mask)] = shuffled
    selections = result.tables["selections"]
    effects = standardised_mean_difference(values, labels, mask).numpy()
    for number in (0, 4, 8):
        part, name = mask[:, number], study.names[number % 3]
        scores = [average_precision_score(labels[part, number], column) for column in values[part].T]
        order = np.lexsort((-effects[number], -np.array(scores, dtype=np.float32)))[:K]
        _, where, _ = study.ranking().space.locate(order)
        row = selections[(selections["relation"] == name) & (selections["shuffle"] == number // 3)].iloc[0]
        assert (row["first"], row["middle"]) == (np.mean(where == 0), 0)
        assert row["mean_layer"] == pytest.approx(np.mean(where))
        cut = min(study.target(name).scores)
        assert row["reached"] == sum(np.float32(score) >= np.float32(cut) for score in scores)


def test_real_labels_stand_beside_the_range_of_the_shuffles(study, shuffled):
    tables = shuffled[0].tables
    thirds, null = tables["thirds"].set_index(["relation", "measure"]), tables["null"].set_index("relation")
    for name in study.names:
        rows = tables["selections"][tables["selections"]["relation"] == name].set_index("shuffle")
        in_layer_1 = np.mean([neuron.layer for neuron in study.target(name)])
        found = thirds.loc[(name, "last")]
        assert found["observed"] == found["chance"] * 2 * in_layer_1
        drawn = rows["last"].loc[[1, 2]]
        assert (found["null_mean"], found["null_min"], found["null_max"]) == (drawn.mean(), drawn.min(), drawn.max())
        expected = "above" if in_layer_1 > drawn.max() else "below" if in_layer_1 < drawn.min() else "within"
        assert found["verdict"].startswith(expected)
        assert null.loc[name, "real"] >= null.loc[name, "k"] == K
        assert null.loc[name, "shuffled_max"] == rows["reached"].loc[[1, 2]].max()
        assert null.loc[name, "share"] == rows["reached"].loc[[1, 2]].mean() / rows["reached"].loc[0]


def test_a_scorer_whose_relations_depend_on_each_other_gets_one_shuffle_at_a_time(planted, monkeypatch):
    study, name = Study(planted.model, planted.relations, config(scorer="activation_probability_entropy")), []
    score = layers_module.score_neurons

    def recorded(scorer, values, labels, mask, **_):
        name.append(labels.shape[1])
        return score(scorer, values, labels, mask)

    monkeypatch.setattr(layers_module, "score_neurons", recorded)
    result = layers(study, LayersConfig(n_shuffles=2))
    assert name == [3, 3, 3]
    assert (result.tables["null"]["real"] >= K).all()


def test_shuffles_are_kept(planted, tmp_path, monkeypatch):
    def found():
        study = Study(planted.model, planted.relations, config())
        study.keep_in(tmp_path / "run")
        return layers(study)

    before = found()
    monkeypatch.setattr(layers_module, "select_shuffled", None)
    after = found()
    for name, table in before.tables.items():
        pd.testing.assert_frame_equal(table, after.tables[name])
    assert before.verdict == after.verdict


def thirds_table(observed, highest):
    rows = [
        {"relation": f"r{i}", "measure": "middle", "observed": own, "chance": 0.3, "null_mean": 0.3, "n_shuffles": 5}
        | {"verdict": "above every shuffle" if own > highest else "within the shuffles"}
        for i, own in enumerate(observed)
    ]
    return pd.DataFrame(rows)


def test_the_layers_are_put_into_words():
    say, middle = neuron_verdicts.middle_layers, [3, 4, 5, 6]
    shown = say(thirds_table([0.6, 0.5, 0.3], 0.4), middle, 10, 3000)
    assert "In 2 of 3 relations the middle third (layers 3 to 6 of 0 to 9) holds more of the 3000 neurons" in shown
    assert "in 0 fewer (by chance one in 6 would each). Not more: r2." in shown
    assert "Its mean share is 0.47, with shuffled labels 0.30" in shown
    assert "In 0 of 2 relations" in say(thirds_table([0.3, 0.3], 0.4), middle, 10, 3000)
    assert say(thirds_table([0.0], 0.4), [], 2, 3000) == "The model has 2 layers, none of them in the middle third."
    null = {"relation": ["a", "b"], "k": 50, "real": [50, 60], "shuffled_mean": [5.0, 12.0], "share": [0.1, 0.2]}
    words = neuron_verdicts.cut(pd.DataFrame(null | {"n_shuffles": 5}))
    assert "a median of 15.0% as many neurons reach" in words
    assert "at most 20.0% (b: 12.0 of 60, mean of 5 shuffles)" in words
    assert words.endswith(f"More than 50 reach it in b 60: {neuron_verdicts.TIES}.")


def test_concept_neurons_are_found_without_the_subjects_of_the_evaluation(people):
    evaluated = {prompt.subject for prompt in people.evaluation()}
    outside = [
        dataclasses.replace(one, facts=tuple(fact for fact in one.facts if fact.subject not in evaluated))
        for one in people.relations[:3]
    ]
    prompts = rn.concept_prompts(outside, seed=4)
    assert not {key(prompt.subject) for prompt in prompts} & {key(subject) for subject in evaluated}
    values = rn.collect_activations(people.model, prompts).values
    found = concept_neurons(people)
    assert list(found) == ["person", "company"]
    for concept, neurons in found.items():
        labels = torch.tensor([prompt.relation == concept for prompt in prompts])
        scores = rn.average_precision(values, labels)[0].numpy()
        _, where, indices = people.ranking().space.locate(np.argsort(-scores, kind="stable")[:K])
        assert [(n.layer, n.index) for n in neurons] == list(zip(where.tolist(), indices.tolist(), strict=True))


def test_relations_share_neurons_with_their_own_concept(people, people_found):
    found = concept_neurons(people)
    table = people_found.table
    assert len(table) == 6
    for row in table.itertuples():
        assert row.own == (row.relation.split("_")[0] == row.concept)
        assert row.count == people.target(row.relation).overlap(found[row.concept])
        assert (row.verdict == "above chance") == (row.p_holm < 0.05)
    assert "Left out, as the concept of their subjects is not known: odd." in people_found.verdict


def test_ablated_concepts_do_what_the_plain_interface_says(people, people_found):
    effects = people_found.tables["effects"].set_index(["ablated", "relation", "measure"]).sort_index()
    assert set(effects.index.get_level_values("relation")) == {"person_father", "person_mother", "company_ceo"}
    assert effects.loc[("person", "person_mother")]["own"].all()
    assert not effects.loc[("company", "person_mother")]["own"].any()
    prompts = people.evaluation("person_mother")

    def change(neurons):
        return (mean_logprob(people.model, prompts, neurons)) - mean_logprob(people.model, prompts, None)

    company = concept_neurons(people)["company"]
    row = effects.loc[("company", "person_mother", "logprob")]
    assert (row["n"], row["n_controls"]) == (6, 25)
    assert row["effect"] == pytest.approx(change(company), abs=1e-5)
    controls = people.controls(company, n=25)
    assert row["random"] == pytest.approx(np.mean([change(control) for control in controls]), abs=1e-5)


def mean_logprob(model, prompts, neurons):
    if neurons is None:
        return rn.recall(model, prompts)["logprob"].mean()
    with rn.ablate(model, neurons):
        return rn.recall(model, prompts)["logprob"].mean()


def test_a_relation_is_ablated_without_the_neurons_of_its_concept(people, people_found):
    table = people_found.tables["without_concept"].set_index(["ablated", "measure"])
    company = set(concept_neurons(people)["company"])
    left = NeuronSet(tuple(neuron for neuron in people.target("company_ceo") if neuron not in company))
    row = table.loc[("company_ceo", "logprob")]
    assert (row["n_neurons"], row["n_shared"]) == (len(left), K - len(left))
    assert 0 < row["n_shared"] < K
    prompts = people.evaluation("company_ceo")
    change = mean_logprob(people.model, prompts, left) - mean_logprob(people.model, prompts, None)
    assert row["effect"] == pytest.approx(change, abs=1e-5)
    assert row["n_controls"] == 4


def test_a_relation_all_of_whose_neurons_are_its_concepts_has_nothing_left(people, monkeypatch):
    same = {"person": people.target("person_father"), "company": people.target("company_ceo")}
    monkeypatch.setattr(concepts_module, "concept_neurons", lambda study, n: same)
    result = concepts(people)
    assert set(result.tables["without_concept"]["ablated"]) == {"person_mother"}
    targets = {name: people.target(name) for name in ("person_father", "company_ceo")}
    nothing = concepts_module._ablate_rest(people, targets, targets)
    assert nothing.empty
    assert neuron_verdicts.beyond_concept(nothing) == "No relation has neurons that are not its concept's."


def test_own_and_other_concepts_are_compared_relation_by_relation():
    overlaps = pd.DataFrame(
        [
            ("r", "x", True, 0.6, 4.0),
            ("r", "y", False, 0.1, 0.0),
            ("r", "z", False, 0.3, 2.0),
            ("s", "x", False, 0.1, 0.0),
            ("s", "y", True, 0.3, 0.0),
            ("s", "z", False, 0.1, 0.0),
        ],
        columns=["relation", "concept", "own", "coefficient", "expected"],
    )
    effects = overlaps.rename(columns={"concept": "ablated"}).assign(effect=-overlaps["coefficient"])
    effects = pd.concat([effects.assign(measure="logprob"), effects.assign(measure="correct", effect=0.0)])
    table = own_against_others(overlaps, effects, k=20).set_index("measure")
    share = table.loc["coefficient"]
    assert (share["own"], share["other"], share["n"]) == (pytest.approx(0.45), pytest.approx(0.15), 2)
    assert share["difference"] == pytest.approx((0.4 + 0.2) / 2)
    assert (share["difference_low"], share["difference_high"]) == (pytest.approx(0.2), pytest.approx(0.4))
    assert table.loc["excess", "own"] == pytest.approx((0.6 - 0.2 + 0.3) / 2)
    assert table.loc["d_logprob", "difference"] == pytest.approx(-0.3)
    assert table.loc["d_correct", ["difference", "p"]].tolist() == [0, 1]


def effects_table(verdicts):
    rows = [
        {"ablated": ablated, "own": own, "measure": measure, "verdict": verdict, "n_shared": 4}
        for ablated, own, verdict in verdicts
        for measure in ("logprob", "correct")
    ]
    return pd.DataFrame(rows)


def test_effects_of_concepts_are_put_into_words():
    own_less_other = {"difference": -1.0, "difference_low": -1.5, "difference_high": -0.5, "n": 2}
    effects = effects_table([("x", True, "falls"), ("y", True, "not shown"), ("x", False, "rises")])
    words = neuron_verdicts.concept_effects(effects, own_less_other)
    assert "in 1 of 2 relations about that concept and 0 of 1 pairs with another" in words
    assert "-1.00 [-1.50, -0.50] nats, n = 2 relations" in words
    rest = neuron_verdicts.beyond_concept(effects)
    assert "accuracy falls in 1 of 3 relations (x) and log-probability falls in 1 of 3 relations (x)" in rest
    assert "(a median of 4)" in rest
    nothing = neuron_verdicts.beyond_concept(effects_table([("x", True, "not shown")]))
    assert "accuracy falls in 0 of 1 relations (none)" in nothing


def test_fewer_than_two_known_concepts_are_said_not_raised(planted, study):
    result = concepts(study)
    assert all(table.empty for table in result.tables.values())
    assert "0 known concepts (not known: lives, eats, plays)" in result.verdict[0]
    people = [
        dataclasses.replace(planted.relations[i], name=f"person_{name}") for i, name in ((0, "father"), (1, "mother"))
    ]
    one = concepts(Study(planted.model, people, config()))
    assert "1 known concepts (not known: none)" in one.verdict[0]
