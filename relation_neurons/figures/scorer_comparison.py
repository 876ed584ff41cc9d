"""Comparison of scorers: selectivity curves, and own drops at equal cost to others."""

from __future__ import annotations

from itertools import cycle, product

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import empty_figure, error_bars, range_with_margin, rows_of_measure
from relation_neurons.figures.style import COLOURS, MEASURE_TITLES, RANDOM, styled
from relation_neurons.statistics.formatting import interval_text

FAR = 3
"""How many times the median of scorers' cost is still drawn."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
LINES = tuple(product(("solid", "dot"), (colour for colour in COLOURS if colour != RANDOM)))
"""A dash and a colour for each scorer, so that more scorers than colours can be told apart."""


def methods_figure(methods: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Selectivity curves: change of own facts against that of other facts, by scorer (colour) and k (symbol).

    All curves begin at no change, at k = 0. Intervals are 95 % over relations. The axes leave out what lies far beyond
    most scorers' cost to others (`FAR` times the median); a double click shows all.

    Args:
        methods: Table `methods` of the experiment `methods`.
        measure: `logprob` or `correct`.
    """
    needed = [f"{part}{end}" for part in ("own", "other") for end in ("", "_low", "_high")]
    rows, title = (
        rows_of_measure(methods, measure, ["scorer", "k"], [*needed, "n"]),
        f"Comparison of scorers: {MEASURE_TITLES[measure]}",
    )
    if rows.empty:
        return empty_figure(title)
    figure, symbols = go.Figure(), dict(zip(sorted(rows["k"].unique()), cycle(SYMBOLS), strict=False))
    for (scorer, group), (dash, colour) in zip(rows.groupby("scorer", sort=False), cycle(LINES), strict=False):
        line = {"width": 1.5, "color": colour, "dash": dash}
        figure.add_scatter(**_curve(str(scorer), group.sort_values("k"), symbols, dash != "solid"), line=line)
    for k, symbol in symbols.items():
        legend_marker = {"symbol": symbol, "color": RANDOM, "size": 9}
        figure.add_scatter(
            x=[None], y=[None], mode="markers", marker=legend_marker, name=f"k = {k:,}", hoverinfo="skip"
        )
    least = min(0.0, max(rows["own"].min(), rows["other"].min()))
    line = {"dash": "dot", "width": 1, "color": RANDOM}
    figure.add_scatter(x=[least, 0], y=[least, 0], mode="lines", line=line, name="own = other", hoverinfo="skip")
    x_range, y_range = _view(rows)
    figure.update_xaxes(title="change on other relations' facts", range=x_range)
    figure.update_yaxes(title="change on own facts", range=y_range)
    return styled(figure, title, height=380, legend_rows=(3 * len(figure.data) + 7) // 8)


def _view(rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Ranges of both axes that no single scorer rules."""
    deepest = rows.groupby("scorer")["other_low"].min()
    low = deepest[deepest >= FAR * deepest.median()].min()
    seen = rows[rows["other"] >= low]
    ranges = [range_with_margin(seen[[f"{part}_low", f"{part}_high"]].to_numpy()) for part in ("other", "own")]
    return ranges[0], ranges[1]


def _curve(scorer: str, rows: pd.DataFrame, symbols: dict[int, str], is_open: bool) -> dict[str, object]:
    """A scorer's curve from no change at k = 0, with open or filled symbols."""
    shapes = {k: f"{symbol}-open" if is_open else symbol for k, symbol in symbols.items()}
    hover = [
        f"{scorer}, k = {row['k']:,}<br>own facts {interval_text(row, 'own', decimals=3)}<br>other facts "
        f"{interval_text(row, 'other', decimals=3)}<br>n = {row['n']} relations"
        for row in rows.to_dict("records")
    ]
    start = pd.DataFrame(
        [dict.fromkeys([f"{part}{end}" for part in ("own", "other") for end in ("", "_low", "_high")], 0.0)]
    )
    rows = pd.concat([start, rows], ignore_index=True)
    return {
        "x": rows["other"],
        "y": rows["own"],
        "error_x": error_bars(rows, "other"),
        "error_y": error_bars(rows, "own"),
        "mode": "lines+markers",
        "marker": {"size": [0, *[9] * len(symbols)], "symbol": ["circle", *(shapes[k] for k in rows["k"][1:])]},
        "name": scorer,
        "hovertext": ["", *hover],
        "hoverinfo": "text",
    }


def equal_cost_figure(equal_cost: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What own facts lose by each scorer's neurons where other facts have lost the same.

    Intervals are 95 % over relations. Where others never lose so much, the point is an open circle: the value at the
    largest k, of which the scorer could take more.

    Args:
        equal_cost: Table `equal_cost` of the experiment `methods`.
        measure: `logprob` or `correct`.
    """
    title = f"Own facts at equal cost to others: {MEASURE_TITLES[measure]}"
    needed = ["cost", "own", "own_low", "own_high", "reached", "n"]
    rows = rows_of_measure(equal_cost, measure, ["scorer"], needed)
    if rows.empty:
        return empty_figure(title)
    rows = rows.sort_values("own", ascending=False)
    hover = [
        f"{row['scorer']}<br>{interval_text(row, 'own', decimals=3)}<br>n = {row['n']} relations"
        for row in rows.to_dict("records")
    ]
    figure = go.Figure()
    figure.add_scatter(
        x=rows["own"],
        y=rows["scorer"],
        error_x=error_bars(rows, "own"),
        mode="markers",
        marker={
            "size": 9,
            "color": COLOURS[0],
            "symbol": ["circle" if one else "circle-open" for one in rows["reached"]],
        },
        hovertext=hover,
        hoverinfo="text",
        showlegend=False,
    )
    axis = f"change on own facts where others' have lost {rows['cost'].iloc[0]:g} nats"
    figure.update_layout(xaxis_title=axis, yaxis={"automargin": True})
    return styled(figure, title, height=120 + 28 * len(rows))
