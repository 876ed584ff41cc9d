"""What the figures of languages, templates, neuron types, errors and perplexity draw."""

import pandas as pd
import pytest

from relation_neurons.evaluation.answers import ERROR_KINDS
from relation_neurons.experiments.error_analysis import STATES as ERROR_STATES
from relation_neurons.figures import error_analysis, transfer
from relation_neurons.figures.error_analysis import error_kinds_figure
from relation_neurons.figures.transfer import (
    ALL,
    drops_figure,
    languages_figure,
    neuron_types_figure,
    perplexity_figure,
    templates_figure,
)


def effects_of(cells, columns, **more):
    """Effects -1, -2, ... in nats and a tenth of it in accuracy; the odd ones are shown."""
    rows = []
    for number, cell in enumerate(cells, start=1):
        for measure, scale in (("logprob", 1.0), ("correct", 0.1)):
            row = dict(zip(columns, cell, strict=True)) | more
            row |= {"measure": measure, "n": 40 + number, "clean": 0.9, "n_controls": 3, "random": 0.01, "p_holm": 0.02}
            row |= {
                "effect": -scale * number,
                "effect_low": -scale * (number + 0.5),
                "effect_high": scale * (1 - number),
            }
            rows.append(row | {"verdict": "falls" if number % 2 else "not shown"})
    return pd.DataFrame(rows)


@pytest.fixture
def spoken():
    cells = [("b", "en"), ("b", "de"), ("a", "en"), ("a", "ja")]
    columns = ["ablated", "language"]
    return effects_of(cells, columns), effects_of([("all", "en"), ("all", "de"), ("all", "ja")], columns)


@pytest.mark.parametrize(("measure", "scale"), [("logprob", 1.0), ("correct", 0.1)])
def test_languages_form_a_matrix_with_all_relations_first(spoken, measure, scale):
    figure = languages_figure(*spoken, measure)
    (matrix,) = figure.data
    assert list(matrix.y) == [ALL, "b", "a"]
    assert list(matrix.x) == ["en", "de", "ja"]
    drawn = pd.DataFrame(matrix.z, index=matrix.y, columns=matrix.x) / scale
    expected = {("b", "en"): -1, ("b", "de"): -2, ("a", "en"): -3, ("a", "ja"): -4, (ALL, "de"): -2, (ALL, "ja"): -3}
    assert {place: drawn.loc[place] for place in expected} == pytest.approx(expected)
    assert pd.isna(drawn.loc["b", "ja"])
    assert matrix.zmin == -matrix.zmax
    said = pd.DataFrame(matrix.text, index=matrix.y, columns=matrix.x)
    assert said.loc["b", "en"] == f"{-scale:.2f}*"
    assert said.loc["b", "de"] == f"{-2 * scale:.2f}"
    assert said.loc["b", "ja"] == ""
    hover = pd.DataFrame(matrix.customdata, index=matrix.y, columns=matrix.x).loc["a", "ja"]
    assert "n = 44 facts" in hover
    assert f"[{-4.5 * scale:+.3f}, {-3 * scale:+.3f}]" in hover
    assert "3 random controls: mean" in hover


def test_sites_are_labelled_with_their_k():
    columns = ["ablated", "site"]
    effects = effects_of([("a", "ffn"), ("a", "gate")], columns, k=3000)
    effects.loc[effects["site"] == "gate", "k"] = 12
    figure = neuron_types_figure(effects, effects_of([("all", "ffn"), ("all", "gate")], columns, k=3000))
    assert list(figure.layout.xaxis.ticktext) == ["ffn<br>k = 3,000", "gate<br>k = 12"]
    assert figure.data[0].z[1].tolist() == [-1, -2]


def test_drops_show_values_before_and_after_ablation(spoken):
    line, before, after, random = drops_figure(spoken[1], "language", "correct").data
    assert list(before.y) == ["en", "de", "ja"]
    assert list(before.x) == [0.9] * 3
    assert list(after.x) == pytest.approx([0.8, 0.7, 0.6])
    assert list(random.x) == pytest.approx([0.91] * 3)
    assert list(after.error_x.arrayminus) == pytest.approx([0.05] * 3)
    assert list(after.error_x.array) == pytest.approx([0.1] * 3)
    assert line.x[:3] == (0.9, pytest.approx(0.8), None)


def test_templates_have_a_panel_per_evaluation_set():
    cells = [(detected, evaluated) for detected in ("main", "zs") for evaluated in ("main", "zs")]
    columns = ["ablated", "detected", "tested"]
    effects = effects_of([("a", *cell) for cell in cells] + [("b", *cell) for cell in cells], columns)
    figure = templates_figure(effects, effects_of([("all", *cell) for cell in cells], columns))
    assert list(figure.layout.yaxis.ticktext) == [ALL, "a", "b"]
    drawn = {(trace.name, trace.xaxis): list(trace.x) for trace in figure.data if trace.name.startswith("detected")}
    assert drawn == {
        ("detected with main", "x"): [-1, -1, -5],
        ("detected with main", "x2"): [-2, -2, -6],
        ("detected with zs", "x"): [-3, -3, -7],
        ("detected with zs", "x2"): [-4, -4, -8],
    }
    assert "evaluated with main" in figure.layout.xaxis.title.text
    assert "evaluated with zs" in figure.layout.xaxis2.title.text
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(shown) == ["detected with main", "detected with zs", "random controls (mean)"]
    places = [
        place for trace in figure.data if trace.name.startswith("detected") and trace.xaxis == "x" for place in trace.y
    ]
    assert len(set(places)) == len(places)


def test_kinds_of_answers_are_stacked_to_one():
    shares = {"right": 0.5, "the": 0.3, "other": 0.2}
    table = pd.DataFrame(
        [
            (name, state, kind, int(10 * shares.get(kind, 0)), 10, shares.get(kind, 0.0), 0.1, 0.9)
            for name in ("a", "b")
            for state in ERROR_STATES
            for kind in ERROR_KINDS
        ],
        columns=["relation", "state", "kind", "count", "n", "share", "share_low", "share_high"],
    )
    figure = error_kinds_figure(table)
    assert figure.layout.barmode == "stack"
    assert len(figure.data) == 3 * len(ERROR_KINDS)
    for axis in ("x", "x2", "x3"):
        assert sum(trace.x[1] for trace in figure.data if trace.xaxis == axis) == pytest.approx(1)
    assert {trace.name for trace in figure.data if trace.showlegend} == set(shares)
    assert len({trace.marker.color for trace in figure.data}) == len(ERROR_KINDS)
    assert {trace.name: list(trace.x) for trace in figure.data}["the"] == [0.3, 0.3]


def test_kinds_and_states_match_those_of_the_experiment():
    assert error_analysis.KINDS == ERROR_KINDS
    assert tuple(transfer.STATES) == ERROR_STATES


def test_perplexities_are_shown_with_every_control_set():
    perplexity = pd.DataFrame(
        {"ablated": ["a", "b"], "n": 50, "clean": [20.0, 30.0], "own": [22.0, 29.0], "random": [20.5, 30.0]}
        | {"effect": [0.1, -0.03], "effect_low": [0.05, -0.1], "effect_high": [0.2, 0.04]}
        | {"verdict": ["rises", "not shown"]}
    )
    states = pd.DataFrame(
        {"ablated": ["a", "a", "b", "a"], "state": ["clean", "random", "random", "own"]}
        | {"perplexity": [20.0, 20.5, 30.0, 22.0], "effect": [0.0, 0.02, 0.001, 0.1]}
    )
    figure = perplexity_figure(perplexity, states)
    _, random, own = figure.data
    labels = ["a 20.0 → 22.0 *", "b 30.0 → 29.0"]
    assert list(own.y) == labels
    assert list(own.x) == [0.1, -0.03]
    assert list(own.error_x.array) == pytest.approx([0.1, 0.07])
    assert (list(random.x), list(random.y)) == ([0.02, 0.001], labels)
    assert "n = 50 sentences" in own.customdata[0]


def test_empty_tables_give_a_note():
    nothing = pd.DataFrame()
    for figure in (
        languages_figure(nothing, nothing),
        neuron_types_figure(nothing, nothing),
        templates_figure(nothing, nothing),
        drops_figure(nothing, "language"),
        perplexity_figure(nothing, nothing),
    ):
        assert not figure.data
        assert figure.layout.annotations[0].text == "no data"


@pytest.mark.parametrize("n", [3, 47])
def test_rows_have_space_for_their_names(n):
    cells = [(f"r{number}", "en") for number in range(n)]
    columns = ["ablated", "language"]
    figure = languages_figure(effects_of(cells, columns), effects_of([("all", "en")], columns))
    assert figure.layout.height / (n + 1) > 20
    assert len(figure.data[0].y) == n + 1
