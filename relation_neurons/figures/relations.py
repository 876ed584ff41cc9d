"""Descriptive figures of relations: facts, objects and shared names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import refuse
from relation_neurons.figures.style import MANY, OTHER, OWN, RANDOM, heatmap, name_size, robust_limit, styled


def overlap_of_names_figure(table: pd.DataFrame, title: str) -> go.Figure:
    """Number of subjects or objects that two relations share (the paper's Figures 10 to 12).

    Args:
        table: Table of `relation_summary.overlaps`; the diagonal stays empty, so that the colour scale
            fits the overlaps.
        title: Title of the figure.
    """
    sizes, names, many = np.diag(table), list(table.columns), len(table) > MANY
    shared = np.where(np.eye(len(table), dtype=bool), np.nan, table.to_numpy(dtype=float))
    either = sizes[:, None] + sizes[None, :] - shared
    hover = "%{y} (%{customdata[0]}) and %{x} (%{customdata[1]})<br>%{z} shared, %{customdata[2]:.1%} of all"
    figure = heatmap(shared, names, names, hover=hover + "<extra></extra>")
    figure.update_traces(
        customdata=np.stack([*np.broadcast_arrays(sizes[:, None], sizes[None, :]), shared / either], axis=-1),
        text=[["" if many or not n > 0 else f"{n:.0f}" for n in row] for row in shared],
        texttemplate="%{text}",
        textfont_size=None,  # as large as fits the cells
        zmax=max(robust_limit(shared), 1.0),
    )
    figure = styled(figure, title, height=200 + (13 if many else 34) * len(names), legend_rows=0)
    figure.update_xaxes(dtick=1, showgrid=False, tickangle=-90 if many else -45, tickfont_size=name_size(names))
    return figure.update_yaxes(dtick=1, showgrid=False, tickfont_size=name_size(names))


def facts_figure(description: pd.DataFrame) -> go.Figure:
    """Facts and distinct objects of each relation, and the accuracy of the majority baseline.

    Args:
        description: Table of `relation_summary.describe`.
    """
    figure = _counts_and_shares(
        description,
        {"facts": "facts", "objects": "distinct objects"},
        {"majority": "share of the most frequent object, 95 % interval"},
    )
    parts = (description[name] for name in ("majority", "majority_low", "majority_high", "facts"))
    details = ["{}, [{:.1%}, {:.1%}], n = {}".format(*row) for row in zip(*parts, strict=True)]
    figure.update_traces(customdata=details, selector={"type": "scatter"})
    figure.update_layout(xaxis_title="facts, objects", xaxis2_title="share of the facts")
    return styled(figure, "Facts of each relation", height=110 + 24 * len(description), legend_rows=2)


def token_lengths_figure(table: pd.DataFrame) -> go.Figure:
    """Token lengths of each relation's objects, and the share of objects with an ambiguous first token.

    Args:
        table: Table of `relation_summary.describe` with a model.

    Raises:
        RelationNeuronsError: If the table was computed without a model.
    """
    if "tokens_max" not in table:
        raise refuse("The table has no token lengths", do="describe the relations with a model")
    figure = _counts_and_shares(
        table,
        {"tokens_max": "longest object", "tokens_median": "median object"},
        {"shared_first": "first token shared with another object", "single_token": "single token"},
    )
    figure.update_traces(customdata=table["objects"].map("n = {}".format), selector={"type": "scatter"})
    figure.update_layout(xaxis_title="tokens", xaxis2_title="share of the objects")
    return styled(figure, "Token lengths of objects", height=110 + 24 * len(table), legend_rows=2)


def _counts_and_shares(table: pd.DataFrame, counts: Mapping[str, str], shares: Mapping[str, str]) -> go.Figure:
    """Two counts per relation as nested bars, and shares with intervals if available in a second panel."""
    figure = go.Figure().set_subplots(1, 2, shared_yaxes=True, column_widths=[0.6, 0.4], horizontal_spacing=0.05)
    for (part, label), colour, width in zip(counts.items(), (RANDOM, OWN), (0.8, 0.4), strict=True):
        hover = "%{y}<br>" + label + ": %{x:g}<extra></extra>"
        bars = {"orientation": "h", "width": width, "marker_color": colour, "name": label, "hovertemplate": hover}
        figure.add_bar(x=table[part], y=table["relation"], row=1, col=1, **bars)
    for (part, label), colour, symbol in zip(shares.items(), (OTHER, OWN), ("diamond", "circle"), strict=False):
        share, error = table[f"{part}_share"], None
        if f"{part}_low" in table:
            error = {"array": table[f"{part}_high"] - share, "arrayminus": share - table[f"{part}_low"], "width": 3}
        figure.add_scatter(
            x=share,
            y=table["relation"],
            error_x=error,
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=label,
            hovertemplate="%{y}: %{x:.1%}<br>%{customdata}<extra>" + label + "</extra>",
            row=1,
            col=2,
        )
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(range=[-0.03, 1.1], tickvals=[0, 0.5, 1], tickformat=".0%", col=2)
    return figure.update_yaxes(dtick=1, range=[len(table) - 0.4, -0.6])
