"""Notebooks carry no output, define nothing, run as they are, and show the numbers that the API gives."""

import re
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import transformers

import relation_neurons as rn
from relation_neurons.cli import notebook_runner
from relation_neurons.experiments import answer_cache
from relation_neurons.prompts.prompts import first_facts
from tests.helpers import full_only

PARAMETERS = {"model", "relations", "site", "k", "seed", "profile", "folder"}
NOTEBOOKS = notebook_runner.notebook_paths()
SMOKE = {**notebook_runner.SMOKE, "profile": "smoke", "seed": 0}
PLANTED = (
    "00_quickstart",
    "01_cumulativity",
    "02_versatility",
    "03_interference",
    "06_neurons_up_close",
    "07_causal_neurons",
)
"""Executed on the planted model; the others on a small random one with the embedded model's tokenizer, for they need
real relations; with `--full` all are executed on the embedded one."""
EXECUTED = ("00_quickstart",)
"""The others are executed with `--full` only."""


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_all_notebooks():
    assert [name[:2] for name in NOTEBOOKS] == ["00", "01", "02", "03", "04", "05", "06", "07"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_clean(name):
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    code = code_cells(notebook)
    assert len(code) <= 15
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert not any(word in cell.source for cell in code for word in ("def ", "lambda", "sys.path"))
    assert NOTEBOOKS[name].stat().st_size < 20_000
    (parameters,) = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert set(re.findall(r"^(\w+) = ", parameters.source, re.M)) >= PARAMETERS
    assert 'model = "smollm2-135m"' in parameters.source


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_tells_a_reader_what_it_asks_and_what_it_does_not_say(name):
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    words = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    first, last = words[0], words[-1]
    assert f"/notebooks/{name}.ipynb)" in first
    assert "?" in notebook_runner.notebook_title(NOTEBOOKS[name]) or name == "05_your_own_relations"
    assert len(first.split("\n\n")) == 3  # badge and question, and two paragraphs
    assert last.startswith("## What the numbers say, and what they do not")
    links = re.findall(r"\]\((\d\d_\w+)\.ipynb\)", "\n".join(words))
    assert set(links) <= set(NOTEBOOKS)


@pytest.fixture(scope="module")
def open_study():
    """The smoke profile's study of a model, made by the API; all experiments share its answers."""
    studies = {}

    def open_once(model="smollm2-135m", **changes):
        if model not in studies:
            studies[model] = rn.open_study(model, **SMOKE | changes, show=answer_cache.quiet)
        return studies[model]

    return open_once


@pytest.fixture(scope="module")
def small_model(embedded, tmp_path_factory):
    """A folder with a small random Llama that has the embedded model's tokenizer."""
    folder, tokenizer = tmp_path_factory.mktemp("small") / "model", embedded.tokenizer
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def changes(planted_folder, small_model, full):
    """Parameters of each notebook that are to be others than the smoke profile's."""
    planted = {"model": str(planted_folder / "model"), "relations": [str(planted_folder)], "site": "post", "k": 12}
    small = {"model": small_model, "relations": SMOKE["relations"][:2], "k": 40}
    return {name: {} if full else planted if name in PLANTED else small for name in NOTEBOOKS}


def effect_of(study, asked, neurons):
    """A mean change of a relation's log-probability, see `effect_on`."""
    return effect_on(study, study.evaluation(asked), neurons)


def effect_on(study, prompts, neurons):
    """A mean change of log-probability by the plain calls, without a study's bookkeeping."""
    before = rn.recall(study.model, prompts)["logprob"]
    with rn.ablate(study.model, neurons):
        after = rn.recall(study.model, prompts)["logprob"]
    return (after - before).mean()


def quickstart(study, shown):
    detection = study.detection()
    activations = rn.collect_activations(study.model, detection, site=study.config.site)
    labels, mask = rn.contrast(detection, seed=0)
    scores, ties = (f(activations.values, labels, mask) for f in (rn.average_precision, rn.by_effect_size))
    neurons = rn.top_k(scores, study.k, activations.space, study.names, ties)
    own = shown[shown["measure"] == "logprob"].set_index("ablated")["effect"]
    for name in study.names:
        assert own[name] == pytest.approx(effect_of(study, name, neurons[name]), abs=1e-4)


def cumulativity(study, shown):
    steps = rn.run_experiment(study, "cumulativity", "smoke").tables["steps"]
    same(shown, steps[steps["relation"] == "all"])


def versatility(study, shown):
    for row in shown.itertuples():
        one, other = study.target(row.first), study.target(row.second)
        assert row.count_as_negatives == len(set(one.neurons) & set(other.neurons))
    same(shown, rn.run_experiment(study, "overlap", "smoke").tables["pairs"])


def interference(study, shown):
    effects = rn.run_experiment(study, "inter", "smoke").table
    assert (shown["effect"] > 0).all()
    same(shown, effects[effects["effect"] > 0].sort_values("p_holm", kind="stable"))


def languages(study, shown):
    same(shown, rn.run_experiment(study, "languages", "smoke").tables["by_language"])


def your_own_relations(study, shown):
    cells = code_cells(nbformat.read(NOTEBOOKS["05_your_own_relations"], as_version=4))
    (data,) = [cell.source for cell in cells if "symbols = " in cell.source]
    names = {}
    exec(data, names)
    own = rn.relation_from_frame(names["frame"], name="element_symbol", templates=names["templates"])
    mine = rn.Study(study.model, [own, *study.relations], study.config)
    effect = effect_of(mine, own.name, mine.target(own.name))
    row = shown[shown["measure"] == "logprob"].iloc[0]
    assert (row["ablated"], row["n"]) == ("element_symbol", 6)
    assert row["effect"] == pytest.approx(effect, abs=1e-4)


def neurons_up_close(study, shown):
    (neuron,) = shown["ablated"].unique()
    few = [prompt for prompt in study.detection() if prompt.relation == study.names[0]][:8]
    costs = []
    for one in study.target(study.names[0], min(20, study.k)):
        costs.append((effect_on(study, few, rn.NeuronSet((one,), "alone")), str(one)))
    assert neuron == min(costs)[1]
    chosen = rn.NeuronSet((rn.Neuron.parse(neuron),), "alone")
    own = shown[shown["measure"] == "logprob"].set_index("relation")["effect"]
    for name in study.names:
        assert own[name] == pytest.approx(effect_of(study, name, chosen), abs=1e-4)


def causal_neurons(study, shown):
    asked = {name: first_facts(study.evaluation(name), 2) for name in study.names}
    found = shown[shown["measure"] == "logprob"].set_index("scorer")
    for scorer in ("average_precision", "attribution_t"):
        own, lost = [0.0], [0.0]
        for k in (study.k // 8, study.k // 4, study.k // 2, study.k):
            sets = {name: study.target(name, k, replace(study.selection, scorer=scorer)) for name in study.names}
            own.append(np.mean([effect_of(study, name, neurons) for name, neurons in sets.items()]))
            others = [
                effect_on(study, [one for name in study.names if name != mine for one in asked[name]], neurons)
                for mine, neurons in sets.items()
            ]
            lost.append(-np.mean(others))
        beyond = next((place for place, one in enumerate(lost) if one >= 0.1), None)
        assert found.loc[scorer, "reached"] == (beyond is not None)
        ends = slice(-1, None) if beyond is None else slice(beyond - 1, beyond + 1)
        expected = np.interp(0.1, lost[ends], own[ends])
        assert found.loc[scorer, "own"] == pytest.approx(expected, abs=1e-3)


def same(shown, table):
    """The table shown is that of the API, up to what JSON loses."""
    expected = table[list(shown.columns.intersection(table.columns))].reset_index(drop=True)
    assert len(expected) > 0
    pd.testing.assert_frame_equal(shown[expected.columns], expected, check_dtype=False, rtol=1e-4, atol=1e-4)


CHECKS = {
    "00_quickstart": quickstart,
    "01_cumulativity": cumulativity,
    "02_versatility": versatility,
    "03_interference": interference,
    "04_languages": languages,
    "05_your_own_relations": your_own_relations,
    "06_neurons_up_close": neurons_up_close,
    "07_causal_neurons": causal_neurons,
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Where notebooks are executed; they share the model's answers, as those of one command do."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.parametrize("name", [*EXECUTED, *full_only(*(name for name in NOTEBOOKS if name not in EXECUTED))])
def test_a_notebook_runs_and_shows_what_the_api_gives(name, open_study, changes, out, tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    table = tmp_path / "headline.json"
    notebook.cells.append(
        nbformat.v4.new_code_cell(f"headline.to_json({str(table)!r}, orient='split', double_precision=15)")
    )
    asking_for_it = tmp_path / f"{name}.ipynb"
    nbformat.write(notebook, asking_for_it)
    monkeypatch.setattr(notebook_runner, "notebook_paths", lambda: {name: asking_for_it})
    (outcome,) = notebook_runner.run_notebooks([name], out, profile="smoke", **changes[name])
    assert outcome.error == ""
    executed = nbformat.read(outcome.path, as_version=4)
    said = [one for cell in code_cells(executed) for one in cell.outputs if one.get("name") == "stderr"]
    assert not said
    CHECKS[name](open_study(**changes[name]), pd.read_json(table, orient="split", precise_float=True))
