"""Each experiment's numbers against a naive reimplementation on the planted model."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.confounds import ConfoundsConfig, confounds
from relation_neurons.experiments.cumulativity import (
    CumulativityConfig,
    cumulativity,
    difference_table,
    flip_table,
)
from relation_neurons.experiments.frequency import FrequencyConfig, divided, frequency
from relation_neurons.experiments.inter_relation import InterConfig, flips, inter
from relation_neurons.experiments.intra_relation import IntraConfig, intra
from relation_neurons.experiments.k_sweep import SweepConfig, doses, nested_controls, slopes, sweep
from relation_neurons.experiments.scorer_comparison import MethodsConfig, methods
from relation_neurons.experiments.study import Study
from relation_neurons.results.scorer_verdicts import scorer_comparison

KS = (1, 2, 4, 6, 9)


@pytest.fixture(scope="module")
def study(planted):
    config = StudyConfig(
        k=6,
        site="post",
        n_controls=20,
        validation="none",
        rule="string",
        prompts=rn.PromptConfig(shots=0, n_evaluation=10),
    )
    return Study(planted.model, planted.relations, config)


def ask(study, neurons, prompts):
    """Log-probabilities and right answers, by the plain API."""
    if neurons is None:
        table = rn.recall(study.model, prompts)
    else:
        with rn.ablate(study.model, neurons):
            table = rn.recall(study.model, prompts)
    return table["logprob"].to_numpy(), table["correct_string"].to_numpy(dtype=float)


def change(study, neurons, prompts):
    after, before = ask(study, neurons, prompts), ask(study, None, prompts)
    return after[0] - before[0], after[1] - before[1]


def one(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_intra_equals_ablating_by_hand(study):
    found = intra(study, IntraConfig(n_detection_tested=4))
    detection = [prompt for prompt in study.detection() if prompt.relation == "eats"][:4]
    for facts, prompts in (("evaluation", study.evaluation("eats")), ("detection", detection)):
        target = study.target("eats")
        sets = [change(study, control, prompts) for control in study.controls(target)]
        for number, measure in enumerate(("logprob", "correct")):
            row = one(found.tables["effects"], ablated="eats", facts=facts, measure=measure)
            assert row["effect"] == pytest.approx(change(study, target, prompts)[number].mean(), abs=1e-5)
            assert row["random"] == pytest.approx(np.mean([values[number].mean() for values in sets]), abs=1e-5)
            assert row["n"] == len(prompts)
    accuracy = found.tables["accuracy"]
    answers = ask(study, study.target("eats"), study.evaluation("eats"))[1]
    row = one(accuracy, relation="eats", facts="evaluation", state="own")
    assert row["accuracy"] == answers.mean()
    objects = [prompt.object for prompt in study.evaluation("eats")]
    by_object = [np.mean([a for a, o in zip(answers, objects, strict=True) if o == name]) for name in set(objects)]
    assert row["balanced_accuracy"] == pytest.approx(np.mean(by_object))
    assert row["majority_share"] == max(objects.count(name) for name in set(objects)) / len(objects)
    assert "in 3 of 3 relations (lives, eats, plays)" in " ".join(found.verdict)
    assert set(intra(study, IntraConfig(n_detection_tested=0)).table["facts"]) == {"evaluation"}


def test_inter_equals_ablating_by_hand(study):
    found = inter(study, InterConfig(n_cross_controls=2))
    effects = found.tables["effects"]
    assert len(effects) == 6 * 2
    for ablated, relation in (("eats", "plays"), ("plays", "lives")):
        prompts = study.evaluation(relation)
        by_hand = change(study, study.target(ablated), prompts)
        for number, measure in enumerate(("logprob", "correct")):
            row = one(effects, ablated=ablated, relation=relation, measure=measure)
            assert row["effect"] == pytest.approx(by_hand[number].mean(), abs=1e-5)
            assert row["n_controls"] == 2
        before = ask(study, None, prompts)[1]
        assert row["relative_drop"] == pytest.approx(-by_hand[1].sum() / before.sum())
    answers = found.tables["answers"].query("ablated == 'eats' and relation == 'eats'")
    assert answers["d_correct"].sum() == change(study, study.target("eats"), study.evaluation("eats"))[1].sum()
    assert (found.tables["flips"]["ablated"] != found.tables["flips"]["relation"]).all()


def test_flips_are_the_answers_that_changed():
    rows = pd.DataFrame(
        {"d_correct": [0.0, 1.0, -1.0], "fact": ["f", "g", "h"], "clean_logprob": -1.0, "logprob": -2.0}
    )
    for name in ("ablated", "relation", "subject", "object", "template", "unit"):
        rows[name] = name
    assert flips(rows)[["fact", "flip"]].to_numpy().tolist() == [["g", "gained"], ["h", "lost"]]


def test_sweep_equals_ablating_by_hand(study):
    found = sweep(study, SweepConfig(ks=KS, scale=False, n_sweep_controls=20, n_other=2))
    prompts, by_k = study.evaluation("lives"), []
    for k in KS:
        values = change(study, study.target("lives", k), prompts)
        by_k.append(values[0])
        row = one(found.tables["effects"], ablated="lives", k=k, measure="logprob")
        assert row["effect"] == pytest.approx(values[0].mean(), abs=1e-5)
        others = [prompt for name in ("eats", "plays") for prompt in study.evaluation(name)[:2]]
        row = one(found.tables["others"], ablated="lives", k=k, measure="logprob")
        assert row["effect"] == pytest.approx(change(study, study.target("lives", k), others)[0].mean(), abs=1e-5)
        assert row["n"] == 4
    slope = [np.polyfit(np.log10(KS), column, 1)[0] for column in np.array(by_k).T]
    row = one(found.tables["trend"], ablated="lives", measure="logprob")
    assert row["effect"] == pytest.approx(np.mean(slope), abs=1e-5)
    assert row["verdict"] == "falls"


def test_slopes_keep_controls_apart():
    rows = [
        {"ablated": "a", "draw": draw, "k": k, "relation": "a", "unit": "f", "clean_logprob": -1.0,
         "clean_correct": 1.0, "d_logprob": slope * np.log10(k) + 5, "d_correct": 0.0}
        for draw, slope in enumerate((-2.0, 3.0)) for k in (1, 10, 100)
    ]  # fmt: skip
    found = slopes(pd.DataFrame(rows))
    assert found["d_logprob"].tolist() == [pytest.approx(-2), pytest.approx(3)]
    assert found["draw"].tolist() == [0, 1]


def test_smaller_controls_are_parts_of_larger_ones(study):
    drawn = {(k, draw): control for k, draw, control in nested_controls(study, "eats", KS, 2)}
    assert len(drawn) == 2 * len(KS)
    for draw in (0, 1):
        for small, large in itertools.pairwise(KS):
            assert set(drawn[small, draw]) <= set(drawn[large, draw])
        target = study.target("eats", KS[-1])
        for k in KS:
            assert [n.layer for n in drawn[k, draw]] == [n.layer for n in target.part(0, k)]


def test_cumulativity_equals_a_loop_over_prompts(study):
    found = cumulativity(study, CumulativityConfig(ks=KS, scale=False, n_slices=2, n_slice_controls=2))
    steps, every = found.tables["steps"], [0, 0]
    for small, large in itertools.pairwise(KS):
        total = affected = 0
        for name in study.names:
            prompts, whole = study.evaluation(name), study.target(name, KS[-1])
            at_small, at_large = (ask(study, study.target(name, k), prompts)[1] for k in (small, large))
            alone = ask(study, rn.NeuronSet(whole.neurons[small:large]), prompts)[1]
            turned = (at_small == 1) & (at_large == 0)
            row = one(steps, k_small=small, k=large, relation=name)
            assert (row["total"], row["affected"]) == (turned.sum(), (turned & (alone == 0)).sum())
            total, affected = total + row["total"], affected + row["affected"]
        row = one(steps, k_small=small, k=large, relation="all")
        assert (row["total"], row["affected"]) == (total, affected)
        every = [every[0] + total, every[1] + affected]
    row = one(steps, k_small=0, k=0, relation="all")
    assert [row["total"], row["affected"]] == every
    assert every[0] > 10
    prompts, target = study.evaluation("eats"), study.target("eats")
    pieces = [change(study, target.part(*piece), prompts)[0] for piece in ((0, 6), (0, 2), (2, 3), (3, 4), (4, 6))]
    row = one(found.tables["synergy"], ablated="eats", split="blocks", measure="logprob")
    assert row["effect"] == pytest.approx((pieces[0] - sum(pieces[1:])).mean(), abs=1e-5)
    piece = study.ranking().best["eats"].part(6, 12)
    row = one(found.tables["slices"], ablated="eats", slice=2, measure="logprob")
    assert row["effect"] == pytest.approx(change(study, piece, prompts)[0].mean(), abs=1e-5)


def table_of(courses, column="k", **labels):
    """Answers from courses of 0 and 1, a prompt each, over ks 1, 2, 3."""
    rows = []
    for (relation, fact), course in courses.items():
        clean, *after = map(int, course)
        for k, right in enumerate(after, start=1):
            row = {
                "ablated": relation,
                "relation": relation,
                "subject": fact,
                "object": "o",
                "fact": fact,
                "unit": fact,
            }
            rows.append(row | {"template": 0, column: k, "correct": right, "clean_correct": clean} | labels)
    return pd.DataFrame(rows)


def test_the_arithmetic_of_difference_sets():
    nested = table_of(
        {("a", "f"): "1110", ("a", "g"): "1110", ("a", "h"): "1000", ("b", "i"): "1110", ("b", "j"): "0000"}
    )
    parts = pd.DataFrame(
        [
            {
                "ablated": r,
                "relation": r,
                "fact": f,
                "unit": f,
                "template": 0,
                "k_small": 2,
                "k": 3,
                "kind": "part",
                "correct": c,
            }
            for r, f, c in (("a", "f", 0), ("a", "g", 1), ("a", "h", 0), ("b", "i", 1), ("b", "j", 0))
        ]
    )
    table = difference_table(nested, parts)
    row = one(table, k=3, relation="all")  # turned: f, g, i; wrong with the difference alone: f
    assert (row["total"], row["affected"]) == (3, 1)
    assert row["cumulativity"] == pytest.approx(2 / 3)
    assert row["macro"] == pytest.approx((1 / 2 + 1) / 2)
    assert row["low"] <= row["cumulativity"] <= row["high"]
    assert one(table, k=3, relation="b")["cumulativity"] == 1
    assert np.isnan(one(table, k=3, relation="all")["affected_random"])


def test_when_facts_flip_and_come_back():
    table = flip_table(table_of({("a", "f"): "1101", ("a", "g"): "1111", ("a", "h"): "0010", ("a", "i"): "1010"}))
    table = table.set_index("fact")
    assert table["course"].to_dict() == {"f": "1101", "g": "1111", "h": "0010", "i": "1010"}
    assert table["lost_at"].fillna(0).to_dict() == {"f": 2, "g": 0, "h": 0, "i": 1}
    assert table["gained_at"].fillna(0).to_dict() == {"f": 0, "g": 0, "h": 2, "i": 0}
    assert table["back"].to_dict() == {"f": 1, "g": 0, "h": 0, "i": 1}


def test_methods_take_one_scorer_and_more_neurons_than_other_experiments_rank(study):
    deep = len(study.ranking().best["lives"]) + 1
    found = methods(study, MethodsConfig(scorers=("average_precision",), ks=(deep,), n_other=1, n_method_controls=2))
    tables = found.tables
    assert tables["methods"]["k"].tolist() == [deep] * 2
    assert tables["against_first"].empty
    assert not any("Against average precision" in sentence for sentence in found.verdict)
    with pytest.raises(rn.RelationNeuronsError, match=r"ks is \(1, 257\)\. Expected: numbers up to 256"):
        methods(study, MethodsConfig(ks=(257, 1)))
    with pytest.raises(rn.RelationNeuronsError, match="at least 1"):
        MethodsConfig(ks=(3, 0))


@pytest.mark.parametrize(
    ("n", "reached", "says"),
    [
        (5, True, "So few relations show no difference"),
        (6, False, "None is shown to take more than average_precision, which could take more at that cost."),
        (6, True, "not corrected for the number of scorers: auroc -1.00 [-1.50, -0.50]."),
    ],
)
def test_a_scorer_is_said_to_take_more_only_where_that_can_be_told(n, reached, says):
    ends = {"own": -2.0, "own_low": -3.0, "own_high": -1.0, "measure": "logprob", "cost": 0.1, "n": n}
    zero = dict.fromkeys(("difference", "difference_low", "difference_high"), 0.0)
    more = {"difference": -1.0, "difference_low": -1.5, "difference_high": -0.5}
    rows = [{"scorer": "average_precision", "reached": reached, **zero}, {"scorer": "auroc", "reached": True, **more}]
    nothing = pd.DataFrame(columns=["measure", "k"])
    (sentence,) = scorer_comparison(pd.DataFrame([row | ends for row in rows]), nothing, nothing)
    assert says in sentence
    assert ("-1.50" in sentence) == (n == 6 and reached)


def test_methods_equal_ablating_by_hand(study):
    config = MethodsConfig(scorers=("auroc", "contrast_score"), ks=(3, 6), n_other=2, n_method_controls=2)
    found = methods(study, config)
    table = found.tables["methods"]
    assert set(table["scorer"]) == {"average_precision", "auroc", "contrast_score"}
    detection = study.detection()
    activations = rn.collect_activations(study.model, detection)
    from relation_neurons.scores.scorers import SCORERS

    labels, mask = rn.contrast(detection)
    scores = SCORERS["contrast_score"](activations.values, labels, mask)
    ties = rn.by_effect_size(activations.values, labels, mask)
    chosen, own, other = rn.top_k(scores, 6, activations.space, list(study.names), ties), [], []
    for name, target in chosen.items():
        own.append(change(study, target, study.evaluation(name))[0].mean())
        others = [p for one_name in study.names if one_name != name for p in study.evaluation(one_name)[:2]]
        other.append(change(study, target, others)[0].mean())
    row = one(table, scorer="contrast_score", k=6, measure="logprob")
    assert row["own"] == pytest.approx(np.mean(own), abs=1e-5)
    assert row["other"] == pytest.approx(np.mean(other), abs=1e-5)
    assert row["specific"] == pytest.approx(np.mean(own) - np.mean(other), abs=1e-5)
    first = one(table, scorer="average_precision", k=6, measure="logprob")
    against = found.tables["against_first"]
    difference = one(against, scorer="contrast_score", k=6, measure="logprob")
    assert (against["smallest_p"] == 4 * 2 / 2**3).all()  # four tests over three relations
    assert set(against["verdict"]) == {"cannot be shown"}
    assert difference["effect"] == pytest.approx(row["specific"] - first["specific"], abs=1e-5)


def test_confounds_compare_ways_of_detecting_and_of_matching(study):
    found = confounds(study, ConfoundsConfig(n_confound_controls=20))
    controls = found.tables["controls"]
    assert set(controls["match"]) == {"none", "layer", "activation"}
    by_hand = [
        change(study, one_set, study.evaluation("eats"))[0].mean()
        for one_set in study.controls(study.target("eats"), n=20, match="activation")
    ]
    row = one(controls, ablated="eats", match="activation", measure="logprob")
    assert row["random"] == pytest.approx(np.mean(by_hand), abs=1e-5)
    selections = found.tables["selections"]
    assert (selections.query("selection == 'as configured'")["shared"] == 1).all()
    assert re.search(r"layer: falls in 3 of 3", " ".join(found.verdict))


def test_facts_that_stay_right_are_resilient():
    answers = pd.DataFrame(
        [("r", "a", 1, 1), ("r", "a", 1, 0), ("r", "b", 1, 1), ("r", "b", 0, 0), ("r", "c", 0, 1), ("r", "d", 1, 1)],
        columns=["relation", "fact", "clean_correct", "correct"],
    )
    counts = pd.DataFrame({"relation": "r", "fact": ["a", "b", "c"], "object": "o", "n_both": [5, 7, 9]})
    counts["subject"] = counts["fact"]
    found = divided(answers, counts)  # c was wrong before, d is not counted
    assert found[["subject", "resilient", "n_both"]].to_numpy().tolist() == [["a", False, 5], ["b", True, 7]]


def test_frequency_counts_in_a_corpus_and_divides_facts(study, tmp_path):
    facts = [fact for relation in study.relations for fact in relation.facts]
    for number in range(3):
        text = " ".join(f"{fact.subject} {fact.object}" if number == 0 else fact.subject for fact in facts)
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
    found = frequency(study, FrequencyConfig(corpus=tmp_path))
    assert (found.tables["counts"]["n_both"] == 1).all()
    divided_facts = found.tables["facts"]
    for name in study.names:
        prompts = study.evaluation(name)
        before, after = ask(study, None, prompts)[1], ask(study, study.target(name), prompts)[1]
        rows = divided_facts[divided_facts["relation"] == name].set_index("subject")["resilient"]
        expected = {p.subject: bool(a) for p, b, a in zip(prompts, before, after, strict=True) if b}
        assert rows.to_dict() == expected
    assert len(found.tables["test"]) == 1 + study.config.n_controls
    assert "facts stay right" in found.verdict[0]


def test_ks_have_the_share_that_they_have_in_llama_2_7b(study):
    assert doses(study, (10_000, 30_000, 50_000), True) == (7, 22, 36)
    with pytest.raises(rn.RelationNeuronsError, match="ks are"):
        doses(study, (10, 50), True)  # both scale to one neuron
    with pytest.raises(rn.RelationNeuronsError, match=r"up to \d+"):
        doses(study, (5, 300), False)


def test_ks_that_are_no_sweep_are_refused():
    for ks in ((5,), (0, 5), (5, 5)):
        with pytest.raises(rn.RelationNeuronsError, match="ks is"):
            SweepConfig(ks=ks)
        with pytest.raises(rn.RelationNeuronsError, match="ks is"):
            CumulativityConfig(ks=ks)
