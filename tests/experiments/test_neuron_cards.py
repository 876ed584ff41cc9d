"""Cards, made together, against what `single_neuron`, `attribute` and `ablate` find for one neuron at a time."""

import copy
import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.activations.collection import token_activations
from relation_neurons.activations.neuron_tokens import neuron_tokens
from relation_neurons.attribution.cache import Attribute
from relation_neurons.cli import main
from relation_neurons.cli import neuron as neuron_module
from relation_neurons.cli.report import rebuild
from relation_neurons.experiments import neuron_cards as cards_module
from relation_neurons.experiments.neuron_card_effects import AblateAlone, fact_intervals
from relation_neurons.experiments.neuron_cards import CardsConfig, neuron_cards, one_card
from relation_neurons.experiments.registry import RUN_OPTIONS
from relation_neurons.experiments.runner import reproduce
from relation_neurons.experiments.single_neuron import SingleNeuronConfig, single_neuron
from relation_neurons.experiments.study import Study
from relation_neurons.explorer.finished_run import excluded_neurons, finished_run, reopen, stored_config
from relation_neurons.inference.units import InProcess
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.report.card_nodes import card_node, to_html
from relation_neurons.results.neuron_cards import TABLES, NeuronCards, read_cards
from tests.helpers import word_prompts
from tests.planted import planted_config

SMALL = CardsConfig(n_cards=2, n_scattered=4, n_facts=4, n_prompts_shown=3, n_tokens_shown=6)
NEURONS = [rn.Neuron("post", 1, 47), rn.Neuron("gate", 0, 3), rn.Neuron("q", 2, 30), rn.Neuron("gate", 0, 5)]


@pytest.fixture(scope="module")
def study(planted):
    return Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 8, n_controls=3))


@pytest.fixture(scope="module")
def chosen(study):
    return {name: study.target(name) for name in study.names}


@pytest.fixture(scope="module")
def tables(study, chosen):
    return neuron_cards(study, chosen, SMALL)


@pytest.fixture(scope="module")
def finished(planted_folder, tmp_path_factory):
    """A run of the planted model with cards."""
    out = tmp_path_factory.mktemp("cards") / "run"
    config = planted_config(rn.StudyConfig, 10, planted_folder, n_controls=2)
    reproduce(["intra"], config, out, options=RUN_OPTIONS, cards=SMALL)
    return out, config


def test_cards_run_the_model_where_the_pool_has_it(planted, chosen, tables, tmp_path, monkeypatch):
    elsewhere = InProcess(copy.deepcopy(planted.model))
    config = planted_config(rn.StudyConfig, 8, n_controls=3)
    here = Study(planted.model, planted.relations, config, pool=elsewhere)
    here.keep_in(tmp_path / "run")
    monkeypatch.setattr(planted.model, "forward", lambda *_, **__: pytest.fail("the model was run in the driver"))
    found = neuron_cards(here, chosen, SMALL)
    assert elsewhere.n_units >= len(chosen)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(found[name], table)


def test_cards_that_are_stopped_keep_what_was_read_and_ablated(planted, chosen, tables, tmp_path, monkeypatch):
    study = Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 8, n_controls=3))
    study.keep_in(tmp_path / "run")
    with monkeypatch.context() as stopped:
        stopped.setattr(cards_module, "_described", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception, match="stopped"):
            neuron_cards(study, chosen, SMALL)
    resumed = Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 8, n_controls=3))
    resumed.keep_in(tmp_path / "run")
    monkeypatch.setattr(AblateAlone, "__call__", lambda *_: pytest.fail("ablated again"))
    monkeypatch.setattr(Attribute, "__call__", lambda *_: pytest.fail("attributed again"))
    for name, table in neuron_cards(resumed, chosen, SMALL).items():
        pd.testing.assert_frame_equal(table, tables[name])


@pytest.mark.parametrize("include_bos", [True, False])
def test_many_neurons_in_one_pass_equal_each_in_its_own(tiny, include_bos):
    prompts, told = word_prompts(9, examples=True), []
    found = neuron_tokens(
        tiny, prompts, NEURONS[:2], NEURONS[2:], include_bos=include_bos, batch_size=4, progress=told.append
    )
    assert sum(told) == 9
    assert found.has_bos == include_bos
    for column, neuron in enumerate(NEURONS):
        alone = token_activations(tiny, prompts, neuron, include_bos=include_bos, batch_size=3)
        for row, values in enumerate(alone):
            torch.testing.assert_close(found.means[row, column], values.mean(), atol=1e-5, rtol=1e-5)
            if column < 2:
                torch.testing.assert_close(found.tokens[row][:, column], values, atol=1e-5, rtol=1e-5)
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())


def test_neurons_that_a_model_lacks_are_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match=r"no neuron post:L3\.N0"):
        neuron_tokens(tiny, word_prompts(2, examples=False), [rn.Neuron("post", 3, 0)])
    with pytest.raises(rn.RelationNeuronsError, match="2 prompts and 0 neurons"):
        neuron_tokens(tiny, word_prompts(2, examples=False), [])


def test_a_card_says_what_single_neuron_says(study, chosen, tables):
    neuron = chosen["eats"].neurons[1]
    options = SingleNeuronConfig(n_prompts_shown=3, n_tokens_shown=6, n_resamples=200, n_shuffles=199)
    alone = single_neuron(study, neuron, options).tables
    card = NeuronCards(tables, {}).card(str(neuron))
    together, expected = card.scores.sort_values("relation"), alone["scores"].sort_values("relation")
    for column in ("ap", "ap_low", "ap_high", "null_high", "p_holm", "n_facts"):
        np.testing.assert_allclose(together[column], expected[column], atol=1e-6)
    assert card.tokens["token"].tolist() == alone["tokens"]["token"].tolist()
    top = alone["top_prompts"][alone["top_prompts"]["side"] == "most"]
    assert card.prompts["token"].tolist() == top["token"].tolist()
    np.testing.assert_allclose(card.prompts["activation"], top["activation"], atol=1e-5)


def test_attributed_effects_are_means_of_attribute(study, chosen, tables):
    prompts = study.detection()
    found = rn.attribute(study.model, prompts, site="post")
    rows = tables["attributed"].set_index(["neuron", "relation"])
    for neuron in chosen["lives"].neurons[:4]:
        column = found.space.flatten([neuron])[0]
        layer = next(place for _, number, place in found.space.slices() if number == neuron.layer)
        for name in study.names:
            own = [row for row, one in enumerate(prompts) if one.relation == name]
            row = rows.loc[(str(neuron), name)]
            assert row["effect"] == pytest.approx(-found.values[own, column].mean().item(), abs=1e-6)
            all_of_layer = -found.values[own][:, layer].mean(dim=0).numpy()
            assert row["layer_mean"] == pytest.approx(all_of_layer.mean(), abs=1e-6)
            assert row["layer_low"] <= np.median(all_of_layer) <= row["layer_high"]
            assert row["effect_low"] <= row["effect"] <= row["effect_high"]


def test_intervals_are_those_of_resampled_facts():
    values = np.random.default_rng(0).normal(size=(12, 3))
    units = [f"fact {number // 2}" for number in range(12)]  # two prompts of each fact
    found = fact_intervals(values, units, seed=3)
    facts = values.reshape(6, 2, 3).mean(axis=1)
    counts = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=1000)
    for column in range(3):
        means = [np.average(facts[:, column], weights=row) for row in counts]
        assert found["effect"][column] == pytest.approx(facts[:, column].mean())
        assert [found["effect_low"][column], found["effect_high"][column]] == pytest.approx(
            np.quantile(means, [0.025, 0.975]).tolist()
        )
    assert set(found["n"]) == {6}
    assert fact_intervals(values[:2], units[:2])["effect_low"].isna().all()


def test_measured_effects_are_those_of_ablating_by_hand(study, chosen, tables):
    effects = tables["effects"].set_index(["neuron", "relation"])
    for name, neurons in chosen.items():
        prompts = first_facts(study.evaluation(name), SMALL.n_facts)
        clean = rn.recall(study.model, prompts)["logprob"]
        for neuron in neurons.neurons[: SMALL.n_cards]:
            with rn.ablate(study.model, rn.NeuronSet((neuron,))):
                changed = rn.recall(study.model, prompts)["logprob"]
            row = effects.loc[(str(neuron), name)]
            assert row["effect"] == pytest.approx((changed - clean).mean(), abs=1e-4)
            assert (row["n"], row["n_random"]) == (SMALL.n_facts, SMALL.n_random)
            assert row["random_min"] <= row["random"] <= row["random_max"]
            assert row["effect"] < row["random_min"]  # they carry the relation


def test_chosen_neurons_stand_beside_as_many_random_ones_of_their_layers(chosen, tables):
    rows = tables["neurons"]
    for name, neurons in chosen.items():
        own, random = (rows[(rows["relation"] == name) & (rows["kind"] == kind)] for kind in ("chosen", "random"))
        assert own["neuron"].tolist() == list(map(str, neurons.neurons[:4]))
        assert own["score"].tolist() == list(neurons.scores[:4])
        assert own["layer"].tolist() == random["layer"].tolist()
        assert not {*random["neuron"]} & {*map(str, neurons)}
        assert own["effect"].max() < random["effect"].min()
        assert own["ap"].min() > random["ap"].mean()
        assert random["score"].isna().all()


def test_a_neuron_without_a_card_gets_the_same_card_alone(study, chosen, tables):
    known, neuron = NeuronCards(tables, {}), chosen["eats"].neurons[0]
    alone = one_card(study, neuron, ["eats"], known, SMALL)
    together = known.card(str(neuron))
    pd.testing.assert_frame_equal(alone.scores, together.scores, atol=1e-5)
    pd.testing.assert_frame_equal(alone.tokens.drop(columns="neuron"), together.tokens.drop(columns="neuron"))
    assert alone.effects["effect"][0] == pytest.approx(together.effects["effect"][0], abs=1e-5)
    with pytest.raises(rn.RelationNeuronsError, match=r"L0\.N127 has no card"):
        known.card("L0.N127")


def test_a_run_keeps_its_cards_and_makes_them_once(finished, monkeypatch):
    out, config = finished
    cards = read_cards(out)
    assert cards.about["n_cards"] == 2
    assert len(cards.names) == 6
    listed = set(json.loads((out / "manifest.json").read_text(encoding="utf-8")))
    assert {"cards.html", "cards/about.json", *(f"cards/{name}.parquet" for name in TABLES)} <= listed
    monkeypatch.setattr(cards_module, "neuron_cards", lambda *a, **k: pytest.fail("made again"))
    reproduce(["intra"], config, out, options=RUN_OPTIONS, cards=SMALL)


@pytest.mark.full
def test_a_damaged_table_of_cards_is_made_anew(finished, tmp_path):
    out, config = finished
    copy = shutil.copytree(out, tmp_path / "run")
    before = (copy / "cards/scores.parquet").read_bytes()
    (copy / "cards/scores.parquet").write_bytes(before[:-9])
    with pytest.warns(UserWarning, match=r"scores\.parquet is damaged"):
        reproduce(["intra"], config, copy, options=RUN_OPTIONS, cards=SMALL)
    assert (copy / "cards/scores.parquet").read_bytes() == before


def test_cards_of_another_format_are_none(finished, tmp_path):
    out, _ = finished
    copy = shutil.copytree(out, tmp_path / "run")
    assert read_cards(tmp_path) is None
    for text in ("{", "[]", '{"format": 99}'):
        (copy / "cards/about.json").write_text(text, encoding="utf-8")
        assert read_cards(copy) is None


def test_the_report_links_to_the_page_of_cards_and_both_are_rebuilt(finished, tmp_path):
    out, _ = finished
    copy = shutil.copytree(out, tmp_path / "run")
    page = (copy / "cards.html").read_bytes()
    (copy / "cards.html").unlink()
    report = rebuild(copy)
    assert (copy / "cards.html").read_bytes() == page
    assert 'href="cards.html"' in report.read_text(encoding="utf-8")
    text = page.decode()
    cards = read_cards(out)
    for name in cards.names:
        assert f'id="{name.replace(":", "-")}"' in text
        assert str(to_html(card_node(cards.card(name)))) in text
    assert "http" not in text.replace("http-equiv", "")


def test_texts_on_cards_are_escaped(tables):
    card = NeuronCards(tables, {}).card(tables["scores"]["neuron"].iloc[0])
    bad = dataclasses.replace(card, prompts=card.prompts.assign(token="<b>&"), tokens=card.tokens.assign(token="<i>"))
    text = str(to_html(card_node(bad)))
    assert "&lt;b&gt;&amp;" in text
    assert "<i>" not in text
    assert "<b>&" not in text


def test_the_command_shows_a_card_without_a_model(finished, monkeypatch, capsys):
    out, _ = finished
    cards = read_cards(out)
    name, relation = cards.names[0], cards.tables["neurons"]["relation"].iloc[0]
    monkeypatch.setattr(neuron_module, "prepare", lambda *a, **k: pytest.fail("a model is loaded"))
    ablated = f"Ablated alone. {relation}: the log-probability"
    for words in (
        [name, "--run", str(out)],
        ["--run", str(out), name],
        [name, "--run", str(out), "--n-shuffles", "99"],
    ):
        monkeypatch.setattr("sys.argv", ["relation-neurons", "neuron", *words])
        main.main()
        printed = " ".join(capsys.readouterr().out.split())
        for part in (f"{name}: {relation}: rank 1", ablated, "n = 4 facts", "cards.html#"):
            assert part in printed


def test_a_card_is_printed_without_pytorch(finished):
    out, _ = finished
    name = read_cards(out).names[0]
    code = "import sys; from relation_neurons.cli.main import main; main(); print(sorted({*sys.modules} & {'torch'}))"
    words = [sys.executable, "-c", code, "neuron", name, "--run", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_command_analyses_other_neurons_with_the_settings_of_the_run(finished, monkeypatch, capsys):
    out, config = finished
    asked = []
    result = dataclasses.make_dataclass("R", [("verdict", tuple)])(())
    monkeypatch.setattr(neuron_module, "look_at", lambda *given: asked.append(given) or (result, out))
    monkeypatch.setattr(neuron_module, "_printed", lambda result: [])
    monkeypatch.setattr("sys.argv", ["relation-neurons", "neuron", "L0.N127", "--run", str(out)])
    main.main()
    assert asked[0][:3] == (rn.Neuron("post", 0, 127), config, out)
    monkeypatch.setattr("sys.argv", ["relation-neurons", "neuron", "L0.N127", "--run", str(out), "--seed", "3"])
    with pytest.raises(SystemExit):
        main.main()
    assert "beside --run" in capsys.readouterr().err


def test_a_finished_run_is_taken_up_as_it_was(finished):
    out, config = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    run = finished_run(out)
    assert stored_config(run) == config
    study = reopen(run)
    assert study.key["tokens"] == run.key["tokens"]
    assert [study.target(name) for name in study.names] == list(run.neurons().values())
    assert excluded_neurons(run) == study.critical.excluded("post")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def change_key(out, **changes):
    key = json.loads((out / "run.json").read_text(encoding="utf-8"))
    (out / "run.json").write_text(json.dumps(key | changes), encoding="utf-8")
    return key


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda out: shutil.rmtree(out), "There is no folder"),
        (lambda out: (out / "run.json").unlink(), "is not a run folder: it has no run.json"),
        (lambda out: change_key(out, format=1), "another version of relation_neurons"),
        (lambda out: change_key(out, config={"speed": 3, "prompts": {}}), "options of another version"),
        (lambda out: (out / "manifest.json").write_text("{}", encoding="utf-8"), "has no neurons yet"),
        (lambda out: change_key(out, relations={"eats": "0"}), r"relations of .* no longer what they were \(eats, "),
        (lambda out: change_key(out, tokens="0"), "tokens of .* no longer what they were"),
    ],
)
def test_what_cannot_be_taken_up_is_refused(finished, tmp_path, spoil, says):
    copy = shutil.copytree(finished[0], tmp_path / "run")
    spoil(copy)
    with pytest.raises(rn.RelationNeuronsError, match=says):
        reopen(finished_run(copy))


def test_a_model_or_relations_that_are_gone_are_named(finished, tmp_path):
    copy = shutil.copytree(finished[0], tmp_path / "run")
    config = json.loads((copy / "run.json").read_text(encoding="utf-8"))["config"]
    change_key(copy, config=config | {"model": str(tmp_path / "gone")})
    with pytest.raises(rn.RelationNeuronsError, match="gone"):
        reopen(finished_run(copy))
    change_key(copy, config=config | {"relations": [str(tmp_path / "facts")]})
    with pytest.raises(rn.RelationNeuronsError, match="facts"):
        reopen(finished_run(copy))


def test_neurons_of_the_report_link_to_their_cards(finished, browser):
    out, _ = finished
    page = browser.new_page()
    page.goto((out / "report.html").as_uri())
    table = page.locator("#neurons-table-neurons")
    table.scroll_into_view_if_needed()
    table.locator("tbody tr").first.wait_for()
    if table.locator(".dt-length select").count():
        table.locator(".dt-length select").select_option("-1")
    names = read_cards(out).names
    assert set(table.locator("tbody a").all_inner_texts()) == set(names)
    assert table.locator("tbody tr").count() > len(names)
    table.get_by_role("link", name=names[1], exact=True).first.click()
    card = page.locator(f"details[id='{names[1].replace(':', '-')}']")
    card.locator(".card").wait_for()
    assert page.url.endswith(f"/cards.html#{names[1].replace(':', '-')}")
    page.close()
