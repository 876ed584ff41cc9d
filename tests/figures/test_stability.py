"""What the figures of unseen objects and of samples draw."""

import pandas as pd
import pytest

from relation_neurons.figures import carry_over_figure, stability_figure


def effects_of(names):
    rows = []
    for number, name in enumerate(names, start=1):
        for scorer, size in (("x", 1.0), ("y", 2.0)):
            for objects, part in (("seen", 1.0), ("unseen", 0.5)):
                for tested, times in (("main", 1), ("zs", 7)):
                    effect = -size * part * number * times
                    row = {
                        "scorer": scorer,
                        "ablated": name,
                        "objects": objects,
                        "tested": tested,
                        "n": 9,
                        "random": -0.1,
                    }
                    row |= {"effect": effect, "effect_low": effect - 0.2, "effect_high": effect + 0.1}
                    rows += [row | {"measure": "logprob"}, row | {"measure": "correct", "effect": -0.3}]
    return pd.DataFrame(rows)


def test_unseen_objects_are_drawn_against_seen_ones_in_the_studys_templates():
    figure = carry_over_figure(effects_of(["a", "b"]), effects_of(["all"]))
    traces = {(trace.name, trace.marker.size): trace for trace in figure.data if trace.mode == "markers"}
    small, large = traces["y", 6], traces["y", 12]
    assert (list(small.x), list(small.y)) == ([-2, -4], [-1, -2])
    assert (list(large.x), list(large.y)) == ([-2], [-1])
    for bars in (large.error_x, large.error_y):
        assert (list(bars.array), list(bars.arrayminus)) == (pytest.approx([0.1]), pytest.approx([0.2]))
    controls = traces["x, random controls", 9]
    assert (list(controls.x), list(controls.y)) == ([-0.1], [-0.1])
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines"}
    assert list(lines["all carries over"].x) == list(lines["all carries over"].y) == [-4, 0]
    assert list(lines["nothing carries over"].y) == [0, 0]
    right = carry_over_figure(effects_of(["a", "b"]), effects_of(["all"]), "correct")
    assert set(right.data[0].x) == {-0.3}


def test_samples_are_drawn_by_scorer_and_kind_with_chance():
    rows = []
    for number, scorer in enumerate(("x", "y")):
        for place, kind in enumerate(("facts", "negatives")):
            value = 0.2 + 0.3 * number + 0.1 * place
            row = {"scorer": scorer, "kind": kind, "k": 6, "n": 3, "expected": 0.02, "expected_matched": 0.04}
            for name, of in (("coefficient", value), ("shuffled", value / 2)):
                row |= {name: of, f"{name}_low": of - 0.05, f"{name}_high": of + 0.1}
            rows.append(row)
    figure = stability_figure(pd.DataFrame(rows))
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces["facts"].x) == pytest.approx([0.2, 0.5])
    assert list(traces["negatives, shuffled"].x) == pytest.approx([0.15, 0.3])
    assert list(traces["facts"].error_x.arrayminus) == pytest.approx([0.05] * 2)
    assert list(traces["facts, by chance"].x) == [0.04] * 2
    assert [round(y) for y in traces["negatives"].y] == [0, 1]
    assert all(first < second for first, second in zip(traces["facts"].y, traces["negatives"].y, strict=True))
    assert figure.layout.shapes[0].x0 == 0.02
    assert list(figure.layout.yaxis.ticktext) == ["x", "y"]


def test_empty_tables_say_so():
    for figure in (carry_over_figure(pd.DataFrame(), pd.DataFrame()), stability_figure(pd.DataFrame())):
        assert figure.layout.annotations[0].text == "no data"
