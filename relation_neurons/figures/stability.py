"""How far the neurons of two samples of the detection prompts agree."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import empty_figure, error_bars
from relation_neurons.figures.style import COLOURS, RANDOM, ZERO, styled
from relation_neurons.statistics.formatting import interval_text


def stability_figure(table: pd.DataFrame) -> go.Figure:
    """The share of a relation's neurons that two samples have in common, by scorer and kind of sample.

    Args:
        table: Table `stability` of the experiment of that name.

    Returns:
        A row per scorer: for each kind of sample a dot with its 95 % interval over relations, an open one where the
        relations are shuffled over the facts, and a tick for random sets in the same layers. The line is the share that
        random sets from all neurons have in common.
    """
    title = "Share of their neurons that two samples of the prompts have in common"
    if table.empty:
        return empty_figure(title)
    scorers, kinds = list(table["scorer"].unique()), list(table["kind"].unique())
    figure = go.Figure()
    for number, (kind, colour) in enumerate(zip(kinds, COLOURS, strict=False)):
        rows = table[table["kind"] == kind]
        offset = 0.7 * ((number + 0.5) / len(kinds) - 0.5)
        y = [scorers.index(scorer) + offset for scorer in rows["scorer"]]
        hover = [
            f"{row['scorer']}, {kind}<br>{interval_text(row, 'coefficient')}, relations shuffled "
            f"{interval_text(row, 'shuffled')}<br>by chance {row['expected']:.3f}, in the same layers "
            f"{row['expected_matched']:.3f}<br>k = {row['k']:,}, n = {row['n']} relations"
            for row in rows.to_dict("records")
        ]
        shared = {"mode": "markers", "y": y, "hovertext": hover, "hoverinfo": "text", "legendgroup": kind}
        tick = {"symbol": "line-ns-open", "size": 9, "color": RANDOM}
        figure.add_scatter(
            x=rows["expected_matched"], marker=tick, name=f"{kind}, by chance", showlegend=False, **shared
        )
        for column, symbol, name in (("shuffled", "circle-open", f"{kind}, shuffled"), ("coefficient", "circle", kind)):
            marker = {"color": colour, "size": 9, "symbol": symbol}
            bars = error_bars(rows, column)
            figure.add_scatter(x=rows[column], error_x=bars, marker=marker, name=name, **shared)
    figure.add_vline(x=float(table["expected"].iloc[0]), line_width=1, line_dash="dot", line_color=ZERO)
    figure.update_xaxes(title="share in common", range=[-0.02, 1.02])
    figure.update_yaxes(tickvals=list(range(len(scorers))), ticktext=scorers, range=[len(scorers) - 0.45, -0.55])
    return styled(figure, title, height=130 + 22 * len(kinds) * len(scorers), legend_rows=(2 * len(kinds) + 2) // 3)
