"""The summary's table against naive recalculations on the planted model."""

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.evaluation.examples import OWN, RANDOM
from relation_neurons.experiments.detection import keep_correct
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.summary import SummaryConfig, losses, sentence, sides, summary
from tests.planted import planted_config


@pytest.fixture(scope="module")
def study(planted):
    return Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 12, k=4, n_controls=3))


@pytest.fixture(scope="module")
def result(study):
    return summary(study, SummaryConfig(n_worst=2))


def change(study, neurons, prompts, measure):
    clean = rn.recall(study.model, prompts)[measure].astype(float)
    with rn.ablate(study.model, neurons):
        return (rn.recall(study.model, prompts)[measure].astype(float) - clean).to_numpy()


@pytest.mark.parametrize(("measure", "column"), [("logprob", "logprob"), ("correct", "correct_string")])
def test_the_summary_equals_a_loop_over_facts(study, result, measure, column):
    table = result.table.set_index(["relation", "measure"])
    for name in study.names:
        own = study.evaluation(name)
        other = [prompt for prompt in study.evaluation() if prompt.relation != name]
        target = study.target(name)
        by_set = [change(study, control, own, column) for control in study.controls(target)]
        row = table.loc[(name, measure)]
        expected = {
            "clean": rn.recall(study.model, own)[column].mean(),
            "own": change(study, target, own, column).mean(),
            "other": change(study, target, other, column).mean(),
            "random": np.mean(by_set),
        }
        expected["own_minus_random"] = expected["own"] - expected["random"]
        for part, mean in expected.items():
            assert row[part] == pytest.approx(mean, abs=1e-5)
            assert row[f"{part}_low"] <= row[part] <= row[f"{part}_high"]
        assert (row["own_n"], row["random_n"], row["other_n"]) == (12, 12, 24)
        found = result.tables["controls"].query("relation == @name")[f"d_{measure}"]
        np.testing.assert_allclose(found, [values.mean() for values in by_set], atol=1e-5)


def test_both_rules_are_given_where_the_study_reads_whole_answers(planted, result):
    assert set(result.table["measure"]) == {"logprob", "correct", "correct_prefix"}
    prefix = planted_config(rn.StudyConfig, 12, k=4, n_controls=3, rule="prefix")
    table = summary(Study(planted.model, planted.relations, prefix)).table
    assert set(table["measure"]) == {"logprob", "correct"}
    both = [
        one.query("measure == @name").iloc[:, 2:].to_numpy(float)
        for one, name in ((table, "correct"), (result.table, "correct_prefix"))
    ]
    np.testing.assert_allclose(*both)


def test_the_answers_that_became_wrong_were_right_before(study, result):
    table, counts, n_lost = result.tables["became_wrong"], [], 0
    for name in study.names:
        prompts = study.evaluation(name)
        lost = change(study, study.target(name), prompts, "logprob")
        turned = change(study, study.target(name), prompts, "correct_string") < 0
        counts.append(f"{name} {turned.sum()} of {rn.recall(study.model, prompts)['correct_string'].sum()}")
        rows = table[table["relation"] == name]
        order = [row for row in np.argsort(lost, kind="stable") if turned[row]][:2]
        n_lost += len(order)
        assert rows["subject"].tolist() == [prompts[row].subject for row in order]
        np.testing.assert_allclose(rows["d_logprob"], lost[order], atol=1e-5)
        clean = rn.recall(study.model, prompts)["generated"]
        assert rows["before"].tolist() == [clean[row] for row in order]
        assert all(before != after for before, after in zip(rows["before"], rows["after"], strict=True))
    assert n_lost > 0
    some = ", ".join(one for one in counts if " 0 of " not in one)
    assert f"own answers that were right became wrong ({some})" in " ".join(result.verdict)


def test_prompts_are_continued_with_and_without_the_neurons(study, result):
    table = result.tables["generations"]
    assert set(table["condition"]) == {"clean", OWN, RANDOM}
    for name in study.names:
        rows = table[table["ablated"] == name]
        assert rows.drop_duplicates("prompt")["relation"].tolist()[:2] == [name, name]
        assert rows.drop_duplicates("prompt")["relation"].nunique() == 2
        clean = rows[rows["condition"] == "clean"]
        right = rn.recall(study.model, study.evaluation(name)).query("correct_string")["subject"].tolist()
        assert clean["subject"].tolist()[:2] == right[:2]
        prompts = {one.text[one.query_start :]: one.text for one in study.evaluation()}
        texts = [prompts[query] for query in clean["prompt"]]
        alone = rn.compare_generations(study.model, texts, {"own": study.target(name)}, max_new_tokens=12).table
        own = alone[alone["condition"] == "own"]["generated"].tolist()
        assert rows[rows["condition"] == OWN]["generated"].tolist() == own
    assert len(summary(study, SummaryConfig(n_examples=0)).tables["generations"]) == 0


def test_losses_are_counted_beside_those_under_control_sets():
    cells = [("a", "a", -1), ("a", "a", 0), ("b", "b", -1), ("b", "a", -1)]
    answers = pd.DataFrame(cells, columns=["ablated", "relation", "d_correct"]).assign(clean_correct=1)
    draws = [("a", 0, -1), ("a", 1, 0), ("b", 0, 0), ("b", 1, 0)]
    controls = pd.DataFrame(draws, columns=["ablated", "draw", "d_correct"])
    said = "2 of 3 own answers that were right became wrong (a 1 of 2, b 1 of 1); under random controls 0.5."
    assert losses(answers, controls) == said
    assert losses(answers.assign(d_correct=0), controls) == "No own answer of 3 that were right became wrong."


def test_relations_are_sorted_by_their_interval():
    rows = []
    for relation, (low, high) in {"a": (-2, -1), "b": (-1, 1), "c": (0.5, 1)}.items():
        row = {"relation": relation, "measure": "logprob", "own_minus_random": (low + high) / 2}
        rows.append({**row, "own_minus_random_low": low, "own_minus_random_high": high, "own_minus_random_n": 10})
    table = pd.DataFrame(rows)
    assert sides(table) == {"below": ["a"], "across": ["b"], "above": ["c"]}
    assert "in 1 of 3 relations (a)" in sentence(table)
    assert "crosses zero in 1 (b) and lies above it in 1 (c)" in sentence(table)


def test_validation_keeps_right_prompts_and_refuses_too_few(study):
    detection = study.prompts().detection
    answers = pd.DataFrame({"correct_string": [n % 3 != 0 for n in range(len(detection))]})
    kept = keep_correct(detection, answers, "string", at_least=5)
    assert kept == tuple(p for n, p in enumerate(detection) if n % 3 != 0)
    answers["correct_string"] = [p.relation != "eats" for p in detection]
    with pytest.raises(rn.RelationNeuronsError, match="eats 0"):
        keep_correct(detection, answers, "string", at_least=5)
