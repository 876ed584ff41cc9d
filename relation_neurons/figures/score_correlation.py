"""Scores of the same neurons for two relations."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import empty_figure
from relation_neurons.figures.style import GREEN, OTHER, OWN, RANDOM, styled


def score_pair_figure(table: pd.DataFrame) -> go.Figure:
    """Average precision of neurons for one relation against that for another.

    Args:
        table: Table of `experiments.score_correlation.score_pair`.

    Returns:
        A point per neuron: the top neurons of the first relation only, of the second only and of
        both, and a random sample of the others. Dotted lines mark the lowest score of each
        relation's top neurons.
    """
    title = "Scores of the same neurons for two relations"
    if table.empty:
        return empty_figure(title)
    first, second = str(table["first"].iloc[0]), str(table["second"].iloc[0])
    figure = go.Figure()
    for group, name, colour, symbol in (
        ("rest", "other neurons (random sample)", RANDOM, "circle"),
        ("first", f"top neurons of {first} only", OWN, "circle"),
        ("second", f"top neurons of {second} only", OTHER, "diamond"),
        ("both", "top neurons of both", GREEN, "star"),
    ):
        rows = table[table["group"] == group]
        figure.add_scattergl(
            x=rows["score_first"],
            y=rows["score_second"],
            mode="markers",
            marker={
                "color": colour,
                "symbol": symbol,
                "size": {"rest": 3, "both": 9}.get(group, 5),
                "opacity": 0.5 if group == "rest" else 0.85,
            },
            name=f"{name} ({len(rows):,})",
            customdata=rows[["neuron", "site", "layer", "index"]].to_numpy(),
            hovertemplate="%{customdata[0]}<br>site %{customdata[1]}, layer %{customdata[2]}, index %{customdata[3]}"
            f"<br>{first} %{{x:.3f}}<br>{second} %{{y:.3f}}<extra>{name}</extra>",
        )
    _add_thresholds(figure, table)
    figure.update_layout(xaxis_title=f"average precision for {first}", yaxis_title=f"average precision for {second}")
    return styled(figure, title, height=520, legend_rows=2).update_layout(legend_itemsizing="constant")


def _add_thresholds(figure: go.Figure, table: pd.DataFrame) -> None:
    """Add lines at the lowest score of each relation's top neurons."""
    line = {"line_width": 1, "line_dash": "dot", "line_color": RANDOM}
    for column, group, add_line in (
        ("score_first", "first", figure.add_vline),
        ("score_second", "second", figure.add_hline),
    ):
        best = table.loc[table["group"].isin([group, "both"]), column]
        if len(best):
            add_line(best.min(), **line)
