"""Gains of pairs are tested as stated, single facts that gained are shown, and the planted rival is found."""

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.errors import RelationNeuronsError
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.gained_facts import choose_gained
from relation_neurons.experiments.gains import gain_table, parse_pairs
from relation_neurons.experiments.inter_relation import InterConfig, inter
from relation_neurons.experiments.study import Study
from relation_neurons.statistics.hypothesis_tests import control_test
from relation_neurons.statistics.intervals import mean_interval
from relation_neurons.statistics.sign_flips import sign_flip_max_t
from tests.planted_properties import GROUP, INTERFERING, plant_properties

NAMES = ("a", "b", "c")


def answers(gains, *, n_draws=0, n_facts=8):
    """Changes of every pair, two templates for each fact."""
    generator = np.random.default_rng(n_draws)
    rows = []
    for (ablated, asked), gain in gains.items():
        for draw in range(n_draws or 1):
            for fact in range(n_facts):
                for template in range(2):
                    change = generator.normal(0 if n_draws else gain, 0.1)
                    about = {"ablated": ablated, "relation": asked, "unit": f"{asked}{fact}", "fact": f"{asked}{fact}"}
                    about |= {"template": template, "draw": draw, "d_logprob": change}
                    rows.append(about | {"d_correct": float(change > 1 and template == 0)})
    return pd.DataFrame(rows)


GAINS = {("a", "b"): 1.5, ("b", "a"): 0.0, ("a", "c"): -1.5, ("c", "b"): 0.02, ("b", "c"): 0.0}


def test_the_table_is_what_a_loop_finds():
    own, controls = answers(GAINS), answers(GAINS, n_draws=25)
    table = gain_table(own, controls)
    assert list(zip(table["ablated"], table["relation"], strict=True)) == list(GAINS)
    units = sorted(set(own["unit"]))
    matrix, effects, draws = np.zeros((len(units), len(GAINS))), [], []
    for number, (ablated, asked) in enumerate(GAINS):
        here, there = (t[(t["ablated"] == ablated) & (t["relation"] == asked)] for t in (own, controls))
        for row, unit in enumerate(units):
            if unit in set(here["unit"]):
                own_mean = here[here["unit"] == unit]["d_logprob"].mean()
                matrix[row, number] = own_mean - there[there["unit"] == unit]["d_logprob"].mean()
        effects.append(here["d_logprob"].mean())
        draws.append(np.array([there[there["draw"] == draw]["d_logprob"].mean() for draw in range(25)]))
    chance, random = sign_flip_max_t(matrix), control_test(effects, draws, resolution=1e-3)
    raised = np.array([effect > max(0, values.mean()) for effect, values in zip(effects, draws, strict=True)])
    expected = np.where(raised, np.maximum(chance.p_family, random.p_family), 1.0)
    np.testing.assert_allclose(table["p_family"], expected)
    np.testing.assert_allclose(table["gain"], matrix.sum(axis=0) / 8)
    interval = mean_interval(matrix[matrix[:, 0] != 0, 0])
    assert tuple(table.loc[0, ["gain", "gain_low", "gain_high"]]) == pytest.approx(interval[:3])
    assert list(table["verdict"]) == ["rises", *["not shown"] * 4]
    assert table.loc[0, "turned_right"] == table.loc[0, "higher"] == table.loc[0, "n"] == 8
    assert table.loc[2, "p_family"] == 1


def test_a_pair_that_falls_less_than_random_sets_does_not_rise():
    own, controls = answers({("a", "b"): -0.5}), answers({("a", "b"): 0}, n_draws=25)
    table = gain_table(own, controls.assign(d_logprob=controls["d_logprob"] - 2))
    assert table.loc[0, "gain"] > 1
    assert table.loc[0, "p_family"] == 1


@pytest.mark.parametrize(("n_draws", "n_facts"), [(19, 12), (25, 4)])
def test_what_no_gain_could_show_cannot_be_shown(n_draws, n_facts):
    pair = {("a", "b"): 9.0}
    table = gain_table(answers(pair, n_facts=n_facts), answers(pair, n_draws=n_draws, n_facts=n_facts))
    assert table.loc[0, "verdict"] == "cannot be shown"
    assert np.isinf(table.loc[0, "minimum_effect"])


def test_without_controls_there_are_estimates():
    table = gain_table(answers(GAINS), answers(GAINS, n_draws=2).head(0))
    assert set(table["verdict"]) == {"cannot be shown"}
    assert table["p_family"].isna().all()
    assert table.loc[0, "gain"] == table.loc[0, "effect"]


def test_pairs_are_named_and_unknown_ones_refused():
    assert len(parse_pairs((), NAMES)) == 6
    assert parse_pairs(("a->b", "c -> a", "a->b"), NAMES) == (("a", "b"), ("c", "a"))
    for wrong, message in (("a-b", "not a pair"), ("a->a", "not a pair"), ("a->d", "'d'.*not a relation")):
        with pytest.raises(RelationNeuronsError, match=message):
            parse_pairs((wrong,), NAMES)


def test_facts_that_turned_right_and_the_largest_gains_are_listed():
    own, controls = answers(GAINS), answers(GAINS, n_draws=2)
    gains = pd.DataFrame({"ablated": ["a"], "relation": ["b"], "verdict": ["not shown"]})
    chosen = choose_gained(own, controls, gains)
    assert set(own.index[own["d_correct"] > 0]) <= set(chosen.index)
    assert len(chosen) == 20
    assert chosen["gain"].is_monotonic_decreasing
    shown = choose_gained(own.assign(d_correct=0.0), controls, gains.assign(verdict="rises"))
    assert len(shown) == 5
    assert set(shown["relation"]) == {"b"}
    row = shown.iloc[0]
    random = controls[(controls["ablated"] == "a") & (controls["fact"] == row["fact"])]
    random = random[random["template"] == row["template"]]["d_logprob"].mean()
    assert row["gain"] == pytest.approx(row["d_logprob"] - random)


@pytest.fixture(scope="module")
def study():
    planted = plant_properties()
    prompts = rn.PromptConfig(shots=0, n_evaluation=10)
    config = StudyConfig(k=GROUP, site="post", n_controls=2, validation="none", prompts=prompts, keep_critical=True)
    return Study(planted.model, planted.relations[2:5], config)


@pytest.fixture(scope="module")
def found(study):
    return inter(study, InterConfig(n_cross_controls=20, pairs=("->".join(INTERFERING),), n_mechanism_controls=2))


def test_only_named_pairs_are_asked_and_the_planted_one_is_shown(found):
    for name in ("effects", "gains", "answers"):
        table = found.tables[name]
        assert set(zip(table["ablated"], table["relation"], strict=True)) == {INTERFERING}
    assert list(found.tables["gains"]["verdict"]) == ["rises"]
    assert any("shown in 1 of 1" in sentence for sentence in found.verdict)


def test_facts_gained_have_their_answers(study, found):
    gained = found.tables["gained"]
    turned = gained[gained["turned_right"]]
    assert len(turned) == found.tables["gains"].loc[0, "turned_right"] > 0
    assert (turned["answer_after"].str.strip() == turned["object"]).all()
    assert (turned["answer_before"].str.strip() == "unknown").all()
    clean = rn.recall(study.model, [p for p in study.evaluation() if p.subject == gained["subject"].iloc[0]])
    assert clean["generated"].iloc[0] == gained["answer_before"].iloc[0]


def test_the_interfering_neurons_wrote_for_the_rival(found):
    (row,) = found.tables["mechanism"].to_dict("records")
    assert row["contribution_high"] < -1.5  # INTERFERENCE takes 2.2 logits of every object
    assert row["against"] == row["n"]
    assert abs(row["random"]) < 0.5
    assert row["change"] == pytest.approx(-row["contribution"], abs=0.2)  # nothing follows these neurons
    assert set(found.tables["gained"]["rival"].str.strip()) == {"unknown"}


def test_an_unknown_pair_is_refused(study):
    with pytest.raises(RelationNeuronsError, match="sleeps"):
        inter(study, InterConfig(pairs=("lives->sleeps",)))


def test_without_control_sets_nothing_is_shown_and_facts_are_listed(study):
    found = inter(study, InterConfig(n_cross_controls=0, n_tested=3, n_mechanism_controls=0))
    assert set(found.tables["gains"]["verdict"]) == {"cannot be shown"}
    assert len(found.tables["gained"])
    assert found.tables["mechanism"]["random"].isna().all()
    assert any("nothing can be shown" in sentence for sentence in found.verdict)
