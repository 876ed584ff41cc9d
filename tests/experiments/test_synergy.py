"""Synergy is the whole less the sum of disjoint parts, fact by fact; what adds up in logits has none in log-odds."""

import math

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.synergy import interaction, parts, synergy
from tests.planted_properties import GROUP, plant_properties


@pytest.mark.parametrize(("k", "n_parts"), [(16, 4), (10, 4), (3, 4), (1, 4)])
def test_parts_are_disjoint_and_make_the_whole(k, n_parts):
    neurons = rn.NeuronSet.from_pairs([(0, index) for index in range(k)])
    found = parts(neurons, n_parts)
    for split in ("blocks", "interleaved"):
        pieces = {piece: one for (way, piece), one in found.items() if way == split}
        assert pieces.pop("whole") == neurons
        assert len(pieces) == min(k, n_parts)
        joined = [neuron for one in pieces.values() for neuron in one]
        assert sorted(joined) == sorted(neurons)
        assert max(map(len, pieces.values())) - min(map(len, pieces.values())) <= 1
    if k == 16:
        assert [n.index for n in found["blocks", "part 2"]] == [4, 5, 6, 7]
        assert [n.index for n in found["interleaved", "part 2"]] == [1, 5, 9, 13]


def test_the_statistic_is_that_of_a_loop():
    generator, rows, expected = np.random.default_rng(0), [], {}
    for fact in ("f1", "f2"):
        for split in ("blocks", "interleaved"):
            changes = generator.normal(size=4)
            expected[fact, split] = changes[0] - sum(changes[1:])
            for piece, change in zip(("whole", "part 1", "part 2", "part 3"), changes, strict=True):
                about = {"ablated": "a", "split": split, "piece": piece, "relation": "a", "fact": fact, "unit": fact}
                about |= {"template": 0, "clean_logprob": -1.0, "clean_log_odds": 0.0}
                rows.append(about | {"d_logprob": change, "d_log_odds": 2 * change})
    found = interaction(pd.DataFrame(rows)).set_index(["fact", "split"])
    for key, value in expected.items():
        assert found.loc[key, "d_logprob"] == pytest.approx(value)
        assert found.loc[key, "d_log_odds"] == pytest.approx(2 * value)


@pytest.fixture(scope="module")
def study():
    planted = plant_properties()
    prompts = rn.PromptConfig(shots=0, n_evaluation=8)
    config = StudyConfig(k=GROUP, site="post", validation="none", prompts=prompts, keep_critical=True)
    return Study(planted.model, planted.relations[2:4], config)


@pytest.fixture(scope="module")
def tables(study):
    return synergy(study, 4, 2)


def test_the_table_is_what_ablating_by_hand_gives(study, tables):
    name = study.names[0]
    asked, target = study.evaluation(name), study.target(name)
    clean = rn.recall(study.model, asked, generate=False)["logprob"]

    def log_odds(logprob):
        return logprob.map(lambda value: value - math.log(1 - math.exp(value)))

    changes = {}
    for piece, neurons in parts(target, 4).items():
        with rn.ablate(study.model, neurons):
            changes[piece] = rn.recall(study.model, asked, generate=False)["logprob"]
    table = tables[0].set_index(["ablated", "split", "measure"])
    for split in ("blocks", "interleaved"):
        for measure, scale in (("logprob", lambda values: values), ("log_odds", log_odds)):
            whole = (scale(changes[split, "whole"]) - scale(clean)).mean()
            alone = sum((scale(changes[split, f"part {n}"]) - scale(clean)).mean() for n in range(1, 5))
            row = table.loc[name, split, measure]
            assert row["effect"] == pytest.approx(whole - alone, abs=2e-3)
            assert row["whole"] == pytest.approx(whole, abs=2e-3)
            assert row["ratio"] == pytest.approx((whole - alone) / whole, abs=2e-3)


def test_what_adds_up_in_logits_is_synergy_of_the_threshold_only(tables):
    alone, pooled = tables
    for table in (alone, pooled):
        ratio = table.set_index("measure")["ratio"]
        assert (ratio["logprob"] > 0.2).all()
        assert (ratio["log_odds"].abs() < 0.05).all()
        assert (table["random"].abs() < 0.05).all()
    assert set(pooled["ablated"]) == {"all"}
    assert set(pooled["split"]) == {"blocks", "interleaved"}
    assert (pooled["n"] == alone.groupby(["split", "measure"])["n"].sum().iloc[0]).all()
