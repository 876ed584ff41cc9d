"""What experiments share: answers are asked once and kept, rankings equal the plain way, and a stop loses nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.experiments import answer_jobs
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.inter_relation import InterConfig, inter
from relation_neurons.experiments.intra_relation import IntraConfig, intra
from relation_neurons.experiments.study import Study
from relation_neurons.inference import units
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons.ranking import rank_neurons, scaled_k

CONFIG = StudyConfig(
    k=6,
    site="post",
    n_controls=3,
    validation="none",
    rule="string",
    prompts=rn.PromptConfig(shots=0, n_evaluation=10),
    device="cpu",
)


@pytest.fixture
def study(planted):
    return Study(planted.model, planted.relations, CONFIG)


@pytest.fixture
def asked(monkeypatch):
    """Counts the prompts that the model is really asked."""
    rows = []

    def counting(model, conditions, **options):
        rows.append(sum(len(condition.prompts) for condition in conditions))
        return rn.recall_under(model, conditions, **options)

    monkeypatch.setattr(answer_jobs, "recall_under", counting)
    return rows


def test_changes_equal_ablating_by_hand(study, planted):
    target, prompts = study.target("eats"), study.evaluation("eats")
    other = study.evaluation("plays")[:3]
    table = study.changes([Case(target, prompts, {"a": 1}), Case(target, other, {"a": 2})])
    clean = rn.recall(planted.model, [*prompts, *other])
    with rn.ablate(planted.model, target):
        ablated = rn.recall(planted.model, [*prompts, *other])
    assert list(table["a"]) == [1] * 10 + [2] * 3
    assert list(table["subject"]) == list(clean["subject"])
    np.testing.assert_allclose(table["d_logprob"], ablated["logprob"] - clean["logprob"], atol=1e-5)
    np.testing.assert_allclose(table["clean_logprob"], clean["logprob"], atol=1e-5)
    changed = ablated["correct_string"].astype(float) - clean["correct_string"].astype(float)
    np.testing.assert_array_equal(table["d_correct"], changed)
    assert (table["generated"].str.strip() != "").all()


def test_nothing_is_asked_twice(study, asked):
    case = Case(study.target("eats"), study.evaluation("eats"), {})
    first = study.changes([case])
    assert asked == [10, 10]
    more = study.changes([Case(study.target("eats"), study.evaluation(), {})])
    assert asked == [10, 10, 20, 20]
    pd.testing.assert_frame_equal(more[more["relation"] == "eats"].reset_index(drop=True), first)


def test_the_same_neurons_in_another_order_are_the_same_state(study, asked):
    target = study.target("eats")
    turned = rn.NeuronSet(target.neurons[::-1], "turned")
    study.changes([Case(target, study.evaluation("eats"), {"n": 1}), Case(turned, study.evaluation("eats"), {"n": 2})])
    assert sum(asked) == 20


def kept(planted, folder, **changes):
    study = Study(planted.model, planted.relations, replace(CONFIG, **changes))
    study.keep_in(folder)
    return study


def test_a_folder_remembers_answers_and_rankings(planted, asked, tmp_path, monkeypatch):
    def open_study():
        return kept(planted, tmp_path / "study")

    def table(study):
        return study.changes([Case(study.target(name), study.evaluation(), {"ablated": name}) for name in study.names])

    first = open_study()
    before, n_asked = table(first), sum(asked)
    again = open_study()
    monkeypatch.setattr(rn.experiments.detection, "collect_activations", lambda *a, **k: pytest.fail("read again"))
    pd.testing.assert_frame_equal(table(again), before)
    assert sum(asked) == n_asked
    ranking, stored = first.ranking(), again.ranking()
    assert ranking.best == stored.best
    np.testing.assert_array_equal(ranking.activity, stored.activity)
    pd.testing.assert_frame_equal(ranking.counts, stored.counts)


def test_another_tie_rule_is_another_ranking(planted, tmp_path, monkeypatch):
    kept(planted, tmp_path / "study").ranking()
    monkeypatch.setattr(rn.experiments.rankings, "TIE_RULE", "by place alone")
    kept(planted, tmp_path / "study").ranking()
    assert len(list((tmp_path / "study" / "rankings").glob("best-*"))) == 2


def test_a_stopped_study_goes_on_where_it_was(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(units, "UNIT_SECONDS", 0)  # each batch is a unit

    def open_study(name):
        return kept(planted, tmp_path / name, batch_size=16)

    def table(study):
        return study.changes([Case(study.target(name), study.evaluation(), {"ablated": name}) for name in study.names])

    whole = table(open_study("whole"))
    parts = []

    def stopping(model, conditions, **options):
        parts.append([condition.name for condition in conditions])
        if len(parts) == 4:
            raise KeyboardInterrupt
        return rn.recall_under(model, conditions, **options)

    monkeypatch.setattr(answer_jobs, "recall_under", stopping)
    with pytest.raises(KeyboardInterrupt):
        table(open_study("stopped"))
    assert len(list((tmp_path / "stopped" / "parts").glob("generated-*"))) == 3
    pd.testing.assert_frame_equal(table(open_study("stopped")), whole)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole" / "answers").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "stopped" / "answers").iterdir()} == expected
    assert not list((tmp_path / "stopped" / "parts").iterdir())


def test_targets_are_the_plain_top_k(study, planted):
    detection = study.prompts().detection
    activations = rn.collect_activations(planted.model, detection)
    labels, mask = rn.contrast(detection)
    scores = rn.average_precision(activations.values, labels, mask)
    ties = rn.by_effect_size(activations.values, labels, mask)
    assert {name: study.target(name) for name in study.names} == rn.top_k(
        scores, 6, activations.space, list(study.names), ties
    )
    deeper = rn.top_k(scores, 20, activations.space, list(study.names), ties)
    assert study.ranking().best["eats"].part(6, 12).neurons == deeper["eats"].neurons[6:12]


def test_a_deeper_ranking_has_the_same_neurons_first(planted):
    study = Study(planted.model, planted.relations, CONFIG)
    before = study.ranking()
    deep = study.ranking(depth=256)
    for name in study.names:
        depth = len(before.best[name])
        assert depth < 256 == len(deep.best[name])
        assert deep.best[name].part(0, depth) == before.best[name]
        pd.testing.assert_frame_equal(deep.top_frame(name, 6), before.top_frame(name, 6))
    assert study.ranking() is deep


def test_sites_read_together_rank_as_each_alone(planted):
    together = Study(planted.model, planted.relations, CONFIG, read="all")
    for site in ("ffn", "up", "attn"):
        alone = Study(planted.model, planted.relations, CONFIG)
        selection = replace(together.selection, site=site)
        assert together.ranking(selection).best == alone.ranking(selection).best
        assert together.ranking(selection).space == alone.ranking(selection).space
    assert together.activations(together.detection(), "gate").values.shape[1] == 2 * 128


def test_columns_of_a_site_are_those_of_reading_it_alone(planted):
    prompts = rn.make_prompts(planted.relations, CONFIG.prompts).detection
    everything = rn.collect_activations(planted.model, prompts, site="all")
    for site in ("gate", "down", "v", "ffn", "attn", "all"):
        alone = rn.collect_activations(planted.model, prompts, site=site)
        assert everything.at(site).space == alone.space
        torch.testing.assert_close(everything.at(site).values, alone.values)
    with pytest.raises(rn.RelationNeuronsError, match="'q' was not read"):
        everything.at("ffn").at("attn")


def test_detection_keeps_rightly_answered_prompts_only(planted):
    study = Study(planted.model, planted.relations, CONFIG)
    everything = study.detection()
    kept = study.detection(replace(study.selection, validation="string"))
    right = rn.recall(planted.model, everything)["correct_string"]
    assert kept == tuple(prompt for prompt, is_right in zip(everything, right, strict=True) if is_right)
    with pytest.raises(rn.RelationNeuronsError, match="too few detection prompts"):
        study.detection(replace(study.selection, validation="prefix"))


def test_k_has_the_share_it_has_in_llama_2_7b():
    ffn = NeuronSpace("Llama-2-7B", 32, (("gate", 11008), ("up", 11008), ("down", 4096)))
    assert scaled_k(3000, ffn) == 3000
    assert scaled_k(3000, NeuronSpace("13B", 40, (("gate", 13824), ("up", 13824), ("down", 5120)))) == 3000
    small = NeuronSpace("SmolLM2", 30, (("gate", 1536), ("up", 1536), ("down", 576)))
    assert scaled_k(3000, small) == round(3000 / 835_584 * 109_440) == 393
    assert scaled_k(1, small) == 1


def test_controls_are_matched_as_asked(study):
    target, space = study.target("eats"), study.ranking().space
    for match in ("none", "layer", "activation"):
        for control in study.controls(target, match=match):
            assert len(control) == len(target)
            assert control.overlap(target) == 0
            layers = [(one.site, one.layer) for one in control]
            if match != "none":
                assert layers == [(one.site, one.layer) for one in target]
    activity = study.ranking().activity

    def distance(match):
        sets = [one for n in range(3) for one in study.controls(target, n=n + 1, match=match)]
        values = [activity[space.flatten(list(one))] for one in sets]
        return np.mean([np.abs(one - activity[space.flatten(list(target))]) for one in values])

    assert distance("activation") <= distance("layer")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"k": 257}, "k is 257"),
        ({"scorer": "auroc_"}, "did you mean 'auroc'"),
        ({"n_controls": 1}, "n_controls is 1"),
    ],
)
def test_bad_studies_are_refused(planted, changes, says):
    import dataclasses

    with pytest.raises(rn.RelationNeuronsError, match=says):
        Study(planted.model, planted.relations, dataclasses.replace(CONFIG, **changes))
    with pytest.raises(rn.RelationNeuronsError, match="There is 1 relation"):
        Study(planted.model, planted.relations[:1], CONFIG)


def test_a_wrong_average_precision_is_refused(planted, monkeypatch):
    from relation_neurons.scores.scorers import SCORERS

    activations = rn.collect_activations(planted.model, rn.make_prompts(planted.relations, CONFIG.prompts).detection)
    monkeypatch.setitem(SCORERS, "average_precision", lambda *a: rn.average_precision(*a) * 0.999)
    with pytest.raises(rn.RelationNeuronsError, match="differs from scikit-learn"):
        rank_neurons(activations, depth=3)


def test_controls_of_different_targets_are_drawn_independently(planted):
    """Else sets that stand for chance would resemble each other, and a spread pooled over them would be too small."""
    study = Study(planted.model, planted.relations, CONFIG)
    space = study.ranking().space
    pairs = rn.NeuronSet.from_pairs([(0, index) for index in range(10)], name="one")
    others = rn.NeuronSet.from_pairs([(0, index) for index in range(10, 20)], name="other")
    shared = [
        one.overlap(other)
        for one, other in zip(study.controls(pairs, n=100), study.controls(others, n=100), strict=True)
    ]
    assert len(space) == 256
    assert np.mean(shared) < 1.3  # 10 of about 118 twice: 0.8 by chance, 9 with the same seed
    assert study.controls(pairs) == study.controls(pairs)


def test_what_tests_can_show_is_said_before_anything_is_measured(planted, monkeypatch):
    lines = []
    study = Study(planted.model, planted.relations, CONFIG, say=lines.append)
    study.ranking()
    monkeypatch.setattr(answer_jobs, "recall_under", lambda *a, **k: pytest.fail(lines[0]))
    with pytest.raises(pytest.fail.Exception, match=r"6 tests, each of \d+ facts and 2 control sets: no effect can be"):
        inter(study, InterConfig(n_cross_controls=2))


@pytest.mark.parametrize(("experiment", "n_controls"), [("intra", 3), ("inter", 2), ("inter", 1)])
def test_what_relations_can_show_together_is_said_where_none_can_alone(planted, experiment, n_controls):
    lines = []
    config = replace(CONFIG, n_controls=max(2, n_controls))
    study = Study(planted.model, planted.relations, config, say=lines.append)
    if experiment == "intra":
        result = intra(study, IntraConfig(n_detection_tested=0))
    else:
        result = inter(study, InterConfig(n_cross_controls=n_controls))
    smallest = result.tables["pooled"]["smallest_p"].unique().item()
    assert result.table["smallest_p"].min() > 0.05
    assert "no effect can be shown; needed are" in lines[0]
    together = f"together the smallest p that can be reached is {smallest:.2g}."
    assert lines[0].endswith(
        f"Over all relations {together if smallest < 0.05 else 'together no effect can be shown either.'}"
    )


def test_pairs_without_controls_are_estimates(planted):
    effects = inter(Study(planted.model, planted.relations, CONFIG), InterConfig(n_cross_controls=0)).table
    assert set(effects["verdict"]) == {"cannot be shown"}
    assert (effects["n_controls"] == 0).all()
    assert effects["effect"].notna().all()
