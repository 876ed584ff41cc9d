"""One look for all figures: colours, names of measures, heights of rows, heatmaps, and labels that are never cut."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

OWN, OTHER, RANDOM = "#0072B2", "#E69F00", "#7F7F7F"
"""Colour-blind safe (Okabe and Ito): a relation's own facts, other relations' facts, random controls."""
RISE, GREEN, PURPLE, SKY = "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
"""The others of the same palette; the first says that something rises, or is lost."""
COLOURS = (OWN, OTHER, GREEN, RISE, PURPLE, SKY, RANDOM)
FAINT, EMPTY = "rgba(127,127,127,0.35)", "#D0D0D0"
GRID = "rgba(128,128,128,0.2)"
ZERO, INK = "#777", "#222222"
MEASURE_TITLES = {
    "logprob": "log-probability (nats)",
    "correct": "accuracy",
    "correct_prefix": "accuracy (2-token prefix rule)",
    "correct_string": "accuracy (string rule)",
}
"""What figures call a measure."""
MANY = 24
"""Rows beyond which they are drawn closer, and cells are too small for numbers."""
TITLE_WIDTH = 62
"""Letters in a line of a title, so that it fits 600 pixels and leaves room for the mode bar."""
TITLE_LINE = 20
BUTTONS: Mapping[str, Any] = {"bgcolor": "#F0F0F0", "bordercolor": "#999", "font": {"color": "#333"}}
"""Of menus: their text is dark on light on every page."""
TEMPLATE = go.layout.Template(
    layout={
        "font": {"size": 12, "color": "#808080"},
        "title": {"font": {"size": 15}},
        "colorway": COLOURS,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": "#999",
            "activecolor": OWN,
            "remove": ["zoom", "pan", "select", "lasso", "autoScale", "sendChartToCloud"],
        },
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "xref": "paper"},
        "hoverlabel": {"align": "left", "namelength": -1},
        "xaxis": {"automargin": True, "gridcolor": GRID, "zeroline": False, "ticks": "", "title": {"standoff": 12}},
        "yaxis": {"automargin": True, "gridcolor": GRID, "zeroline": False, "ticks": "", "title": {"standoff": 12}},
    },
    data={"heatmap": [{"colorbar": {"thickness": 12, "outlinewidth": 0, "ticks": ""}}]},
)
"""Readable on light and dark pages: mid-grey text, no background; the mode bar has no more buttons than fit beside a
title, and none that sends the figure anywhere."""


def heatmap(
    values: np.ndarray,
    rows: Sequence[object],
    columns: Sequence[object],
    *,
    hover: str,
    decimals: int | None = None,
    diverging: bool = False,
) -> go.Figure:
    """A matrix as colours, and as numbers where `decimals` are given; `diverging` colours are for signed values."""
    largest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    signed = {"colorscale": "RdBu", "zmin": -largest, "zmax": largest}
    scale = signed if diverging else {"colorscale": "Blues", "zmin": 0, "zmax": max(largest, 1.0)}
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(columns),
            y=list(rows),
            hovertemplate=hover,
            hoverongaps=False,
            texttemplate=f"%{{z:.{decimals}f}}" if decimals is not None else None,
            textfont={"size": 10},
            xgap=1,
            ygap=1,
            **scale,
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-45)
    return figure


def styled(figure: go.Figure, title: str, *, height: int, legend_rows: int = 1) -> go.Figure:
    """The look of all figures, under a title in as many lines as it needs.

    Args:
        figure: What is drawn.
        title: At the left edge of the page, not of the plot, whose place depends on the names beside it.
        height: In pixels, without title lines beyond the first, and without the legend.
        legend_rows: Rows to leave for the legend, on a page 700 pixels wide.
    """
    lines = textwrap.wrap(title, TITLE_WIDTH)
    more = TITLE_LINE * (len(lines) - 1) + 26 * legend_rows
    pad = {"t": 12 if len(lines) == 1 else 20, "l": 10}
    place = {"x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top", "pad": pad}
    return figure.update_layout(
        title={"text": "<br>".join(lines), **place},
        template=TEMPLATE,
        height=height + more,
        margin={"l": 10, "r": 10, "t": 40 + more, "b": 10},
    )


def raised(figure: go.Figure, pixels: int) -> go.Figure:
    """Room between the legend and what is below it."""
    height = figure.layout.height + pixels
    top = 36 + TITLE_LINE * figure.layout.title.text.count("<br>")
    legend = {"yref": "container", "y": 1 - top / height, "yanchor": "top"}
    return figure.update_layout(height=height, margin_t=figure.layout.margin.t + pixels, legend=legend)


def row_height(names: Sequence[object]) -> int:
    """Height of each of so many rows."""
    return 16 if len(names) > MANY else 30


def name_size(names: Sequence[object]) -> int:
    """Size of the letters of so many names."""
    return 9 if len(names) > MANY else 12


def beside_the_first(axis: Any) -> bool:
    """Whether an axis is not the first: those match it, and plotly warns of one that matches itself."""
    return axis.plotly_name not in ("xaxis", "yaxis")
