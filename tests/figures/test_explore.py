"""Interactive figures: dose slider, answer flows, bars by language and pairs of scores."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from relation_neurons import RelationNeuronsError, figures
from relation_neurons.figures import (
    answer_flows_figure,
    dose_slider_figure,
    language_bars_figure,
    score_pair_figure,
    style,
)

NAMES = ("alpha", "beta", "gamma")
KS = (10, 200, 3000)


def effects_of(cells, columns, change):
    """Rows of tested effects, -1 times `change(cell)` in nats and a tenth of it in accuracy; alpha's are shown."""
    rows = []
    for cell in cells:
        for measure, scale in (("logprob", 1.0), ("correct", 0.1)):
            effect = -scale * change(cell)
            rows.append(
                dict(zip(columns, cell, strict=True))
                | {"measure": measure, "n": 25, "clean": 0.8, "clean_low": 0.7, "clean_high": 0.9}
                | {"effect": effect, "effect_low": effect - 0.05, "effect_high": effect + 0.02}
                | {"n_controls": 3, "random": -0.01, "random_min": -0.04, "random_max": 0.03}
                | {"p_holm": 0.01, "p_bh": 0.005, "verdict": "falls" if cell[0] == "alpha" else "not shown"}
            )
    return pd.DataFrame(rows)


def doses(names, ks=KS, scale=1.0):
    cells = [(name, k) for name in names for k in ks]
    return effects_of(cells, ["ablated", "k"], lambda cell: scale * (1 + names.index(cell[0])) * np.log10(cell[1]))


@pytest.mark.parametrize("measure", ["logprob", "correct"])
def test_each_slider_step_shows_the_effects_at_its_k(measure):
    effects, others = doses(NAMES), doses(NAMES, scale=0.3)
    figure = dose_slider_figure(effects, others, measure)
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["10", "200", "3k"]
    order = list(figure.layout.yaxis.ticktext)
    assert order == ["alpha", "beta", "gamma"]  # the deepest fall of all, gamma's, on top
    for k, step in zip(KS, slider.steps, strict=True):
        (state, traces) = step.args
        assert step.method == "restyle"
        assert list(traces) == [0, 1, 2]
        random, other, own = (
            {order[round(y)]: x for x, y in zip(state["x"][trace], state["y"][trace], strict=True)} for trace in traces
        )
        there = effects[(effects["k"] == k) & (effects["measure"] == measure)].set_index("ablated")
        also = others[(others["k"] == k) & (others["measure"] == measure)].set_index("ablated")
        assert own == there["effect"].to_dict()
        assert other == also["effect"].to_dict()
        assert random == there["random"].to_dict()
        assert state["error_x.arrayminus"][2] == pytest.approx([0.05] * 3)
        assert state["error_x.array"][0] == pytest.approx([0.04] * 3)
        assert list(state["marker.symbol"][2]) == ["circle", "circle-open", "circle-open"]
        assert f"alpha, k = {k:,}<br>" in state["hovertext"][2][0]
        assert "n = 25 facts<br>3 random controls: mean" in state["hovertext"][2][0]


def test_the_initial_slider_step_is_active_and_the_axis_covers_all_steps():
    effects = doses(NAMES)
    figure = dose_slider_figure(effects)
    (slider,) = figure.layout.sliders
    state, _ = slider.steps[slider.active].args
    assert [list(trace.x) for trace in figure.data] == [list(x) for x in state["x"]]
    low, high = figure.layout.xaxis.range
    logprob = effects[effects["measure"] == "logprob"]
    assert low < logprob["effect_low"].min()
    assert high > 0
    assert not len(figure.data[1].x)  # no other relations' facts were given
    json.loads(figure.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in the figure"))


@pytest.mark.parametrize("n", [12, 47])
def test_every_relation_has_its_own_row(n):
    names = tuple(f"relation_{number}" for number in range(n))
    figure = dose_slider_figure(doses(names), doses(names))
    assert len(set(figure.layout.yaxis.ticktext)) == n
    assert figure.layout.height / n >= 16
    bars = language_bars_figure(effects_of([(name, "en") for name in names], ["ablated", "language"], lambda _: 1.0))
    assert len(set(bars.layout.yaxis.ticktext)) == n
    assert bars.layout.height / n >= 16


def flips(courses):
    rows = [
        {"relation": relation, "subject": f"{relation}{number}", "course": course, "lost_at": np.nan, "gained_at": 1.0}
        for relation, group in courses.items()
        for number, course in enumerate(group)
    ]
    return pd.DataFrame(rows)


COURSES = {"alpha": ["1111", "1100", "1010"], "beta": ["0011", "0000"]}


def streams(sankey):
    """Boxes and streams by name, the columns told apart by their x."""
    said = [text.split("<br>") for text in sankey.node.customdata]
    boxes = {(head.removeprefix("k = "), re.sub(r"^\d+ of \d+ ", "", rest)): rest for head, rest in said}
    names = list(boxes)
    links = {
        (names[source], names[target]): n
        for source, target, n in zip(sankey.link.source, sankey.link.target, sankey.link.value, strict=True)
    }
    return boxes, links


def test_flows_match_hand_counts():
    figure = answer_flows_figure(flips(COURSES), ks=[5, 50, 5000])
    boxes, links = streams(figure.data[0])
    throughout, lost, again, gained = "always right", "lost", "regained", "gained"
    wrong = "wrong without ablation"
    assert boxes[("0", throughout)] == "3 of 5 always right"
    assert links == {
        (("0", throughout), ("5", throughout)): 2,
        (("0", throughout), ("5", lost)): 1,
        (("0", wrong), ("5", wrong)): 2,
        (("5", throughout), ("50", throughout)): 1,
        (("5", throughout), ("50", lost)): 1,
        (("5", lost), ("50", again)): 1,
        (("5", wrong), ("50", gained)): 1,
        (("5", wrong), ("50", wrong)): 1,
        (("50", throughout), ("5,000", throughout)): 1,
        (("50", lost), ("5,000", lost)): 1,
        (("50", again), ("5,000", lost)): 1,
        (("50", gained), ("5,000", gained)): 1,
        (("50", wrong), ("5,000", wrong)): 1,
    }
    texts = [note.text for note in figure.layout.annotations]
    assert texts[:4] == ["no ablation", "k = 5", "k = 50", "k = 5,000"]
    assert texts[4:8] == ["right 3", "wrong 2", "right 2", "lost 1"]


def test_flows_of_a_single_relation_have_their_own_labels_and_examples():
    figure = answer_flows_figure(flips(COURSES), ks=[5, 50, 5000])
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["all relations (5)", "alpha (3)", "beta (2)"]
    assert menu.buttons[2].method == "update"
    shown, layout = menu.buttons[2].args
    assert list(shown["visible"]) == [False, False, True]
    assert [note["text"] for note in layout["annotations"]][4:] == [
        *("wrong 2", "wrong 2", "gained 1", "wrong 1", "gained 1", "wrong 1")
    ]
    _, links = streams(figure.data[2])
    assert sum(n for (source, _), n in links.items() if source[0] == "0") == 2
    hover = figure.data[2].link.customdata[1]
    assert hover == "wrong at k = 5, gained at k = 50<br>1 of 2 answers<br>beta: beta0"
    assert [trace.visible for trace in figure.data] == [True, False, False]


def test_at_most_five_columns_are_shown_but_outcomes_account_for_every_k():
    course = "1" * 4 + "0" + "1" * 6  # wrong at one k only, which is not shown
    figure = answer_flows_figure(flips({"alpha": [course, "1" * 11]}), ks=range(1, 11))
    heads = [note.text for note in figure.layout.annotations[:5]]
    assert heads[0] == "no ablation"
    assert heads[-1] == "k = 10"
    assert "k = 4" not in heads
    boxes, _ = streams(figure.data[0])
    assert boxes[("10", "regained")] == "1 of 2 regained"
    with pytest.raises(RelationNeuronsError, match=r"There are 2 values of k\. Expected: 10"):
        answer_flows_figure(flips({"alpha": [course]}), ks=[1, 2])


def test_boxes_of_a_column_do_not_overlap():
    sankey = answer_flows_figure(flips({"alpha": ["1111", "1000", "0011", "0000", "1010", "1001"] * 9})).data[0]
    for column in set(sankey.node.x):
        middles = [y for x, y in zip(sankey.node.x, sankey.node.y, strict=True) if x == column]
        assert (np.diff(middles) * 400 >= 18).all()
        assert 0 < min(middles) < max(middles) < 1


def test_bars_by_language_show_values_before_and_after_ablation():
    cells = [("alpha", "en"), ("beta", "en"), ("alpha", "de"), ("beta", "de")]
    changes = dict(zip(cells, (5.0, 0.0, 2.0, -1.0), strict=True))
    figure = language_bars_figure(effects_of(cells, ["ablated", "language"], changes.get))
    assert [note.text for note in figure.layout.annotations] == ["en", "de"]
    panels = {}
    for trace in figure.data:
        panels.setdefault(trace.xaxis, []).append(trace)
    for axis, language in (("x", "en"), ("x2", "de")):
        bars, *_ = panels[axis]
        assert bars.type == "bar"
        assert list(bars.x) == [0.8, 0.8]
        ends = {}
        for trace in panels[axis]:
            if trace.name in ("decrease (filled: significant)", "increase (filled: significant)"):
                ends |= {NAMES[y]: (x, trace.name.split()[0]) for x, y in zip(trace.x, trace.y, strict=True)}
        for name in ("alpha", "beta"):
            change = changes[(name, language)]
            assert ends[name] == (pytest.approx(0.8 - 0.1 * change), "decrease" if change >= 0 else "increase")
        (random,) = [trace for trace in panels[axis] if (trace.name or "").startswith("random")]
        assert list(random.x) == pytest.approx([0.79, 0.79])
    line = panels["x"][1]
    assert (line.mode, line.x[:3]) == ("lines", (0.8, pytest.approx(0.3), None))
    falls = panels["x"][2]
    assert list(falls.marker.symbol) == ["circle", "circle-open"]
    assert "0.800 [0.700, 0.900] before, 0.300 after" in falls.hovertext[0]
    assert "n = 25 facts" in falls.hovertext[0]
    keys = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(keys) == [
        *("decrease (filled: significant)", "increase (filled: significant)", "random neurons ablated (mean)"),
        "without ablation",
    ]


def pair_table():
    rows = [("gate:L0.N1", "gate", 0, 1, 0.9, 0.2, "first"), ("L1.N2", "post", 1, 2, 0.3, 0.8, "second")]
    rows += [("L1.N3", "post", 1, 3, 0.85, 0.95, "both"), ("L0.N0", "post", 0, 0, 0.1, 0.1, "rest")]
    columns = ["neuron", "site", "layer", "index", "score_first", "score_second", "group"]
    return pd.DataFrame(rows, columns=columns).assign(first="alpha", second="beta")


def test_pairs_of_scores_are_grouped_and_have_both_thresholds():
    figure = score_pair_figure(pair_table())
    drawn = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert drawn == {
        "other neurons (random sample) (1)": ([0.1], [0.1]),
        "top neurons of alpha only (1)": ([0.9], [0.2]),
        "top neurons of beta only (1)": ([0.3], [0.8]),
        "top neurons of both (1)": ([0.85], [0.95]),
    }
    assert {trace.type for trace in figure.data} == {"scattergl"}
    assert figure.data[1].customdata[0].tolist() == ["gate:L0.N1", "gate", 0, 1]
    vertical, horizontal = figure.layout.shapes
    assert (vertical.x0, vertical.x1) == (0.85, 0.85)
    assert (horizontal.y0, horizontal.y1) == (0.8, 0.8)
    assert "alpha" in figure.layout.xaxis.title.text


def test_empty_tables_give_a_note():
    none = pd.DataFrame()
    for figure in (
        *(dose_slider_figure(none), answer_flows_figure(none), language_bars_figure(none), score_pair_figure(none)),
        *(dose_slider_figure(doses(NAMES).head(0)), language_bars_figure(doses(NAMES).head(0))),
    ):
        assert not figure.data
        assert len(figure.layout.annotations) == 1


def test_all_figures_have_the_common_style():
    looks = [
        *(dose_slider_figure(doses(NAMES)), answer_flows_figure(flips(COURSES)), score_pair_figure(pair_table())),
        figures.dose_figure(doses(NAMES)),
        figures.mean_dose_figure(doses(NAMES)),
    ]
    for figure in looks:
        assert figure.layout.template == style.TEMPLATE
        assert (figure.layout.title.x, figure.layout.title.xref) == (0, "container")
        assert "sendChartToCloud" in figure.layout.template.layout.modebar.remove


def test_colours_are_defined_in_one_module():
    """Close-ups excepted, which draw text too."""
    for path in Path(style.__file__).parent.glob("*.py"):
        if path.name not in ("style.py", "single_neuron.py"):
            assert not re.findall(r"\"#[0-9A-Fa-f]{3,6}\"", path.read_text(encoding="utf-8")), path.name


def test_long_titles_are_wrapped_and_get_space():
    import plotly.graph_objects as go

    short, long = (style.styled(go.Figure(), title, height=100, legend_rows=1) for title in ("few", "many words " * 12))
    assert max(map(len, long.layout.title.text.split("<br>"))) <= 62
    lines = long.layout.title.text.count("<br>") + 1
    assert lines == 3
    assert long.layout.margin.t - short.layout.margin.t == long.layout.height - short.layout.height == 40
