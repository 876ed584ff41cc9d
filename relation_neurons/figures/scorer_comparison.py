"""Scorers against each other."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import errors, measured, nothing
from relation_neurons.figures.style import COLOURS, MEASURE_TITLES, RANDOM, styled
from relation_neurons.statistics.formatting import interval_text

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")


def methods_figure(methods: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What own facts change against what others do, by scorer (colour) and k (symbol); 95 % over relations.

    Args:
        methods: From the experiment `methods`.
        measure: `logprob` or `correct`.
    """
    needed = [f"{part}{end}" for part in ("own", "other") for end in ("", "_low", "_high")]
    rows, title = measured(methods, measure, ["scorer", "k"], [*needed, "n"]), f"Scorers: {MEASURE_TITLES[measure]}"
    if rows.empty:
        return nothing(title)
    figure, symbols = go.Figure(), dict(zip(sorted(rows["k"].unique()), cycle(SYMBOLS), strict=False))
    for (scorer, group), colour in zip(rows.groupby("scorer", sort=False), cycle(COLOURS), strict=False):
        group = group.sort_values("k")
        hover = [
            f"{scorer}, k = {row['k']:,}<br>own {interval_text(row, 'own', decimals=3)}<br>other "
            f"{interval_text(row, 'other', decimals=3)}<br>n = {row['n']} relations"
            for row in group.to_dict("records")
        ]
        figure.add_scatter(
            x=group["own"],
            y=group["other"],
            error_x=errors(group, "own"),
            error_y=errors(group, "other"),
            mode="lines+markers",
            line={"width": 1, "color": colour},
            marker={"size": 9, "symbol": [symbols[k] for k in group["k"]]},
            name=str(scorer),
            hovertext=hover,
            hoverinfo="text",
        )
    for k, symbol in symbols.items():
        key = {"symbol": symbol, "color": RANDOM, "size": 9}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=key, name=f"k = {k:,}", hoverinfo="skip")
    least = min(0.0, max(rows["own"].min(), rows["other"].min()))
    line = {"dash": "dot", "width": 1, "color": RANDOM}
    figure.add_scatter(x=[least, 0], y=[least, 0], mode="lines", line=line, name="own = other", hoverinfo="skip")
    figure.update_layout(xaxis_title="change of own facts", yaxis_title="change of other facts")
    return styled(figure, title, height=380, legend_rows=(3 * len(figure.data) + 7) // 8)
