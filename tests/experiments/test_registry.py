"""Studies and experiments by name and profile."""

import dataclasses

import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.experiments import answer_cache, answer_jobs, registry, session
from relation_neurons.experiments.intra_relation import IntraConfig, intra
from relation_neurons.experiments.k_sweep import SweepConfig
from relation_neurons.statistics.power import CONTROLS_NEEDED, Design
from tests.planted import planted_config

CHANGES = {"site": "post", "k": 6, "rule": "string", "prompts": rn.PromptConfig(n_evaluation=6, n_detection=12)}


@pytest.fixture
def opened(planted_folder):
    def make(**changes):
        return rn.open_study(
            str(planted_folder / "model"),
            [planted_folder],
            profile="smoke",
            show=answer_cache.quiet,
            **CHANGES | changes,
        )

    return make


def test_an_opened_study_is_one_made_by_hand(opened, planted):
    config = rn.StudyConfig(n_controls=2, validation="none", **CHANGES)
    relations = sorted(planted.relations, key=lambda relation: relation.name)  # as files of a folder are
    by_hand = intra(rn.Study(planted.model, relations, config), IntraConfig(n_detection_tested=0))
    found = rn.run_experiment(opened(), "intra", "smoke")
    pd.testing.assert_frame_equal(found.table, by_hand.table)


def test_relations_may_be_given_themselves(opened, planted, planted_folder):
    study = rn.open_study(
        str(planted_folder / "model"), planted.relations, profile="smoke", show=answer_cache.quiet, **CHANGES
    )
    assert study.names == tuple(relation.name for relation in planted.relations)
    assert study.config.relations == study.names
    with pytest.raises(rn.RelationNeuronsError, match="requested twice"):
        rn.open_study(str(planted_folder / "model"), [planted_folder, planted.relations[0]])


def test_answers_are_kept_in_a_folder_for_each_question(opened, tmp_path, monkeypatch):
    first = rn.run_experiment(opened(folder=tmp_path), "intra", "smoke")
    other = opened(folder=tmp_path, seed=1)
    rn.run_experiment(other, "intra", "smoke")
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(answer_jobs, "recall_under", lambda *a, **k: pytest.fail("asked again"))
    again = rn.run_experiment(opened(folder=tmp_path), "intra", "smoke")
    pd.testing.assert_frame_equal(again.table, first.table)


@pytest.mark.parametrize("name", [*registry.EXPERIMENTS, *registry.BESIDE])
def test_every_experiment_has_options_in_every_profile(name):
    full, demo, smoke = (registry.options(name, profile) for profile in ("full", "demo", "smoke"))
    assert type(full) is type(demo) is type(smoke) is registry.find_experiment(name).config
    assert full == registry.find_experiment(name).config()


@pytest.mark.parametrize("name", [*registry.EXPERIMENTS, *registry.BESIDE])
def test_the_full_profile_has_enough_control_sets_for_a_verdict(name):
    full = dataclasses.asdict(registry.options(name))
    numbers = [
        number for field, number in full.items() if field.endswith("_controls") and field != "n_mechanism_controls"
    ]
    assert all((number or registry.STUDIES["full"].n_controls) >= CONTROLS_NEEDED for number in numbers)


def test_profiles_ask_more_and_more():
    smoke, demo, full = (registry.study_config(name) for name in ("smoke", "demo", "full"))
    assert smoke.n_controls < demo.n_controls < full.n_controls
    assert smoke.prompts.n_evaluation < demo.prompts.n_evaluation < full.prompts.n_evaluation
    assert full == rn.StudyConfig()
    assert registry.study_config("demo", k=7) == dataclasses.replace(demo, k=7)


def test_options_can_be_changed_by_name(opened):
    ks = (2, 6)
    found = rn.run_experiment(opened(), "sweep", "smoke", ks=ks, scale=False)
    assert tuple(sorted(found.table["k"].unique())) == ks
    assert registry.options("sweep", "smoke") == SweepConfig(ks=registry.SMOKE_KS, n_sweep_controls=2, n_other=1)


def test_unknown_names_are_refused():
    with pytest.raises(rn.RelationNeuronsError, match=r"'swep' is not an experiment.*did you mean 'sweep'"):
        registry.options("swep")
    with pytest.raises(rn.RelationNeuronsError, match=r"'fulll' is not a profile.*did you mean 'full'"):
        registry.options("sweep", "fulll")


def test_a_bar_in_a_notebook_leaves_nothing(monkeypatch):
    IPython = pytest.importorskip("IPython.display")
    from relation_neurons import progress

    shown = []

    class Handle:
        def update(self, what):
            shown.append(what.data)

    monkeypatch.setattr(IPython, "display", lambda what, display_id: Handle())
    monkeypatch.setattr(progress.time, "monotonic", iter(range(10)).__next__)
    with progress._notebook_bar("a < b", 3) as advance:
        advance(2)
    assert "2/3" in shown[0]
    assert "a &lt; b" in shown[0]
    assert shown[-1] == ""


@pytest.mark.parametrize(
    ("read_by", "attributed"),
    [
        ({}, False),
        ({"scorers": ("auroc",)}, False),
        ({"scorers": ("attribution_t",)}, True),
        ({"cards": True}, True),
    ],
)
def test_memory_is_estimated_for_the_attributions_that_any_scorer_or_card_reads(
    planted_folder, monkeypatch, read_by, attributed
):
    asked = []

    def stop(*_, **options):
        asked.append(options["attributed"])
        raise rn.RelationNeuronsError("enough")

    monkeypatch.setattr(session, "estimate", stop)
    with pytest.raises(rn.RelationNeuronsError, match="enough"):
        session.prepare(planted_config(rn.StudyConfig, 8, planted_folder), **read_by)
    assert asked == [attributed]


@pytest.mark.parametrize(
    ("name", "controls", "n_groups"),
    [
        ("languages", "n_language_controls", 6),
        ("templates", "n_template_controls", 4),
        ("neuron-types", "n_type_controls", 6),
    ],
)
def test_four_relations_together_can_be_shown_to_change_in_the_demo(name, controls, n_groups):
    n_controls = getattr(registry.options(name, "demo"), controls)
    assert Design(n_groups, 100, n_controls, 4).can_show
    assert not Design(n_groups, 100, n_controls - 1, 4).can_show
