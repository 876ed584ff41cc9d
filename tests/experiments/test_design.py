"""The pilot sees detection facts only; the cheapest design that suffices is chosen and kept, or refused."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.experiments import answer_cache, answer_jobs, design, runner
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.cumulativity import CumulativityConfig
from relation_neurons.experiments.design import DesignConfig, plan
from relation_neurons.experiments.design_choice import Family, cheapest, choose, up_to
from relation_neurons.experiments.inter_relation import InterConfig, inter
from relation_neurons.experiments.intra_relation import IntraConfig, intra
from relation_neurons.experiments.k_sweep import SweepConfig
from relation_neurons.experiments.pilot import measured_spreads
from relation_neurons.experiments.related_pairs import related_pairs
from relation_neurons.experiments.study import Study
from relation_neurons.statistics.hypothesis_tests import POWER
from relation_neurons.statistics.simulation import Spread, power
from tests.planted import planted_config
from tests.planted_properties import GROUP, plant_nothing

KS = (1, 3, 6)
OPTIONS = {
    "intra": IntraConfig(n_detection_tested=0),
    "inter": InterConfig(),
    "sweep": SweepConfig(ks=KS, scale=False, n_other=1),
    "cumulativity": CumulativityConfig(ks=KS, scale=False, n_slices=2),
}
AUTO = DesignConfig("auto", effect=4.0, n_pilot_facts=6, n_pilot_controls=3)


@pytest.fixture
def study(planted):
    config = replace(planted_config(StudyConfig, 14), rule="prefix")
    return Study(planted.model, planted.relations, config)


@pytest.fixture
def asked(monkeypatch):
    """Every prompt that the model is really asked, with the state of the model."""
    prompts = []

    def recording(model, conditions, **options):
        prompts.extend((condition.name, prompt) for condition in conditions for prompt in condition.prompts)
        return rn.recall_under(model, conditions, **options)

    monkeypatch.setattr(answer_jobs, "recall_under", recording)
    return prompts


def test_the_pilot_asks_detection_facts_only_and_its_answers_are_kept(study, asked):
    found = plan(study, OPTIONS, AUTO)
    evaluation = {prompt.unit for prompt in study.evaluation()}
    assert {prompt.unit for _, prompt in asked}.isdisjoint(evaluation)
    assert {prompt for _, prompt in asked} <= set(study.prompts().detection)
    assert len({prompt.unit for _, prompt in asked if prompt.relation == "eats"}) == 6
    assert list(found.table["experiment"]) == list(OPTIONS)
    n_asked = len(asked)
    plan(study, OPTIONS, replace(AUTO, effect=5.0))
    assert len(asked) == n_asked


@pytest.mark.full
def test_the_design_that_was_chosen_is_the_one_that_runs_and_costs_no_more_than_said(study, asked):
    found = plan(study, OPTIONS, AUTO)
    rows = found.table.set_index("experiment")
    asked.clear()
    for name, row in rows.iterrows():
        sized, option = found.apply(study, name, OPTIONS[name])
        sized.stops, sized.answers = None, answer_cache.AnswerCache(study.model)
        asked.clear()
        result = runner.registry.find_experiment(name).run(sized, option)
        assert 0.7 * row["n_answers"] < len(asked) <= row["n_answers"], name
        table = {"sweep": "trend", "cumulativity": "synergy"}.get(name, "effects")
        effects = result.tables[table].query("measure == 'logprob'")
        assert len(effects) == row["n_tests"]
        assert set(effects["n"]) == {row["n_facts"]}
        assert set(effects["n_controls"]) == {row["n_controls"]}


def family(n_tests, spread):
    return Family("f", n_tests, spread, lambda n: n, lambda facts, controls: facts * (2 + controls) * n_tests)


@pytest.mark.parametrize(
    ("n_tests", "spread", "effect"),
    [(4, Spread(1.0, 1.0, 0.2), 1.0), (12, Spread(0.5, 0.5, 0.4, 0.3), 1.6), (6, Spread(2.0, 1.0, 0.1), 1.5)],
)
def test_the_choice_is_the_cheapest_that_suffices_by_brute_force(n_tests, spread, effect):
    facts, controls, one = (10, 15, 22, 33, 50), (20, 30, 60, 100), family(n_tests, spread)
    enough = [
        (one.n_answers(*size), size)
        for size in itertools.product(facts, controls)
        if power(one.size(*size), spread, effect) >= POWER
    ]
    assert 0 < len(enough) < len(facts) * len(controls)  # else any choice would do
    found = cheapest(one, effect, facts, controls)
    assert (found.n_answers, (found.n_facts, found.n_controls)) == min(enough)
    assert found.power >= POWER


def test_where_nothing_suffices_the_largest_design_of_the_best_family_says_what_it_shows():
    wide, narrow = family(12, Spread(1.0, 1.0, 0.5)), family(4, Spread(1.0, 1.0, 0.5))
    assert cheapest(narrow, 0.01, (10, 20), (20, 30)) is None
    found = choose([wide, narrow], 0.01, 20, 30)
    assert (found.family, found.n_facts, found.n_controls) == (narrow, 20, 30)
    assert found.power < POWER <= power(found.family.size(20, 30), found.family.spread, found.least_effect)
    assert up_to((1, 2, 3), 2) == [1, 2]
    assert up_to((1, 2, 3), 9) == [1, 2, 3, 9]


def test_too_small_an_effect_is_refused_and_the_one_that_is_named_is_accepted(study):
    small, options = replace(AUTO, effect=1e-3, most_controls=25), {"intra": OPTIONS["intra"], "inter": InterConfig()}
    with pytest.raises(rn.RelationNeuronsError, match=r"No design shows 0\.001 nats") as error:
        plan(study, options, small)
    assert "with all 14 facts and 25 control sets" in str(error.value)
    named = float(re.search(r"--effect ([\d.]+),", str(error.value))[1])
    assert (plan(study, options, replace(small, effect=named)).table["power"] >= POWER).all()
    with pytest.raises(rn.RelationNeuronsError, match="effect is -1"):
        DesignConfig("auto", effect=-1.0)
    with pytest.raises(rn.RelationNeuronsError, match="most_controls is 10"):
        DesignConfig("auto", most_controls=10)


def test_a_resumed_run_keeps_its_design_and_pilots_no_more(planted_folder, tmp_path, monkeypatch, capsys):
    config = planted_config(StudyConfig, 12, planted_folder)
    config, options = replace(config, rule="prefix", keep_critical=True), {"intra": OPTIONS["intra"]}
    first = runner.reproduce(["intra"], config, tmp_path, options=options, design=AUTO)
    assert "are shown with power" in re.sub(r"\s+", " ", capsys.readouterr().err)
    kept = pd.read_parquet(tmp_path / "design.parquet")
    for module, name in ((design, "run_pilot"), (design, "choose"), (answer_jobs, "recall_under")):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("measured again"))
    again = runner.reproduce(["intra"], config, tmp_path, options=options, design=AUTO)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "design.parquet"), kept)
    pd.testing.assert_frame_equal(again[0].table, first[0].table)
    assert set(first[0].table["n"]) == set(kept["n_facts"])


def test_experiments_without_a_design_of_their_own_take_that_of_own_facts(study):
    found = plan(study, {"templates": runner.registry.options("templates")}, AUTO)
    assert list(found.table["experiment"]) == ["intra"]
    sized, option = found.apply(study, "templates", runner.registry.options("templates"))
    row = found.table.iloc[0]
    assert (sized.config.n_controls, option.n_template_controls, sized.n_tested) == (
        *[row["n_controls"]] * 2,
        row["n_facts"],
    )
    assert len({prompt.unit for prompt in sized.evaluation("eats")}) == row["n_facts"]
    assert study.n_tested is None


def test_early_stopping_says_so_and_gives_the_verdicts_of_all_control_sets():
    planted = plant_nothing(0, common=0.3)
    prompts = rn.PromptConfig(shots=0, n_evaluation=10)
    config = StudyConfig(k=GROUP, site="post", n_controls=20, validation="none", prompts=prompts)
    whole = Study(planted.model, planted.relations[:3], config)
    early = whole.sized(10, 20)
    tables = [intra(one, OPTIONS["intra"]).table for one in (whole, early)]
    assert early.stops
    assert re.fullmatch(r"Stopped after (5|10) of 20 control sets: .*", early.stops[0])
    assert tables[0]["verdict"].tolist() == tables[1]["verdict"].tolist()
    assert tables[1]["n_controls"].max() < 20 == tables[0]["n_controls"].min()
    assert np.isnan(tables[1]["minimum_effect"]).all()


def test_spreads_on_evaluation_facts_are_those_of_the_compared_effects(study):
    sized = study.sized(14, 8)
    own = intra(study.sized(14, 8), OPTIONS["intra"]).table.query("measure == 'logprob'")
    found = measured_spreads(sized, {"intra": OPTIONS["intra"]}).iloc[0]
    seen = np.sqrt(np.median(own["random_sd"] ** 2) * 7 / 6.3458)  # the median of chi-square with 7 degrees
    most_less = found["control"] ** 2 / own["n"].median()  # residuals below a thousandth of a nat are rounded up
    least = np.sqrt(max(seen**2 - most_less, 0.1 * seen**2))
    assert least * 0.999 <= found["set"] <= seen * 1.001


def test_related_pairs_share_subjects_objects_or_the_first_word_of_their_names():
    def relation(name, subjects, objects):
        return rn.Relation(name, templates=("{} is",), templates_zs=(), facts=tuple(map(rn.Fact, subjects, objects)))

    relations = [
        relation("person_father", "abcde", "fghij"),
        relation("person_mother", "klmno", "pqrst"),
        relation("city_of", "uvwxy", "12345"),
        relation("lies_in", "zäöüß", "54399"),
        relation("plain", "ёжий+", "67888"),
    ]
    one_way = {("person_father", "person_mother"), ("city_of", "lies_in")}
    assert set(related_pairs(relations)) == {f"{a}->{b}" for a, b in one_way} | {f"{b}->{a}" for a, b in one_way}


def test_only_named_pairs_are_asked_and_tested(study, asked):
    found = inter(study, InterConfig(n_cross_controls=2, pairs=("eats->plays", "lives->eats"))).table
    assert set(zip(found["ablated"], found["relation"], strict=True)) == {("eats", "plays"), ("lives", "eats")}
    assert {prompt.relation for label, prompt in asked if label != "clean"} == {"plays", "eats"}
    for pair in ("eats->eats", "eats", "eats->drinks"):
        with pytest.raises(rn.RelationNeuronsError, match=f"'{pair}'"):
            inter(study, InterConfig(pairs=(pair,)))
