"""Necessity and sufficiency on the planted model, against plain hooks of TransformerLens."""

import dataclasses
import html
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.experiments import answer_cache, induction, runner
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.faithfulness import FaithfulnessConfig, faithfulness, grid
from relation_neurons.experiments.reference_values import reference_values
from relation_neurons.experiments.study import Study
from relation_neurons.models.hooked_model import hook_name
from relation_neurons.prompts.tokenization import encode
from relation_neurons.results.experiment_result import read_result
from tests.planted import D_MLP, N_LAYERS, plant_critical, planted_config

K = 6
FEW = FaithfulnessConfig(
    scorers=("average_precision",), ks=(), shares=(0.1, 0.5, 1.0), n_circuit_controls=20, n_induction_controls=20
)


def study_of(planted, n_evaluation=8, **changes):
    changes = {"rule": "prefix", "keep_critical": True} | changes
    return Study(planted.model, planted.relations, planted_config(rn.StudyConfig, n_evaluation, k=K, **changes))


@pytest.fixture(scope="module")
def study(planted):
    return study_of(planted)


@pytest.fixture(scope="module")
def found(study):
    return faithfulness(study, FEW)


@pytest.fixture(scope="module")
def detection(study):
    """Activations on the detection prompts, and the relation of each."""
    prompts = study.detection()
    values = rn.collect_activations(study.model, prompts).values.double().numpy()
    return values, np.array([prompt.relation for prompt in prompts])


def flat(neurons):
    return {neuron.layer * D_MLP + neuron.index for neuron in neurons}


def logits_with(model, ids, written, values):
    """The logits of one sequence with some neurons, by their number in the model, written at every position."""

    def write(layer):
        columns = [number - layer * D_MLP for number in sorted(written) if number // D_MLP == layer]
        numbers = torch.tensor(values[[layer * D_MLP + column for column in columns]], dtype=torch.float32)

        def hook(activation, hook):
            activation[:, :, columns] = numbers
            return activation

        return hook

    hooks = [(hook_name(model, "post", layer), write(layer)) for layer in range(N_LAYERS)]
    with torch.no_grad():
        return model.run_with_hooks(torch.tensor([ids]), fwd_hooks=hooks)[0]


def mean_logprob(model, prompts, written, values):
    total = 0.0
    for one in encode(model, prompts):
        logprobs = logits_with(model, [*one.ids, *one.object_ids], written, values).log_softmax(dim=-1)
        end = len(one.ids) - 1
        total += sum(float(logprobs[end + step, token]) for step, token in enumerate(one.object_ids))
    return total / len(prompts)


@pytest.mark.parametrize("k", [K, 128])
def test_curves_equal_a_loop_that_writes_means_by_hooks(study, found, detection, k):
    values, owner = detection
    off, prompts = values[owner != "eats"].mean(axis=0), study.evaluation("eats")
    everything, target = set(range(N_LAYERS * D_MLP)), flat(study.target("eats", k))
    row = found.table.query(f"relation == 'eats' and k == {k}").iloc[0]
    written = {"clean": set(), "none": everything, "kept": everything - target, "ablated": target}
    expected = {name: mean_logprob(study.model, prompts, numbers, off) for name, numbers in written.items()}
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, abs=1e-4), name
    way = expected["clean"] - expected["none"]
    assert row["faithfulness"] == pytest.approx((expected["kept"] - expected["none"]) / way, abs=1e-4)
    assert row["completeness"] == pytest.approx((expected["ablated"] - expected["none"]) / way, abs=1e-4)


def test_planted_neurons_restore_what_they_carry_and_random_ones_nothing(study, found):
    at_k = found.table[found.table["k"] == K]
    assert (at_k["faithfulness_low"] > 0.5).all()  # the object is one of four, which subjects' neurons would tell
    assert (at_k["random_faithfulness"].abs() < 0.05).all()
    assert (at_k["completeness_high"] < 0.9).all()
    assert (at_k["random_completeness"] > 0.99).all()
    assert set(found.tables["kept"]["verdict"]) == {"rises"}
    assert set(found.tables["ablated"]["verdict"]) == {"falls"}
    assert "average_precision 3 of 3" in found.verdict[0]
    assert "average_precision 3 of 3" in found.verdict[1]


def test_the_whole_circuit_is_faithful_and_complete(study, planted):
    """By construction relations' neurons raise ranges, subjects' neurons objects, and no others count."""
    off, prompts = reference_values(study).off["eats"], study.evaluation("eats")
    subjects = [
        rn.Neuron("post", layer, index)
        for layer, llama in enumerate(planted.llama.model.layers)
        for index in llama.mlp.down_proj.weight.abs().amax(dim=0).gt(0.1).nonzero()[:, 0].tolist()
    ]
    relations = [neuron for neurons in planted.neurons.values() for neuron in neurons]
    circuit = rn.NeuronSet((*relations, *subjects), "circuit")
    places = [(layer, index) for layer in range(N_LAYERS) for index in range(D_MLP)]
    everything = rn.NeuronSet.from_pairs(places)
    states = {"kept": everything - circuit, "ablated": circuit, "none": everything}
    cases = [Case(neurons, prompts, {"state": state}, value=off) for state, neurons in states.items()]
    means = study.changes(cases).groupby("state")["d_logprob"].mean()
    assert means["none"] < -3
    assert means["kept"] / means["none"] == pytest.approx(0, abs=0.02)
    assert means["ablated"] / means["none"] == pytest.approx(1, abs=0.02)


def test_all_neurons_kept_are_the_clean_model_and_all_ablated_are_none(found):
    rows = found.table[found.table["share"] == 1]
    assert len(rows) == 3
    np.testing.assert_allclose(rows["faithfulness"], 1, atol=1e-6)
    np.testing.assert_allclose(rows["completeness"], 0, atol=1e-6)
    np.testing.assert_allclose(rows["random_faithfulness_min"], 1, atol=1e-6)
    assert (rows["clean"] - rows["none"] > 3).all()


def test_areas_are_trapezoids_over_the_shares(found):
    for row in found.tables["areas"].to_dict("records"):
        curve = found.table[(found.table["relation"] == row["relation"]) & found.table["in_area"]]
        assert list(curve["k"]) == [25, 128, 256]
        x, y = curve["share"].to_numpy(), curve["faithfulness"].to_numpy()
        assert row["cpr"] == pytest.approx(sum((x[i + 1] - x[i]) * (y[i] + y[i + 1]) / 2 for i in range(2)))
        distance = abs(1 - y)
        assert row["cmd"] == pytest.approx(
            sum((x[i + 1] - x[i]) * (distance[i] + distance[i + 1]) / 2 for i in range(2))
        )
        assert row["cpr_low"] < row["cpr"] < row["cpr_high"]
        assert row["random_cpr_max"] < row["cpr_low"]
    average = found.tables["average_areas"].iloc[0]
    assert average["cpr"] == pytest.approx(found.tables["areas"]["cpr"].mean())
    assert (average["n"], average["n_undefined"]) == (3, 0)


def test_controls_are_nested_and_match_at_every_k(study):
    whole = study.ranking(depth=256).top("eats", 256)
    for control in study.controls(whole, n=2, disjoint=False):
        assert set(control) == set(whole)
        for k in (2, 25, 128):
            assert [(one.site, one.layer) for one in control.part(0, k)] == [
                (one.site, one.layer) for one in whole.part(0, k)
            ]
        assert control.part(0, 25).overlap(whole.part(0, 25)) < 15


def test_where_nothing_is_lost_ratios_are_nan_and_the_verdict_says_so(study, monkeypatch):
    """A model that all neurons at their means do not hurt: here they are written as they are."""
    values = SimpleNamespace(off=dict.fromkeys(study.names, rn.Scale(1.0)), on=reference_values(study).on)
    monkeypatch.setattr("relation_neurons.experiments.faithfulness.reference_values", lambda study: values)
    config = dataclasses.replace(FEW, n_circuit_controls=2, n_induction_controls=2, n_asked=1)
    unhurt = faithfulness(study, config)
    assert unhurt.table[["faithfulness", "completeness", "random_faithfulness"]].isna().all(axis=None)
    assert unhurt.tables["areas"][["cpr", "cmd"]].isna().all(axis=None)
    assert list(unhurt.tables["average_areas"]["n_undefined"]) == [3]
    assert "no relation loses more than chance over its n = 8 facts allows" in unhurt.verdict[2]


def test_critical_neurons_are_ablated_when_others_are_kept(planted):
    critical, neuron = plant_critical(planted, "eats")
    study = study_of(critical, 4, keep_critical=False)
    sizes = grid(study, FEW)
    assert sizes["k"].max() == 255
    assert sizes["share"].max() == 1
    config = dataclasses.replace(FEW, shares=(0.5, 1.0), n_circuit_controls=2, n_induction_controls=2, n_asked=1)
    row = faithfulness(study, config).table.query("relation == 'eats' and share == 1").iloc[0]
    off = reference_values(study).off["eats"]
    prompts = study.evaluation("eats")
    with rn.ablate(critical.model, rn.NeuronSet((neuron,), "critical"), value=off):
        assert row["kept"] == pytest.approx(rn.recall(critical.model, prompts, generate=False)["logprob"].mean())
    assert abs(row["kept"] - row["clean"]) > 0.005


def test_induction_equals_a_loop_that_writes_medians_by_hooks(study, found, detection):
    values, owner = detection
    on, target = np.median(values[owner == "lives"], axis=0), flat(study.target("lives"))
    control = flat(study.controls(study.target("lives"), n=20)[3])
    words = {name: [f"{name}{number}" for number in range(4)] for name in study.names}
    ids = {name: study.model.tokenizer.convert_tokens_to_ids(words[name]) for name in study.names}

    def log_odds(written):
        changes = []
        for one in encode(study.model, study.evaluation("plays")):
            odds = []
            for numbers in (written, set()):
                p = logits_with(study.model, one.ids, numbers, on)[-1].softmax(dim=0)
                odds.append(float((p[ids["lives"]].sum() / p[ids["plays"]].sum()).log()))
            changes.append(odds[0] - odds[1])
        return np.mean(changes)

    row = found.tables["pairs"].query("induced == 'lives' and asked == 'plays'").iloc[0]
    assert row["effect"] == pytest.approx(log_odds(target), abs=1e-3)
    assert row["n"] == 8
    assert row["n_controls"] == 20
    assert row["random_min"] - 1e-3 <= log_odds(control) <= row["random_max"] + 1e-3


def test_planted_neurons_move_answers_into_their_range_and_controls_do_not(found):
    assert set(found.tables["induction"]["verdict"]) == {"rises"}
    assert (found.tables["induction"]["effect_low"] > 5).all()
    assert (found.tables["induction"]["random"].abs() < 1).all()
    assert (found.tables["induction"]["n"] == 16).all()
    assert set(found.tables["pairs"]["verdict"]) == {"rises"}
    ranges = found.tables["ranges"]
    assert ranges[["clean", "own"]].to_numpy().tolist() == [[0, 1]] * 3
    assert (ranges["random"] < 0.1).all()
    stem = found.tables["stem"]
    assert (stem["effect"] > 5).all()
    assert (stem["random_max"] < 0.5).all()


def test_relations_with_the_same_objects_are_no_pair(planted):
    objects = planted.relations[0].facts
    same = dataclasses.replace(planted.relations[0], name="dwells", facts=objects)
    study = Study(
        planted.model,
        (planted.relations[0], same),
        planted_config(rn.StudyConfig, 4, rule="prefix", keep_critical=True),
    )
    on = reference_values(study).on
    tables = induction.induction(study, on, ("average_precision",), n_controls=2, n_asked=1)
    assert all(table.empty for table in tables.values())


def test_the_command_writes_tables_figures_and_a_report_and_resumes(planted_folder, tmp_path, monkeypatch):
    config = planted_config(rn.StudyConfig, 4, planted_folder, rule="prefix", keep_critical=True)
    options = dataclasses.replace(FEW, shares=(0.1, 1.0), n_circuit_controls=2, n_induction_controls=2, n_asked=1)

    def run():
        (result,) = runner.reproduce(["faithfulness"], config, tmp_path / "run", options={"faithfulness": options})
        return result

    first = run()
    assert {path.stem for path in (tmp_path / "run" / "faithfulness").glob("*.html")} == {"curves", "induction"}
    read = read_result(tmp_path / "run", "faithfulness")
    assert (read.verdict, set(read.tables)) == (first.verdict, set(first.tables))
    assert first.question in html.unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    for place in ("experiments.answer_jobs.recall_under", "experiments.detection.collect_activations"):
        monkeypatch.setattr(f"relation_neurons.{place}", lambda *a, **k: pytest.fail("read again"))
    monkeypatch.setattr(induction, "first_token_log_odds", lambda *a, **k: pytest.fail("read again"))
    again = run()
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scorers": ("aurok",)}, "'aurok' is not a scorer.*did you mean 'auroc'"),
        ({"scorers": ()}, "no scorer"),
        ({"shares": (0.5,)}, "at least two different shares"),
        ({"shares": (0.0, 0.5)}, "above 0 and up to 1"),
        ({"shares": (0.5, 1.5)}, "above 0 and up to 1"),
        ({"ks": (0,)}, "ks is"),
        ({"n_circuit_controls": 1}, "n_circuit_controls is 1"),
    ],
)
def test_bad_options_are_refused(changes, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        FaithfulnessConfig(**changes)


def test_sizes_that_the_model_does_not_have_are_refused(study):
    with pytest.raises(rn.RelationNeuronsError, match="numbers up to 256"):
        grid(study, dataclasses.replace(FEW, ks=(257,), scale=False))
    with pytest.raises(rn.RelationNeuronsError, match="at least two different ones"):
        grid(study, dataclasses.replace(FEW, shares=(0.001, 0.004)))


def test_a_state_is_what_is_written(study):
    neurons = rn.NeuronSet.from_pairs([(1, 2), (0, 3)])
    states = {
        answer_cache._state(rn.Intervention(neurons, value, positions))
        for value in (
            rn.Zero(),
            rn.Constant(0.25),
            rn.Constant(0.5),
            rn.Scale(0.5),
            reference_values(study).off["eats"],
        )
        for positions in ("all", "last")
    }
    assert len(states) == 10
    off = [reference_values(study).off[name] for name in ("eats", "lives")]
    assert len({answer_cache._state(rn.Intervention(neurons, value)) for value in off}) == 2


def test_a_state_does_not_depend_on_order_or_on_the_kind_of_value():
    def state(pairs, value):
        return answer_cache._state(rn.Intervention(rn.NeuronSet.from_pairs(pairs), value))

    assert state([(1, 2), (0, 3)], rn.Constant(0.5)) == state([(0, 3), (1, 2)], rn.Constant(0.5))
    read = rn.Activations(torch.full((1, 256), 0.5), (rn.Prompt("r", "s", "o", "t"),), reference_space())
    assert state([(1, 2), (0, 3)], rn.Mean.over(read)) == state([(1, 2), (0, 3)], rn.Constant(0.5))


def reference_space():
    from relation_neurons.models.sites import NeuronSpace

    return NeuronSpace("planted", N_LAYERS, (("post", D_MLP),))


def test_ablations_have_the_states_of_older_folders():
    two, gate = rn.NeuronSet.from_pairs([(1, 2), (0, 3)]), rn.NeuronSet.from_pairs([(0, 3)], site="gate")
    assert answer_cache._state(None) == "clean"
    assert answer_cache._state(Case(two, (), {}).intervention) == "7896b42aaafa3752"
    assert answer_cache._state(Case(gate, (), {}).intervention) == "7840291e1f618a35"


def test_too_large_a_k_is_refused_before_circuits_are_answered(planted, monkeypatch):
    study = Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 2, k=200, keep_critical=True))
    monkeypatch.setattr("relation_neurons.experiments.faithfulness._answers", lambda *a: pytest.fail("answered"))
    with pytest.raises(rn.RelationNeuronsError, match=r"neurons to draw from.*lower k"):
        faithfulness(study, FEW)
