"""Curves of faithfulness and completeness, and the log-odds that a relation's neurons induce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import empty_figure, error_bars, hover_texts, tick_text, with_one_legend
from relation_neurons.figures.style import COLOURS, INK, RANDOM, ZERO, row_height, styled
from relation_neurons.statistics.effects import SHOWN
from relation_neurons.statistics.formatting import interval_text

IDEAL = {"faithfulness": 1, "completeness": 0}
"""What each panel shows, and the best value at few neurons."""


def faithfulness_figure(average: pd.DataFrame) -> go.Figure:
    """Faithfulness and completeness by number of neurons and scorer: means over relations, with 95 % intervals.

    Dashed lines are the means of matched random controls.

    Args:
        average: Table `average` of the experiment `faithfulness`.
    """
    title = "Faithfulness and completeness by number of neurons"
    rows = average.dropna(subset=[*IDEAL]) if len(average) else average
    if rows.empty:
        return empty_figure(title)
    figure = go.Figure().set_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06)
    for number, (name, ideal) in enumerate(IDEAL.items(), start=1):
        for (scorer, group), colour in zip(rows.groupby("scorer", sort=False), cycle(COLOURS), strict=False):
            figure.add_traces(list(_curves(group.sort_values("k"), name, str(scorer), colour)), rows=number, cols=1)
        figure.add_hline(y=ideal, line={"width": 1, "dash": "dot", "color": ZERO}, row=number, col=1)
        figure.update_yaxes(title=name, row=number)
    figure = styled(figure, title, height=480, legend_rows=rows["scorer"].nunique())
    ks = sorted(rows["k"].unique())
    ticks = [k for k in (10**power for power in range(9)) if ks[0] <= k <= ks[-1]]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[tick_text(tick) for tick in ticks])
    return with_one_legend(figure.update_xaxes(title="neurons kept or ablated", row=2))


def induction_figure(induction: pd.DataFrame) -> go.Figure:
    """Change in log-odds of each relation's first tokens with its neurons on: 95 % over facts, and the controls' range.

    Args:
        induction: Table `induction` of the experiment `faithfulness`; filled bars are significant after Holm.
    """
    title = "Answers induced behind other relations' prompts"
    if induction.empty:
        return empty_figure(title)
    names, figure = list(dict.fromkeys(induction["induced"]))[::-1], go.Figure()
    groups = list(zip(induction.groupby("scorer", sort=False), cycle(COLOURS[:-1]), strict=False))
    for place, ((scorer, rows), colour) in enumerate(groups[::-1]):
        height = 0.8 / len(groups)
        centres = [names.index(name) - 0.4 + (place + 0.5) * height for name in rows["induced"]]
        figure.add_bar(
            x=rows["effect"],
            y=[centre + 0.12 * height for centre in centres],
            orientation="h",
            width=0.6 * height,
            error_x=error_bars(rows, "effect") | {"color": INK},
            marker={
                "color": colour,
                "opacity": [1.0 if shown else 0.4 for shown in rows["verdict"].isin(SHOWN)],
            },
            name=str(scorer),
            hovertext=[f"{scorer}: {text}" for text in hover_texts(rows)],
            hoverinfo="text",
        )
        ends = rows.rename(columns={"random_min": "random_low", "random_max": "random_high"})
        figure.add_scatter(
            x=rows["random"],
            y=[centre - 0.32 * height for centre in centres],
            error_x=error_bars(ends, "random") | {"color": RANDOM},
            mode="markers",
            marker={"symbol": "line-ns-open", "size": 8, "color": RANDOM},
            name="random controls, mean and range",
            hoverinfo="skip",
        )
    figure = styled(figure, title, height=110 + len(groups) * row_height(names) * len(names), legend_rows=2)
    figure.update_layout(barmode="overlay", legend_traceorder="reversed", xaxis_title="change in log-odds (nats)")
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4])
    return with_one_legend(figure)


def _curves(rows: pd.DataFrame, name: str, scorer: str, colour: str) -> Iterator[go.Scatter]:
    """A scorer's curve, and that of its controls."""
    style: dict[str, Any] = {"x": rows["k"], "mode": "lines+markers", "hoverinfo": "text"}
    yield go.Scatter(
        y=rows[name],
        error_y=error_bars(rows, name),
        line={"color": colour, "width": 2},
        name=scorer,
        hovertext=[_text(row, name, scorer) for row in rows.to_dict("records")],
        **style,
    )
    yield go.Scatter(
        y=rows[f"random_{name}"],
        line={"color": colour, "width": 1, "dash": "dash"},
        marker={"size": 3},
        name=f"{scorer}: random controls",
        hovertext=[f"k = {k:,}<br>{value:.3f}" for k, value in zip(rows["k"], rows[f"random_{name}"], strict=True)],
        **style,
    )


def _text(row: Mapping[Any, Any], name: str, scorer: str) -> str:
    share = f"{row['share']:.2%} of all"
    return f"{scorer}, k = {row['k']:,}, {share}<br>{interval_text(row, name, decimals=3)}<br>n = {row['n']} relations"
