"""Shared neurons are found as shared and serve both, others serve their own, and nothing is found where nothing is."""

import dataclasses
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import relation_neurons as rn
from relation_neurons.experiments import contrast_sets as contrast_sets_module
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.contrast_sets import contrast_sets
from relation_neurons.experiments.overlap import (
    overlap,
    pair_sets,
    pair_table,
    shared_neurons,
    tail_of_each_count,
    triple_table,
)
from relation_neurons.experiments.sharing import SharingConfig, less_the_others, sharing, split
from relation_neurons.experiments.study import Study
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons.pairwise import kept_apart, leaving_out, rank_contrasts
from relation_neurons.neurons.random_overlap import matched_overlap, moments
from relation_neurons.prompts.contrast import Contrast
from relation_neurons.results import sharing_verdicts
from tests.planted_properties import GROUP, N_SHARED, VERSATILE, plant_nothing, plant_properties

N_RELATIONS = 8


def study_of(planted, k=GROUP, n=N_RELATIONS, **changes):
    prompts = rn.PromptConfig(shots=0, n_evaluation=12)
    config = StudyConfig(k=k, site="post", n_controls=20, validation="none", prompts=prompts, **changes)
    return Study(planted.model, planted.relations[:n], config)


@pytest.fixture(scope="module")
def planted():
    return plant_properties()


@pytest.fixture(scope="module")
def study(planted):
    return study_of(planted)


@pytest.fixture(scope="module")
def shared(study):
    return sharing(study, SharingConfig(n_sharing_controls=20))


@pytest.fixture(scope="module")
def pairs(study):
    return pair_table(study)


def row_of(pairs, pair=VERSATILE):
    return pairs[(pairs["first"] == pair[0]) & (pairs["second"] == pair[1])].iloc[0]


def test_planted_shared_neurons_are_found_as_shared_and_exclusive_ones_as_exclusive(planted, study, pairs):
    assert pairs.loc[pairs["verdict"] == "above chance", ["first", "second"]].to_numpy().tolist() == [[*VERSATILE]]
    row = row_of(pairs)
    assert (row["count"], row["count_apart"], row["share"]) == (N_SHARED, N_SHARED, N_SHARED / GROUP)
    parts = split(*pair_sets(study, [VERSATILE])[VERSATILE])
    common = set(planted.shared[VERSATILE])
    assert set(parts["shared"]) == common
    for name in VERSATILE:
        assert set(parts[name]) == set(planted.neurons[name]) - common
    listed = shared_neurons(pair_sets(study, [VERSATILE]))
    assert {(row.layer, row.index) for row in listed.itertuples(index=False)} == {(n.layer, n.index) for n in common}
    worst = [max(map(int, ranks.split(", "))) for ranks in listed["ranks"]]
    assert worst == sorted(worst)


def test_the_least_count_is_the_first_whose_tail_is_below_the_level(study, pairs):
    row, space = row_of(pairs), study.ranking().space
    one, other = (contrast_sets(study, [each])[each] for each in kept_apart(study.names, VERSATILE, seed=0))
    matched = matched_overlap([one, other], space)
    mean, variance = moments(matched)
    variance *= row["dispersion"]

    def tail(count):
        wide = stats.nbinom(mean**2 / (variance - mean), mean / variance).sf(count - 1)
        return max(matched[int(count) :].sum(), wide)

    assert variance > mean
    assert tail(row["least_apart"]) < 0.05 <= tail(row["least_apart"] - 1)
    assert row["p"] == pytest.approx(tail(row["count_apart"]))


def test_a_count_has_a_tail_with_and_without_overdispersion():
    matched = np.array([0.5, 0.3, 0.2])
    exact = [1.0, 0.5, 0.2, np.finfo(float).tiny]
    poisson = stats.poisson(0.7).sf(np.arange(4) - 1)
    np.testing.assert_allclose(tail_of_each_count(matched, 0.0, most=3), np.maximum(exact, poisson))
    wide = tail_of_each_count(matched, 5.0, most=3)
    variance = 5 * (0.3 + 0.8 - 0.49)
    np.testing.assert_allclose(
        wide[1:], stats.nbinom(0.49 / (variance - 0.7), 0.7 / variance).sf([0, 1, 2]).clip(exact[1:])
    )


def test_among_the_better_half_the_papers_negatives_lose_the_shared_neurons(study):
    half = {}
    for name, left_out in (("pairwise", VERSATILE), ("paper", ())):
        contrasts = [
            Contrast(one, tuple(other for other in study.names if other not in (one, *left_out))) for one in VERSATILE
        ]
        sets = rank_contrasts(study.activations(study.detection()), contrasts, k=GROUP // 2)
        half[name] = sets[0].overlap(sets[1])
    assert half["paper"] == 0
    assert half["pairwise"] > 1


def test_ablating_shared_neurons_harms_both_and_exclusive_ones_their_own(shared):
    rows = shared.tables["differences"].query("measure == 'logprob'")
    assert set(rows["relation"]) == set(VERSATILE)
    assert (rows["verdict"] == "falls").all()
    effects = shared.tables["effects"].query("measure == 'logprob'").set_index(["relation", "neurons"])["effect"]
    for name in VERSATILE:
        assert effects[name, "shared"] < -0.3
        assert effects[name, "its own"] < -0.3
        assert abs(effects[name, "the other's"]) < 0.05
    assert shared.tables["sets"].to_numpy().tolist() == [[*VERSATILE, N_SHARED]]
    assert "harmed more by what they share in: speaks and writes." in shared.verdict[-1]


def test_a_difference_is_of_the_same_facts_and_draws(shared):
    answers = shared.tables["answers"]
    name, other = VERSATILE
    on = answers[(answers["relation"] == name) & (answers["facts"] == f"{name} (with {other})")]
    by = {kind: rows.set_index("fact")["d_logprob"] for kind, rows in on.groupby("neurons")}
    expected = (by["shared"] - by["the other's"]).mean()
    rows = shared.tables["differences"].query("measure == 'logprob' and neurons == 'shared'").set_index("relation")
    assert rows.loc[name, "effect"] == pytest.approx(expected)
    draws = pd.concat([on.assign(draw=draw, d_logprob=on["d_logprob"] * draw) for draw in (1, 2)])
    draws = pd.concat([rows for _, rows in draws.groupby("neurons", sort=False)])
    paired = less_the_others(draws)
    for draw in (1, 2):
        found = paired[(paired["draw"] == draw) & (paired["neurons"] == "shared")]["d_logprob"]
        assert found.mean() == pytest.approx(draw * expected)


@pytest.mark.full
def test_where_nothing_is_shared_nothing_is_ablated():
    study = study_of(plant_nothing(1, common=0.3), n=4)
    result = sharing(study)
    assert all(table.empty for table in result.tables.values())
    assert result.verdict == ("No pair shares more neurons than chance, so that nothing was ablated.",)


@pytest.mark.full
def test_sets_of_contrasts_are_kept(planted, tmp_path, monkeypatch):
    def found():
        study = study_of(planted, n=4)
        study.keep_in(tmp_path / "run")
        return overlap(study)

    before = found()
    monkeypatch.setattr(contrast_sets_module, "rank_contrasts", None)
    after = found()
    for name, table in before.tables.items():
        pd.testing.assert_frame_equal(table, after.tables[name])
    assert before.verdict == after.verdict


def test_two_relations_have_no_others_and_three_no_test(planted):
    two, three = (overlap(study_of(planted, n=n)) for n in (2, 3))
    assert two.verdict == (sharing_verdicts.TOO_FEW,)
    assert all(table.empty for table in two.tables.values())
    pairs = three.tables["pairs"]
    assert set(pairs["verdict"]) == {"cannot be shown"}
    assert pairs["p"].isna().all()
    assert row_of(pairs)["count"] == N_SHARED
    assert "four relations are needed" in three.verdict[0]
    assert sharing(study_of(planted, n=2)).tables["effects"].empty


def test_neurons_of_three_are_told_from_all_others_but_these(study, pairs):
    group = ("speaks", "writes", "lives")
    of_group = pairs["first"].isin(group) & pairs["second"].isin(group)
    table, sets = triple_table(study, pairs.assign(verdict=np.where(of_group, "above chance", "not shown")))
    assert table["relations"].tolist() == ["speaks, writes, lives"]
    activations = study.activations(study.detection())
    others = tuple(name for name in study.names if name not in group)
    expected = rank_contrasts(activations, [Contrast(name, others) for name in group], k=GROUP)
    assert [set(one) for one in sets[group]] == [set(one) for one in expected]
    assert table["count"].tolist() == [len(set.intersection(*map(set, expected)))]
    assert triple_table(study, pairs)[0].empty


@pytest.mark.full
def test_contrasts_with_common_negatives_choose_the_same_neurons_where_relations_are_labels():
    """What the test has to avoid, and does: see `kept_apart`."""
    generator, counts = np.random.default_rng(0), {"common": 0, "apart": 0}
    names, space = tuple("abcdefgh"), NeuronSpace("m", 1, (("gate", 1000),))
    planted = plant_nothing()
    named = [dataclasses.replace(one, name=name) for one, name in zip(planted.relations, names, strict=True)]
    prompts = rn.make_prompts(named, rn.PromptConfig(shots=0, n_evaluation=15)).detection
    for _ in range(3):
        values = generator.normal(size=(len(prompts), 1000)).astype(np.float32)
        activations = rn.Activations(torch.from_numpy(values), prompts, space)
        for design, make in (("common", leaving_out), ("apart", kept_apart)):
            contrasts = [one for pair in combinations(names, 2) for one in make(names, pair)]
            sets = rank_contrasts(activations, contrasts, k=40)
            counts[design] += sum(a.overlap(b) for a, b in zip(sets[::2], sets[1::2], strict=True))
    expected = 3 * 28 * 40 * 40 / 1000
    assert counts["common"] > 1.7 * expected
    assert counts["apart"] == pytest.approx(expected, rel=0.25)
