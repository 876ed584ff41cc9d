"""Figures and shaded prompts of a single neuron."""

import html
import re

import numpy as np
import pandas as pd
import pytest

from relation_neurons.figures.single_neuron import (
    NEURON_FIGURES,
    neuron_effects_figure,
    neuron_scores_figure,
    neuron_tokens_figure,
    neuron_values_figure,
    shaded_prompts,
    visible,
)


def scores_table(n):
    table = pd.DataFrame({"relation": [f"relation_{i}" for i in range(n)], "ap": np.linspace(0.9, 0.1, n)})
    table = table.assign(ap_low=table["ap"] - 0.05, ap_high=table["ap"] + 0.02, chance=0.2, null_mean=0.21)
    table = table.assign(null_high=0.3, p_holm=np.where(table["ap"] > 0.5, 0.01, 1.0), n_positive=60, n_negative=240)
    return table.assign(n_facts=30, verdict=np.where(table["ap"] > 0.5, "above chance", "not shown"))


def named(figure):
    return {trace.name: trace for trace in figure.data}


@pytest.mark.parametrize("n", [2, 12, 47])
def test_average_precision_is_shown_with_shuffled_labels(n):
    figure = neuron_scores_figure(scores_table(n))
    traces = named(figure)
    band = traces["shuffled labels, mean to 97.5 % quantile"]
    assert len(band.y) == n
    np.testing.assert_allclose(np.array(band.base, dtype=float), 0.21)
    np.testing.assert_allclose(np.array(band.x, dtype=float) + 0.21, 0.3)
    assert list(figure.layout.yaxis.ticktext) == [f"relation_{i}" for i in reversed(range(n))]  # the best on top
    assert len(figure.layout.yaxis.tickvals) == n
    shown, rest = traces["above chance (Holm)"], traces["not significant"]
    assert len(shown.x) + len(rest.x) == n
    assert min(shown.x) > 0.5 >= max(rest.x)
    assert (max(shown.x), max(shown.y)) == (0.9, n - 1)
    np.testing.assert_allclose(np.array(shown.error_x.array, dtype=float), 0.02)
    np.testing.assert_allclose(np.array(shown.error_x.arrayminus, dtype=float), 0.05)
    best = shown.hovertext[-1]
    for part in (
        "relation_0",
        "0.900 [0.850, 0.920]",
        "n = 30 facts",
        "60 positives, 240 negatives",
        "0.300",
        "p = 0.01",
    ):
        assert part in best
    assert figure.layout.height / n >= 16


def values_table(n):
    rows = [(f"relation_{i}", f"<b>{j}</b> is?", float(i + j)) for i in range(n) for j in range(5)]
    return pd.DataFrame(rows, columns=["relation", "prompt", "value"])


@pytest.mark.parametrize("n", [3, 47])
def test_every_relation_has_its_activations_and_their_median(n):
    figure = neuron_values_figure(values_table(n))
    *boxes, medians = figure.data
    assert list(figure.layout.yaxis.ticktext) == [f"relation_{i}" for i in range(n)]
    assert [list(box.x) for box in boxes] == [[i, i + 1, i + 2, i + 3, i + 4] for i in range(n)]
    assert [set(box.y) for box in boxes] == [{i} for i in range(n)]
    assert {box.boxpoints for box in boxes} == {"outliers" if n == 47 else "all"}
    assert list(medians.x) == [i + 2 for i in range(n)]
    assert medians.hovertext[1] == "relation_1<br>median 3, quartiles 2 and 4<br>1 to 5, n = 5 prompts"
    assert boxes[0].hovertext[2] == "&lt;b&gt;2&lt;/b&gt; is?<br>2"


def tokens_table():
    promoted = [
        ("promotes", rank, rank, token, 1.0 / rank, 5.0) for rank, token in enumerate([" Paris", "<b>", "\n"], 1)
    ]
    suppressed = [("suppresses", rank, 9 + rank, token, -1.0 / rank, -4.0) for rank, token in enumerate(["x", ""], 1)]
    return pd.DataFrame(promoted + suppressed, columns=["side", "rank", "id", "token", "logit", "z"])


def test_tokens_are_ordered_from_most_promoted_to_most_suppressed():
    figure = neuron_tokens_figure(tokens_table())
    promotes, suppresses = figure.data
    labels = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
    assert [labels[place] for place in sorted(labels, reverse=True)] == ["·Paris", "&lt;b&gt;", "↵", "∅", "x"]
    assert {labels[y]: x for y, x in zip(promotes.y, promotes.x, strict=True)} == pytest.approx(
        {"·Paris": 1, "&lt;b&gt;": 0.5, "↵": 1 / 3}
    )
    assert {labels[y]: x for y, x in zip(suppresses.y, suppresses.x, strict=True)} == {"x": -1, "∅": -0.5}
    assert promotes.marker.color != suppresses.marker.color
    assert "·Paris<br>promotes, rank 1: logit +1 per unit" in promotes.hovertext[-1]
    assert "-4.0 standard deviations" in suppresses.hovertext[0]


def effects_tables():
    rows = [
        ("L1.N2", name, measure, 40, effect, effect - 0.1, effect + 0.1, 2, 0.01, 0.0, 0.02, p, p, verdict)
        for name, effect, p, verdict in (("a", -0.5, 0.01, "falls"), ("b", 0.1, 1.0, "not shown"))
        for measure in ("logprob", "correct")
    ]
    columns = ["ablated", "relation", "measure", "n", "effect", "effect_low", "effect_high", "n_controls", "random"]
    effects = pd.DataFrame(rows, columns=[*columns, "random_min", "random_max", "p_holm", "p_bh", "verdict"])
    answers = [(name, "f", draw, draw / 10, 0.0) for name in "ab" for draw in (-1, 0, 1)]
    return effects, pd.DataFrame(answers, columns=["relation", "unit", "draw", "d_logprob", "d_correct"])


@pytest.mark.parametrize("measure", ["logprob", "correct"])
def test_effects_are_shown_with_each_random_neuron(measure):
    effects, answers = effects_tables()
    figure = neuron_effects_figure(effects, answers, measure)
    traces = named(figure)
    assert list(figure.layout.yaxis.ticktext) == ["b", "a"]
    assert list(traces["decrease (Holm)"].x) == [-0.5]
    assert list(traces["not significant"].x) == [0.1]
    assert sorted(traces["each control set"].x) == ([0.0, 0.0, 0.1, 0.1] if measure == "logprob" else [0.0] * 4)
    assert figure.layout.title.text.startswith("Effects of ablating this neuron: ")
    assert "n = 40 facts" in traces["decrease (Holm)"].hovertext[0]


def top_prompts_table():
    rows = [
        ("most", 1, "r", "a <b>", 0.5, 0, "a", 2.0),
        ("most", 1, "r", "a <b>", 0.5, 1, " <b>", -1.0),
        ("least", 1, "s&t", "z\n", -0.5, 0, "z\n", 0.0),
    ]
    return pd.DataFrame(
        rows, columns=["side", "place", "relation", "prompt", "value", "position", "token", "activation"]
    )


def spans(page):
    matches = re.findall(
        r'<span title="([^"]*)" style="background:rgba\((\d+),(\d+),(\d+),([\d.]+)\)[^>]*>([^<]*)</span>', page
    )
    return [
        (title, (int(r), int(g), int(b)), float(alpha), html.unescape(text)) for title, r, g, b, alpha, text in matches
    ]


def test_shades_are_proportional_orange_above_and_blue_below_zero():
    first, second, third = spans(shaded_prompts(top_prompts_table()))
    assert (first[0], second[0], third[0]) == ("+2", "-1", "+0")
    assert first[1][0] > first[1][2]
    assert second[1][2] > second[1][0]
    assert first[2] == pytest.approx(2 * second[2], abs=0.02)
    assert third[2] == 0
    assert first[2] < 0.7  # text is readable on it
    assert [first[3], second[3], third[3]] == ["a", "·<b>", "z↵"]


def test_text_is_escaped_and_sides_have_headings():
    page = shaded_prompts(top_prompts_table())
    assert "<b>" not in page
    assert "s&amp;t, mean activation -0.5" in page
    assert page.index("Most activating prompts") < page.index("Least activating prompts")
    assert "color:" not in page.replace("background", "")  # the page's own, light or dark


def test_no_prompts_and_zero_activations_are_shown():
    assert "Strongest shade: 0" in shaded_prompts(top_prompts_table().iloc[:0])
    inactive = top_prompts_table().assign(activation=0.0)
    assert {span[2] for span in spans(shaded_prompts(inactive))} == {0.0}


def test_spaces_are_visible():
    assert visible(" a\tb\n") == "·a→b↵"
    assert visible("") == "∅"


def test_empty_tables_give_a_note():
    for make, tables in ((neuron_scores_figure, scores_table(2)), (neuron_values_figure, values_table(2))):
        assert make(tables.iloc[:0]).layout.annotations[0].text == "no data"
    assert (
        neuron_tokens_figure(tokens_table().iloc[:0]).layout.annotations[0].text
        == "this neuron has no output weights of its own"
    )
    assert set(NEURON_FIGURES) == {"scores", "values", "tokens", "effects_logprob", "effects_accuracy"}
