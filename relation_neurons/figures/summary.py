"""Effects of ablating each relation's neurons on own and other facts, and of every control set."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import ENDS, error_bars
from relation_neurons.figures.style import MEASURE_TITLES, OTHER, OWN, RANDOM, ZERO, styled

PARTS = (
    ("own", "own facts", OWN, 0.25, "circle"),
    ("other", "other relations' facts", OTHER, 0.0, "diamond"),
    ("random", "random controls, own facts", RANDOM, -0.25, "square"),
)
"""Column of the summary, label, colour, offset within the row, and symbol."""


def summary_figure(summary: pd.DataFrame, controls: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Effects of ablating each relation's neurons (the paper's Figure 3, with intervals and controls).

    Args:
        summary: Table `summary` of the experiment `summary`, or of `summary.summarise`.
        controls: Table `controls` of the same experiment, with every control set.
        measure: `logprob`, `correct` or `correct_prefix`.

    Returns:
        A row per relation: effects on its own facts and on other relations' facts, and the mean of
        its controls, each with a 95 % interval over facts; every control set is a small mark.
    """
    rows = summary[summary["measure"] == measure].sort_values("own", ascending=False)
    relations = list(rows["relation"])
    figure = go.Figure()
    figure.add_scatter(
        x=controls[f"d_{measure}"],
        y=[relations.index(relation) - 0.25 for relation in controls["relation"]],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "color": RANDOM},
        name="each control set",
        text=controls["relation"] + ", control set " + controls["draw"].astype(str),
        hovertemplate="%{text}<br>%{x:+.3f}<extra></extra>",
    )
    for part, label, colour, shift, symbol in PARTS:
        figure.add_scatter(
            x=rows[part],
            y=[row + shift for row in range(len(relations))],
            error_x=error_bars(rows, part, ENDS),
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=label,
            customdata=rows[["relation", f"{part}_low", f"{part}_high", f"{part}_n"]].to_numpy(),
            hovertemplate="%{customdata[0]}<br>%{x:+.3f} [%{customdata[1]:+.3f}, %{customdata[2]:+.3f}], "
            "n = %{customdata[3]}<extra>" + label + "</extra>",
        )
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    figure.update_yaxes(tickvals=list(range(len(relations))), ticktext=relations, range=[-0.6, len(relations) - 0.4])
    figure.update_xaxes(title="change in " + MEASURE_TITLES[measure])
    title = "Effects of ablating each relation's neurons: " + MEASURE_TITLES[measure]
    return styled(figure, title, height=140 + 48 * len(relations), legend_rows=2)
