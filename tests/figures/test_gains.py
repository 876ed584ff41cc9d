"""The figure of gains has the largest pairs, their intervals and their verdicts."""

import pandas as pd
import pytest

from relation_neurons.errors import RelationNeuronsError
from relation_neurons.figures import gains_figure


@pytest.fixture
def gains():
    rows = [
        {"ablated": "a", "relation": "b", "gain": 0.8, "verdict": "rises", "p_family": 0.04},
        {"ablated": "b", "relation": "a", "gain": 0.1, "verdict": "not shown", "p_family": 0.9},
        {"ablated": "c", "relation": "a", "gain": -0.3, "verdict": "not shown", "p_family": 1.0},
    ]
    extra = {"n": 12, "effect": 0.7, "random": -0.1, "turned_right": 3}
    return pd.DataFrame([row | extra | {"gain_low": row["gain"] - 0.1, "gain_high": row["gain"] + 0.2} for row in rows])


def test_marks_are_at_the_gains_and_filled_where_they_are_shown(gains):
    figure = gains_figure(gains)
    random, shown, other = figure.data
    assert list(shown.x) == [0.8]
    assert list(shown.y) == [2]
    assert shown.error_x.array[0] == pytest.approx(0.2)
    assert shown.error_x.arrayminus[0] == pytest.approx(0.1)
    assert sorted(other.x) == [-0.3, 0.1]
    assert list(random.x) == [-0.1] * 3
    assert list(figure.layout.yaxis.ticktext) == ["c → a", "b → a", "a → b"]
    assert "3 turned right" in shown.hovertext[0]
    assert "p = 0.04 (max-T)" in shown.hovertext[0]


def test_the_largest_gains_are_kept(gains):
    assert list(gains_figure(gains, most=1).layout.yaxis.ticktext) == ["a → b"]


def test_nothing_is_drawn_of_nothing_and_another_table_is_refused(gains):
    assert gains_figure(gains.head(0)).layout.annotations[-1].text == "no data"
    with pytest.raises(RelationNeuronsError, match="gain_low"):
        gains_figure(gains.drop(columns="gain_low"))
