"""Neurons that relations share, and how relations cluster by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray
from scipy.cluster.hierarchy import dendrogram

from relation_neurons.figures.common import empty_figure, wrapped_label
from relation_neurons.figures.neuron_locations import grid_of, label_every_row
from relation_neurons.figures.style import OWN, heatmap, row_height, styled
from relation_neurons.statistics.clustering import linkage_of_shares
from relation_neurons.statistics.effects import ABOVE
from relation_neurons.statistics.formatting import name_list

MAX_NAMED = 8
"""Number of shared neurons that the hover text lists."""
MOST_COUNTED = 20
"""Relations beyond which cells have stars only."""
TICKS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
"""Shares on the colour bar, whose colours go by the square root, so that one large share leaves the others visible."""
TREE = 0.2
"""Width of the dendrogram, as a share of the figure's."""
DETAILS = ("share", "expected", "low", "high", "count_as_negatives", "expected_as_negatives", "p_holm")
HOVER = (
    "%{y} and %{x}<br>%{text} shared, %{customdata[0]:.1%}<br>matched random sets %{customdata[1]:.1f} "
    "[%{customdata[2]:.0f}, %{customdata[3]:.0f}]<br>each the other's negative: %{customdata[4]:.0f} (random "
    "%{customdata[5]:.1f})<br>p = %{customdata[6]:.2g} (Holm)<extra></extra>"
)


def overlap_matrix_figure(pairs: pd.DataFrame, shared: pd.DataFrame | None = None) -> go.Figure:
    """Number of neurons that two relations share, and relations clustered by it (the paper's Figures 2 and 18).

    Args:
        pairs: Table `pairs` of the experiment `overlap`; a star marks an overlap above chance, corrected over all.
        shared: Its table `shared`; if given, the hover text lists shared neurons.

    Returns:
        A heatmap whose x and y are names of relations, so that a page can identify a clicked cell, and a dendrogram
        beside it, by average linkage of 1 - share.
    """
    title = "Neurons in common (*: more than chance, corrected) and clusters of relations by their share"
    if pairs.empty:
        return empty_figure(title)
    names, merges = linkage_of_shares(pairs)
    tree = dendrogram(merges, no_plot=True, labels=names)
    names = tree["ivl"]
    figure = _matrix(pairs, names, shared)
    figure.add_trace(_branches(tree))
    rows = [len(names) - 0.5, -0.5]
    figure.update_layout(
        xaxis={"domain": [0, 1 - TREE - 0.01]},
        yaxis={"range": rows, "autorange": False},
        xaxis2={"domain": [1 - TREE, 1], "range": [1.03, -0.03], "title": "1 - share", "tickangle": 0, "anchor": "y2"},
        yaxis2={"range": rows, "visible": False, "anchor": "x2"},
        showlegend=False,
    )
    figure = styled(figure, title, height=240 + row_height(names) * len(names), legend_rows=0)
    tickfont = figure.layout.xaxis2.tickfont
    return label_every_row(figure, names).update_layout(
        xaxis2={"dtick": 0.5, "tickangle": 0, "tickfont": tickfont, "autorange": False}
    )


def _branches(tree: dict[str, list[list[float]]]) -> go.Scatter:
    """The lines of a dendrogram, whose leaves scipy puts at 5, 15, 25 and so on; the root is on the right."""
    x: list[float | None] = []
    y: list[float | None] = []
    for distance, leaf in zip(tree["dcoord"], tree["icoord"], strict=True):
        x += [*distance, None]
        y += [*((place - 5) / 10 for place in leaf), None]
    return go.Scatter(
        x=x, y=y, xaxis="x2", yaxis="y2", mode="lines", line={"color": OWN, "width": 1.5}, hoverinfo="skip"
    )


def _matrix(pairs: pd.DataFrame, names: Sequence[str], shared: pd.DataFrame | None) -> go.Figure:
    """The heatmap with counts and stars; its hover text has the rest."""
    transposed = pairs.rename(columns={"first": "second", "second": "first"})
    cells = pd.concat([pairs, transposed], ignore_index=True)
    grid = {
        name: grid_of(cells, "first", names, "second", names, name).to_numpy()
        for name in ("count", "verdict", *DETAILS)
    }
    counts: Float[ndarray, "row column"] = grid["count"].astype(float)
    stars = np.where(grid["verdict"] == ABOVE, "*", "")
    text = [
        ["" if np.isnan(n) else f"{n:,.0f}{star}" for n, star in zip(*row, strict=True)]
        for row in zip(counts, stars, strict=True)
    ]
    figure = heatmap(np.sqrt(grid["share"].astype(float)), names, names, hover=HOVER)
    many = len(names) > MOST_COUNTED
    figure.update_traces(
        zmax=1,
        customdata=np.stack([grid[name].astype(float) for name in DETAILS], axis=-1),
        text=text,
        texttemplate=None if many else "%{text}",
        textfont_size=12 if len(names) <= 8 else 9,
        colorbar={"tickvals": np.sqrt(TICKS).tolist(), "ticktext": [f"{tick:.0%}" for tick in TICKS], "title": "share"},
    )
    if shared is not None:
        shown = HOVER.replace("<extra>", "%{hovertext}<extra>")
        figure.update_traces(hovertext=_shared_names(shared, names), hovertemplate=shown)
    return figure


def _shared_names(shared: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """Hover text for every pair of relations: the best shared neurons."""
    listed = {}
    for relations, rows in shared.groupby("relations", sort=False):
        neurons = [f"{row.site}:L{row.layer}.N{row.index}" for row in rows.itertuples(index=False)]
        listed[frozenset(str(relations).split(", "))] = f"<br>{wrapped_label(name_list(neurons, most=MAX_NAMED), 60)}"
    return [[listed.get(frozenset((first, second)), "") for second in names] for first in names]
