"""What the figures of faithfulness and induction draw."""

import numpy as np
import pandas as pd
import pytest

from relation_neurons.figures.faithfulness import faithfulness_figure, induction_figure


@pytest.fixture
def average():
    rows = []
    for scorer, shift in (("average_precision", 0.0), ("attribution_t", 0.1)):
        for number, k in enumerate((1000, 10, 100)):
            row = {"scorer": scorer, "k": k, "share": k / 1e4, "n": 4, "n_undefined": 0}
            for name, value in (("faithfulness", 0.2 * number + shift), ("completeness", 0.9 - 0.2 * number - shift)):
                row |= {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.1}
                row |= {f"random_{name}": value / 10}
            rows.append(row)
    return pd.DataFrame(rows)


def test_curves_of_each_scorer_and_its_controls_are_drawn_over_k(average):
    figure = faithfulness_figure(average)
    for name, axis in (("faithfulness", "y"), ("completeness", "y2")):
        for scorer, group in average.sort_values("k").groupby("scorer"):
            own, random = (
                next(one for one in figure.data if one.name == label and one.yaxis == axis)
                for label in (scorer, f"{scorer}: random controls")
            )
            assert list(own.x) == list(random.x) == [10, 100, 1000]
            np.testing.assert_allclose(own.y, group[name])
            np.testing.assert_allclose(own.y + own.error_y.array, group[f"{name}_high"])
            np.testing.assert_allclose(own.y - own.error_y.arrayminus, group[f"{name}_low"])
            np.testing.assert_allclose(random.y, group[f"random_{name}"])
            assert own.line.color == random.line.color
    assert figure.layout.xaxis.type == figure.layout.xaxis2.type == "log"
    assert len({one.line.color for one in figure.data}) == 2
    assert sum(bool(one.showlegend) for one in figure.data) == 4
    assert "n = 4 relations" in figure.data[0].hovertext[0]


def test_undefined_ratios_are_left_out(average):
    gone = average.assign(faithfulness=average["faithfulness"].where(average["scorer"] == "attribution_t"))
    names = {one.name for one in faithfulness_figure(gone).data}
    assert names == {"attribution_t", "attribution_t: random controls"}
    assert faithfulness_figure(average.assign(faithfulness=np.nan)).layout.annotations[0].text == "no data"
    assert faithfulness_figure(pd.DataFrame()).layout.annotations[0].text == "no data"


def test_bars_stand_for_each_relation_and_scorer_with_their_controls():
    rows = [
        {"scorer": scorer, "induced": induced, "effect": effect, "effect_low": effect - 1, "effect_high": effect + 2}
        | {
            "random": 0.1,
            "random_min": -0.4,
            "random_max": 0.5,
            "n": 30,
            "n_controls": 20,
            "p_holm": 0.01,
            "p_bh": 0.01,
        }
        | {"verdict": "rises" if effect > 1 else "not shown"}
        for scorer, effects in (("average_precision", (3.0, 0.5)), ("attribution", (4.0, 2.0)))
        for induced, effect in zip(("capital", "sport"), effects, strict=True)
    ]
    figure = induction_figure(pd.DataFrame(rows))
    names = list(figure.layout.yaxis.ticktext)
    assert names == ["sport", "capital"]
    for row in rows:
        bar = next(one for one in figure.data if one.type == "bar" and one.name == row["scorer"])
        place = [names[round(y)] for y in bar.y].index(row["induced"])
        assert bar.x[place] == row["effect"]
        assert bar.x[place] + bar.error_x.array[place] == row["effect_high"]
        assert (bar.marker.opacity[place] == 1) == (row["verdict"] == "rises")
        random = figure.data[figure.data.index(bar) + 1]
        assert np.abs(np.subtract(random.y, bar.y)).max() < 0.2
        assert random.x[place] - random.error_x.arrayminus[place] == row["random_min"]
    assert len({y for one in figure.data if one.type == "bar" for y in one.y}) == 4
    assert induction_figure(pd.DataFrame()).layout.annotations[0].text == "no data"
