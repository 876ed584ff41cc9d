"""How often documents name the facts that resist ablating, and those that do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import ENDS, errors, nothing, short
from relation_neurons.figures.style import OTHER, OWN, RANDOM, ZERO, row_height, styled


def frequency_figure(table: pd.DataFrame) -> go.Figure:
    """Documents that name both sides of resilient and of sensitive facts (the paper's Figure 23).

    Args:
        table: From `frequency.compare_frequencies`. Means are on a logarithmic axis that begins with 0. Differences are
            drawn as ratios, so that half and double are equally far from none; what is infinite ends at the edge.
    """
    title = "Documents of resilient and sensitive facts"
    if table.empty:
        return nothing(title)
    rows = table.sort_values("relative_difference", kind="stable")
    figure = go.Figure().set_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.05)
    means = rows[["mean_resilient", "mean_sensitive"]].to_numpy(dtype=float)
    logs = np.log10(means[means > 0]) if (means > 0).any() else np.zeros(1)
    powers, places = np.arange(np.floor(logs.min()), np.ceil(logs.max()) + 1), list(range(len(rows)))
    ticks = [10.0 ** (powers[0] - 1), *10.0 ** powers[:: 1 + len(powers) // 4]]
    for part, colour, symbol, shift in (("resilient", OWN, "circle", 0.1), ("sensitive", OTHER, "diamond", -0.1)):
        hover = rows["relation"] + rows[f"mean_{part}"].map("<br>{:,.4g} documents, n = ".format)
        figure.add_scatter(
            x=rows[f"mean_{part}"].clip(lower=ticks[0]),
            y=[place + shift for place in places],
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=f"{part} facts, mean",
            hovertext=hover + rows[f"n_{part}"].map("{} facts".format),
            hoverinfo="text",
        )
    _add_ratios(figure, rows, places)
    figure = styled(figure, title, height=120 + row_height(places) * len(rows), legend_rows=2)
    labels = ["0", *map(short, ticks[1:])]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=labels, tickangle=0, title="documents", col=1)
    return figure.update_yaxes(tickvals=places, ticktext=list(rows["relation"]), range=[-0.6, len(rows) - 0.4])


def _add_ratios(figure: go.Figure, rows: pd.DataFrame, places: Sequence[int]) -> None:
    """Relative differences as ratios on a logarithmic axis, whose edges stand for nothing and for infinity."""
    name = "relative_difference"
    ratios = 1 + rows[[name, *(name + end for end in ENDS)]].astype(float)
    finite = ratios.where((ratios > 0) & np.isfinite(ratios)).to_numpy()
    edge = 0.1 + float(np.nanmax(np.abs(np.log10(finite)), initial=1.0))
    drawn = ratios.clip(10**-edge, 10**edge)
    hover = [
        f"{row['relation']}<br>{row[name]:+.0%} [{row[name + '_low']:+.0%}, {row[name + '_high']:+.0%}]<br>"
        f"n = {row['n_resilient']} and {row['n_sensitive']} facts, p = {row['p']:.2g} (uncorrected)"
        for row in rows.to_dict("records")
    ]
    mark = {"mode": "markers", "marker": {"color": RANDOM, "size": 8, "symbol": "square"}}
    figure.add_scatter(
        x=drawn[name],
        y=places,
        error_x=errors(drawn, name),
        name="relative difference, 95 %",
        hovertext=hover,
        hoverinfo="text",
        cliponaxis=False,
        row=1,
        col=2,
        **mark,
    )
    ticks = [0.1, 1, 10] if edge < 2 else [0.01, 1, 100] if edge < 3 else [0.001, 1, 1000]
    labels = ["0" if tick == 1 else f"{100 * (tick - 1):+,.4g} %" for tick in ticks]
    figure.add_vline(x=1, line_width=1, line_color=ZERO, col=2)
    figure.update_xaxes(type="log", range=[-edge, edge], tickvals=ticks, ticktext=labels, tickangle=0, col=2)
    figure.update_xaxes(title="resilient against sensitive", col=2)
