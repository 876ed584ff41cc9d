"""What ablating each relation's neurons does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.style import MEASURE_TITLES, OTHER, OWN, RANDOM, ZERO, heatmap, styled


def effects_figure(summary: pd.DataFrame, changes: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What ablating each relation's neurons does (the paper's Figure 3, with intervals and every control).

    Args:
        summary: From `experiments.ablation.summarise`.
        changes: From `experiments.ablation.effects`, for the single controls.
        measure: `logprob`, `correct_prefix` or `correct_string`.

    Returns:
        A row per relation: its own facts, the other relations' facts, the mean of its controls, each with a 95 %
        interval over facts, and every control set as a small mark.
    """
    rows = summary[summary["measure"] == measure].sort_values("own_mean", ascending=False)
    relations = list(rows["relation"])
    place = {relation: number for number, relation in enumerate(relations)}
    figure = go.Figure()
    random = changes[changes["kind"] == "random"]
    controls = random.groupby(["ablated", "condition"], sort=False)[f"d_{measure}"].mean().reset_index()
    figure.add_scatter(
        x=controls[f"d_{measure}"],
        y=[place[relation] - 0.25 for relation in controls["ablated"]],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "color": RANDOM},
        name="each control set",
        text=controls["condition"],
        hovertemplate="%{text}<br>%{x:+.3f}<extra></extra>",
    )
    parts = (
        ("own", "its own facts", OWN, 0.25, "circle"),
        ("other", "other relations' facts", OTHER, 0.0, "diamond"),
        ("random", "random neurons, its own facts", RANDOM, -0.25, "square"),
    )
    for part, label, colour, shift, symbol in parts:
        figure.add_scatter(
            x=rows[f"{part}_mean"],
            y=[place[relation] + shift for relation in relations],
            error_x={
                "array": rows[f"{part}_high"] - rows[f"{part}_mean"],
                "arrayminus": rows[f"{part}_mean"] - rows[f"{part}_low"],
                "thickness": 1.5,
                "width": 3,
            },
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=label,
            customdata=np.stack(
                [rows["relation"], rows[f"{part}_low"], rows[f"{part}_high"], rows[f"{part}_n"]], axis=-1
            ),
            hovertemplate="%{customdata[0]}<br>%{x:+.3f} [%{customdata[1]:+.3f}, %{customdata[2]:+.3f}], "
            "n = %{customdata[3]}<extra>" + label + "</extra>",
        )
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    figure.update_yaxes(tickvals=list(range(len(relations))), ticktext=relations, range=[-0.6, len(relations) - 0.4])
    figure.update_xaxes(title="change in " + MEASURE_TITLES[measure])
    title = "Ablating a relation's neurons: " + MEASURE_TITLES[measure]
    return styled(figure, title, height=140 + 48 * len(relations), legend_rows=2)


def effect_matrix_figure(matrix: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Signed effects between relations (the paper's Figure 4).

    Args:
        matrix: From `experiments.ablation.effect_matrix`: row ablated, column asked.
        measure: What the numbers are.
    """
    figure = heatmap(
        matrix.to_numpy(),
        list(matrix.index),
        list(matrix.columns),
        hover="neurons of %{y} ablated<br>facts of %{x} asked<br>%{z:+.3f}<extra></extra>",
        decimals=2,
        diverging=True,
    )
    figure.update_layout(xaxis_title="facts asked", yaxis_title="neurons ablated")
    title = "Effect on every relation: change in " + MEASURE_TITLES[measure]
    return styled(figure, title, height=220 + 34 * len(matrix))
