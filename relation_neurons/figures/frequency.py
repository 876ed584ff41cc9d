"""Document counts of the facts that are resilient and sensitive to ablation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import ENDS, empty_figure, error_bars, tick_text
from relation_neurons.figures.style import OTHER, OWN, RANDOM, ZERO, row_height, styled


def frequency_figure(table: pd.DataFrame) -> go.Figure:
    """Documents that mention subject and object of resilient and sensitive facts (Figure 23).

    Means are on a logarithmic axis whose left end stands for 0. Relative differences are drawn as
    ratios on a logarithmic axis, so that half and double are equally far from no difference;
    infinite ratios are at the edge.

    Args:
        table: Table of `frequency.compare_frequencies`.
    """
    title = "Document counts of resilient and sensitive facts"
    if table.empty:
        return empty_figure(title)
    rows = table.sort_values("relative_difference", kind="stable")
    figure = go.Figure().set_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.05)
    means = rows[["mean_resilient", "mean_sensitive"]].to_numpy(dtype=float)
    logs = np.log10(means[means > 0]) if (means > 0).any() else np.zeros(1)
    powers, positions = np.arange(np.floor(logs.min()), np.ceil(logs.max()) + 1), list(range(len(rows)))
    ticks = [10.0 ** (powers[0] - 1), *10.0 ** powers[:: 1 + len(powers) // 4]]
    for part, colour, symbol, shift in (("resilient", OWN, "circle", 0.1), ("sensitive", OTHER, "diamond", -0.1)):
        hover = rows["relation"] + rows[f"mean_{part}"].map("<br>{:,.4g} documents, n = ".format)
        figure.add_scatter(
            x=rows[f"mean_{part}"].clip(lower=ticks[0]),
            y=[position + shift for position in positions],
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=f"{part} facts, mean",
            hovertext=hover + rows[f"n_{part}"].map("{} facts".format),
            hoverinfo="text",
        )
    _add_ratios(figure, rows, positions)
    figure = styled(figure, title, height=120 + row_height(positions) * len(rows), legend_rows=2)
    labels = ["0", *map(tick_text, ticks[1:])]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=labels, tickangle=0, title="documents", col=1)
    return figure.update_yaxes(tickvals=positions, ticktext=list(rows["relation"]), range=[-0.6, len(rows) - 0.4])


def _add_ratios(figure: go.Figure, rows: pd.DataFrame, positions: Sequence[int]) -> None:
    """Add relative differences as ratios on a logarithmic axis; its edges stand for 0 and infinity."""
    name = "relative_difference"
    ratios = 1 + rows[[name, *(name + end for end in ENDS)]].astype(float)
    finite = ratios.where((ratios > 0) & np.isfinite(ratios)).to_numpy()
    edge = 0.1 + float(np.nanmax(np.abs(np.log10(finite)), initial=1.0))
    clipped = ratios.clip(10**-edge, 10**edge)
    hover = [
        f"{row['relation']}<br>{row[name]:+z.0%} [{row[name + '_low']:+z.0%}, {row[name + '_high']:+z.0%}]<br>"
        f"n = {row['n_resilient']} and {row['n_sensitive']} facts, p = {row['p']:.2g} (uncorrected)"
        for row in rows.to_dict("records")
    ]
    style = {"mode": "markers", "marker": {"color": RANDOM, "size": 8, "symbol": "square"}}
    figure.add_scatter(
        x=clipped[name],
        y=positions,
        error_x=error_bars(clipped, name),
        name="relative difference, 95 %",
        hovertext=hover,
        hoverinfo="text",
        cliponaxis=False,
        row=1,
        col=2,
        **style,
    )
    ticks = [0.1, 1, 10] if edge < 2 else [0.01, 1, 100] if edge < 3 else [0.001, 1, 1000]
    labels = ["0" if tick == 1 else f"{100 * (tick - 1):+,.4g} %" for tick in ticks]
    figure.add_vline(x=1, line_width=1, line_color=ZERO, col=2)
    figure.update_xaxes(type="log", range=[-edge, edge], tickvals=ticks, ticktext=labels, tickangle=0, col=2)
    figure.update_xaxes(title="resilient relative to sensitive", col=2)
