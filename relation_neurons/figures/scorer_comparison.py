"""Comparison of scorers."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import empty_figure, error_bars, rows_of_measure
from relation_neurons.figures.style import COLOURS, MEASURE_TITLES, RANDOM, styled
from relation_neurons.statistics.formatting import interval_text

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")


def methods_figure(methods: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Mean effect on own facts against that on other facts, by scorer (colour) and k (symbol).

    Intervals are 95 % over relations.

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
    for (scorer, group), colour in zip(rows.groupby("scorer", sort=False), cycle(COLOURS), strict=False):
        group = group.sort_values("k")
        hover = [
            f"{scorer}, k = {row['k']:,}<br>own facts {interval_text(row, 'own', decimals=3)}<br>other facts "
            f"{interval_text(row, 'other', decimals=3)}<br>n = {row['n']} relations"
            for row in group.to_dict("records")
        ]
        figure.add_scatter(
            x=group["own"],
            y=group["other"],
            error_x=error_bars(group, "own"),
            error_y=error_bars(group, "other"),
            mode="lines+markers",
            line={"width": 1, "color": colour},
            marker={"size": 9, "symbol": [symbols[k] for k in group["k"]]},
            name=str(scorer),
            hovertext=hover,
            hoverinfo="text",
        )
    for k, symbol in symbols.items():
        legend_marker = {"symbol": symbol, "color": RANDOM, "size": 9}
        figure.add_scatter(
            x=[None], y=[None], mode="markers", marker=legend_marker, name=f"k = {k:,}", hoverinfo="skip"
        )
    least = min(0.0, max(rows["own"].min(), rows["other"].min()))
    line = {"dash": "dot", "width": 1, "color": RANDOM}
    figure.add_scatter(x=[least, 0], y=[least, 0], mode="lines", line=line, name="own = other", hoverinfo="skip")
    figure.update_layout(xaxis_title="change on own facts", yaxis_title="change on other relations' facts")
    return styled(figure, title, height=380, legend_rows=(3 * len(figure.data) + 7) // 8)
