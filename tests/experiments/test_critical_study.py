"""A study of a model with a critical neuron: neither a target nor a control has it, unless the user allows it."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.evaluation.critical_neurons import candidates
from relation_neurons.experiments import critical_screen
from relation_neurons.experiments.neuron_types import NeuronTypesConfig, neuron_types
from relation_neurons.experiments.single_neuron import single_neuron
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.neurons.controls import random_sets
from relation_neurons.neurons.ranking import rank_neurons
from tests.planted import plant_critical, planted_config

K = 7  # one more than the relation's own neurons; the critical neuron reads the relation too


@pytest.fixture(scope="module")
def critical(planted):
    return plant_critical(planted, "eats")


@pytest.fixture(scope="module")
def folder(critical, planted_folder, tmp_path_factory):
    """The critical model and its relations as files."""
    path = tmp_path_factory.mktemp("critical")
    critical[0].llama.save_pretrained(path / "model")
    critical[0].tokenizer.save_pretrained(path / "model")
    for file in planted_folder.glob("*.json"):
        (path / file.name).write_bytes(file.read_bytes())
    return path


@pytest.fixture(scope="module")
def activations(critical):
    prompts = rn.make_prompts(critical[0].relations, rn.PromptConfig(shots=0, n_evaluation=10))
    return rn.collect_activations(critical[0].model, prompts.detection)


def study_of(planted, **changes):
    return rn.Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 10, k=K, **changes))


@pytest.mark.parametrize("match", ["layer", "activation", "none"])
def test_no_target_and_no_control_has_a_critical_neuron(critical, match):
    planted, neuron = critical
    study, keeping = (study_of(planted, match=match, keep_critical=keep) for keep in (False, True))
    assert neuron in keeping.target("eats").neurons
    for name in study.names:
        assert neuron not in study.ranking().best[name].neurons
        drawn = {one for control in study.controls(study.target(name), n=300) for one in control}
        assert neuron not in drawn
    if match != "activation":  # its activation is like no other's
        drawn = {one for control in keeping.controls(keeping.target("plays"), n=300) for one in control}
        assert neuron in drawn


def test_leaving_neurons_out_keeps_the_order_of_the_others(critical, activations):
    neuron, n = critical[1], len(activations.space)
    every, some = (rank_neurons(activations, depth=n, exclude=out) for out in ((), (neuron,)))
    for name, neurons in every.best.items():
        assert [one for one in neurons if one != neuron] == list(some.best[name])
    np.testing.assert_array_equal(every.activity, some.activity)
    pd.testing.assert_series_equal(every.counts["share_perfect"], some.counts["share_perfect"])


def test_random_sets_leave_out_what_they_should(critical):
    space = neuron_space(critical[0].model, "post")
    target = rn.NeuronSet.from_pairs([(0, index) for index in range(120)])
    allowed = [rn.Neuron("post", 1, index) for index in range(120)]
    exclude = [rn.Neuron("post", layer, index) for layer in (0, 1) for index in range(120, 128)]
    for control in random_sets(target, space, n=3, exclude=exclude):
        assert sorted(control) == allowed


def test_the_screen_runs_once_for_a_model_and_a_site(critical, tmp_path, monkeypatch):
    sites = []

    def counting(model, site, **options):
        sites.append(site)
        return candidates(model, site, **options)

    monkeypatch.setattr(critical_screen, "candidates", counting)
    for _ in range(2):
        study = study_of(critical[0], site="ffn")
        study.keep_in(tmp_path / "study")
        table = study.critical.at("ffn")
        study.ranking()
        study.subset(study.relations[:2]).ranking()
        assert set(study.critical.excluded("gate")) <= set(study.critical.excluded("ffn"))
    assert sites == ["gate", "up", "down"]
    pd.testing.assert_frame_equal(table, rn.critical_neurons(critical[0].model, "ffn"), check_dtype=False, atol=1e-4)


def test_a_study_that_keeps_them_is_another_study(critical):
    keys = [study_of(critical[0], keep_critical=keep).key["config"] for keep in (False, True)]
    assert [key["keep_critical"] for key in keys] == [False, True]


def test_every_site_of_neuron_types_leaves_out_its_own(critical):
    planted, neuron = critical
    sites = ("gate", "down")
    study = study_of(planted)
    result = neuron_types(study, NeuronTypesConfig(sites=sites, site_k=3, n_type_controls=2))
    assert sorted(result.tables["critical"]["site"]) == ["down", "gate", "post"]
    assert "3 neurons of these sites are critical (in no target and no control set)" in result.verdict[-1]
    for site in sites:
        selection = dataclasses.replace(study.selection, site=site)
        left_out = rn.Neuron(site, 1, neuron.index if site == "gate" else 95)
        ranking = study.ranking(selection)
        assert ranking.excluded == (left_out,)
        assert all(left_out not in neurons.neurons for neurons in ranking.best.values())


def test_a_critical_neuron_may_be_looked_at_by_name(critical):
    planted, neuron = critical
    result = single_neuron(study_of(planted), neuron)
    effect = result.tables["effects"].query("measure == 'logprob'")["effect"]
    assert (effect < -5).all()
    assert re.fullmatch(r"L1.N\d+ is critical: ablating it alone costs \d+\.\d nats .*", result.verdict[-1])
    assert "critical" not in " ".join(single_neuron(study_of(planted), rn.Neuron("post", 0, 0)).verdict)


@pytest.mark.full
def test_the_command_line_lists_critical_neurons(folder, critical, tmp_path, capsys, monkeypatch):
    neuron = critical[1]

    def run(out, *more):
        arguments = ["run", "--model", str(folder / "model"), "--relations", str(folder), "--k", str(K)]
        arguments += [
            "--scorer",
            "average_precision",
            "--site",
            "post",
            "--n-controls",
            "2",
            "--shots",
            "0",
            "--n-evaluation",
            "8",
            "--device",
            "cpu",
        ]
        monkeypatch.setattr("sys.argv", ["relation-neurons", *arguments, "--out", str(out), *more])
        main.main()
        return re.sub(r"\s+", " ", capsys.readouterr().out)

    without, kept = tmp_path / "without", tmp_path / "kept"
    said = "1 neuron of post is critical (in no target and no control set)"
    assert said in run(without)
    assert "may be in targets and control sets" in run(kept, "--keep-critical")
    for out, present in ((without, False), (kept, True)):
        table = pd.read_parquet(out / "critical.parquet")
        assert table[["site", "layer", "index"]].to_numpy().tolist() == [["post", 1, neuron.index]]
        assert (neuron in rn.open_run(out).neurons()["eats"].neurons) == present
        assert json.loads((out / "run.json").read_text(encoding="utf-8"))["config"]["keep_critical"] == present
    for page in ("verdicts.md", "report.html", "summary/verdict.md"):
        assert said in (without / page).read_text(encoding="utf-8")


def test_a_run_without_any_says_so(planted, planted_folder, tmp_path):
    config = planted_config(rn.StudyConfig, 6, planted_folder)
    rn.experiments.runner.reproduce(["summary"], config, tmp_path / "run")
    assert len(pd.read_parquet(tmp_path / "run" / "critical.parquet")) == 0
    assert "No neuron of post is critical" in (tmp_path / "run" / "summary" / "verdict.md").read_text(encoding="utf-8")
