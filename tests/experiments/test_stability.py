"""Samples of the detection prompts: one ranked by hand, pure noise at chance, and nothing read twice."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.experiments import detection
from relation_neurons.experiments.detection_samples import samples, shuffled_relations
from relation_neurons.experiments.stability import StabilityConfig, agreement, stability
from relation_neurons.experiments.study import Study
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.neurons.random_overlap import matched_overlap
from tests.planted import planted_config

NAMES = ("a", "b", "c")


def noise(n_facts, n_neurons, *, names=NAMES, n_templates=3, every=False, seed=0):
    """Prompts of facts in one template each, or in every one, and activations without any pattern."""
    prompts = tuple(
        rn.Prompt(name, f"{name} s{fact}", "o", f"{name} s{fact} t{template}", template=template)
        for name in names
        for fact in range(n_facts)
        for template in (range(n_templates) if every else [fact % n_templates])
    )
    values = torch.randn(len(prompts), n_neurons, generator=torch.Generator().manual_seed(seed))
    return rn.Activations(values, prompts, NeuronSpace("noise", 2, (("post", n_neurons // 2),)))


def best_by_hand(activations, rows, k):
    """Flat numbers of the k best neurons of each relation on some rows, which may repeat."""
    prompts, values = [activations.prompts[row] for row in rows], activations.values[rows].numpy()
    labels, mask = rn.contrast(prompts)
    best = {}
    for column, name in enumerate(dict.fromkeys(one.relation for one in prompts)):
        kept = mask[:, column]
        scores = [average_precision_score(labels[kept, column], neuron) for neuron in values[kept].T]
        assert len(set(np.sort(scores)[-k - 1 :])) == k + 1  # no ties
        best[name] = set(np.argsort(scores)[-k:].tolist())
    return best


def test_samples_of_facts_are_ranked_as_by_hand():
    activations, k, n = noise(12, 60, every=True, n_templates=2), 9, 3
    drawn = samples(activations.prompts, n)["facts"]
    found = agreement(activations, scorer="average_precision", k=k, n=n).query("kind == 'facts'").set_index("ablated")
    sets = [best_by_hand(activations, sample.rows, k) for sample in drawn]
    for name in NAMES:
        pairs = list(combinations([one[name] for one in sets], 2))
        assert found.loc[name, "n_pairs"] == len(pairs) == 3
        assert found.loc[name, "coefficient"] == pytest.approx(np.mean([len(one & other) for one, other in pairs]) / k)
        named = [[rn.NeuronSet.from_pairs([divmod(i, 30) for i in sorted(one)]) for one in pair] for pair in pairs]
        exact = [matched_overlap(pair, activations.space) for pair in named]
        expected = np.mean([chances @ np.arange(len(chances)) for chances in exact]) / k
        assert found.loc[name, "expected_matched"] == pytest.approx(expected)


def test_facts_are_drawn_whole_and_as_many_as_there_are():
    prompts = noise(12, 2, every=True).prompts
    first, second = samples(prompts, 2, seed=5)["facts"]
    assert list(first.rows) != list(second.rows)
    for sample in (first, second):
        drawn = pd.DataFrame(
            [(prompts[row].relation, prompts[row].subject, prompts[row].template) for row in sample.rows]
        )
        assert len(drawn) == len(prompts)
        assert (drawn.groupby(0).size() == 36).all()
        by_template = drawn.groupby([1, 2]).size().unstack()
        assert (by_template[[0, 1, 2]].nunique(axis=1) == 1).all()
        assert by_template[0].max() > 1


def test_templates_and_parts_of_their_size_divide_the_prompts():
    prompts = noise(12, 2).prompts + noise(6, 2, names=("d",), n_templates=2).prompts
    drawn = samples(prompts, 2)
    for kind in ("templates", "random parts"):
        assert [len(one.rows) for one in drawn[kind]] == [15, 15, 15]
        assert [one.relations for one in drawn[kind]] == [{*NAMES, "d"}] * 2 + [set(NAMES)]
        rows = [row for one in drawn[kind] for row in one.rows if prompts[row].relation != "d"]
        assert sorted(rows) == list(range(36))
    of_first = [prompts[row] for row in drawn["templates"][0].rows]
    assert {one.template for one in of_first} == {0}
    assert {prompts[row].template for row in drawn["random parts"][0].rows} == {0, 1, 2}


def test_on_pure_noise_separate_samples_agree_by_chance_and_others_as_if_shuffled():
    k, n_neurons = 200, 4000
    found = agreement(noise(30, n_neurons, names=(*NAMES, "d")), scorer="standardised_mean_difference", k=k, n=2)
    means = found.groupby("kind")[["coefficient", "shuffled", "expected_matched"]].mean()
    error = np.sqrt(0.05 * 0.95 / k / 12)  # of the mean share of 3 pairs of 4 relations
    for kind in ("templates", "random parts"):
        assert means.loc[kind, "coefficient"] == pytest.approx(k / n_neurons, abs=4 * error)
        assert means.loc[kind, "expected_matched"] == pytest.approx(k / n_neurons, abs=0.001)
    assert means.loc["facts", "coefficient"] > 4 * k / n_neurons  # they share prompts
    assert (means["coefficient"] - means["shuffled"]).abs().max() < 0.05


def test_what_is_there_is_found_again_and_is_gone_where_relations_are_shuffled():
    activations = noise(30, 400)
    for number, name in enumerate(NAMES):
        mine = torch.tensor([one.relation == name for one in activations.prompts])
        activations.values[mine, 20 * number : 20 * number + 20] += 3
    found = agreement(activations, scorer="standardised_mean_difference", k=20, n=2)
    assert (found["coefficient"] > 0.9).all()
    shuffled = found[found["kind"].isin(["templates", "random parts"])]["shuffled"]
    assert shuffled.mean() < 0.2


def test_shuffled_relations_keep_their_facts_together_and_their_numbers():
    prompts = noise(12, 2, every=True).prompts
    shuffled = shuffled_relations(prompts, seed=1)
    assert [one.text for one in shuffled] == [one.text for one in prompts]
    table = pd.DataFrame([(one.subject, one.relation) for one in shuffled])
    assert (table.groupby(0)[1].nunique() == 1).all()
    assert (table.groupby(1).size() == 36).all()
    assert (table[0].str[0] != table[1]).mean() > 0.4


def test_excluded_neurons_are_in_no_sample_and_not_among_those_to_draw_from():
    excluded = (Neuron("post", 0, 3), Neuron("post", 1, 0))
    found = agreement(noise(9, 20), scorer="standardised_mean_difference", k=20, n=2, exclude=excluded)
    assert (found["k"] == 18).all()
    assert (found["coefficient"] == 1).all()
    assert found["expected_matched"].to_numpy() == pytest.approx(1)


def test_a_study_reads_once_and_what_it_ranked_is_kept(planted, tmp_path, monkeypatch):
    calls = []
    for name in ("kept_activations", "kept_attributions"):
        read = getattr(detection, name)
        monkeypatch.setattr(
            detection, name, lambda *a, _read=read, _name=name, **k: calls.append(_name) or _read(*a, **k)
        )
    config = StabilityConfig(("average_precision", "attribution_t"), n_samples=2)
    tables = []
    for _ in range(2):
        study = Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 15, k=6, keep_critical=True))
        study.keep_in(tmp_path)
        tables.append(stability(study, config))
        assert calls == ["kept_activations", "kept_attributions"]
    pd.testing.assert_frame_equal(tables[0].table, tables[1].table)
    rows = tables[0].table.query("scorer == 'average_precision'").set_index("kind")
    assert rows.loc["facts", "coefficient"] == 1  # exactly the planted neurons each time
    assert rows.loc["facts", "expected"] == 6 / 256
    assert rows.loc["facts", "shuffled"] < 0.7
    assert "average_precision 1.00 [1.00, 1.00] (relations shuffled" in tables[0].verdict[0]
    own = stability(study, StabilityConfig(n_samples=2)).table  # by default of the study's scorer
    pd.testing.assert_frame_equal(own, tables[0].table.query("scorer == 'average_precision'"))
