"""Common style of all figures: colours, names of measures, row heights and heatmaps."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

OWN, OTHER, RANDOM = "#0072B2", "#E69F00", "#7F7F7F"
"""Colour-blind safe palette of Okabe and Ito: own facts, other relations' facts, random controls."""
RISE, GREEN, PURPLE, SKY = "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
"""Other colours of the palette; the first marks increases and lost answers."""
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
"""Labels of measures."""
MANY = 24
"""Number of rows or columns beyond which they are drawn closer and cells hold no numbers."""
TITLE_WIDTH = 62
"""Characters per title line, which fits 600 pixels and leaves room for the mode bar."""
TITLE_LINE = 20
BUTTONS: Mapping[str, Any] = {"bgcolor": "#F0F0F0", "bordercolor": "#999", "font": {"color": "#333"}}
"""Style of menus: dark text on a light background on every page."""
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
"""Readable on light and dark pages: grey text, no background. The mode bar has only the buttons that
fit beside a title, and none that sends the figure to a server."""


def heatmap(
    values: np.ndarray,
    rows: Sequence[object],
    columns: Sequence[object],
    *,
    hover: str,
    decimals: int | None = None,
    diverging: bool = False,
) -> go.Figure:
    """Draw a matrix as a heatmap.

    Args:
        values: Matrix with one row per `rows` and one column per `columns`.
        rows: Labels or positions of the rows.
        columns: Labels or positions of the columns.
        hover: Hover template.
        decimals: Decimals of the numbers in the cells; by default the cells have no numbers.
        diverging: Whether to use a diverging colour scale, for signed values.
    """
    limit = robust_limit(values)
    scale = colour_range(values) if diverging else {"zmin": 0, "zmax": max(limit, 1.0)}
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
            colorscale="RdBu" if diverging else "Blues",
            **scale,
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-45)
    return figure


def robust_limit(values: np.ndarray) -> float:
    """Where colours end: the largest size, unless a few outliers would rule all other colours.

    Outliers are the largest 2 % of the sizes, at least one, where they are more than twice as large as all others.

    Example:
        >>> robust_limit(np.array([0.1, -0.2, 9.0])), robust_limit(np.array([0.1, -0.2, 0.3]))
        (0.2, 0.3)
    """
    sizes = np.sort(np.abs(values[np.isfinite(values)]))
    if not sizes.any():
        return 1.0
    others = sizes[: -max(1, len(sizes) // 50)]
    ruled = len(others) > 0 and 0 < 2 * others[-1] < sizes[-1]
    return float(sizes[sizes <= 2 * others[-1]][-1] if ruled else sizes[-1])


def colour_range(values: np.ndarray, *, diverging: bool = True, form: str = ".2g") -> dict[str, Any]:
    """The range of colours of a heatmap, and a colour bar that says where values lie beyond it.

    Args:
        values: All values, those on the diagonal included.
        diverging: Whether they are signed.
        form: Of numbers on the colour bar.
    """
    limit = robust_limit(values)
    lowest = -limit if diverging else 0.0
    scale: dict[str, Any] = {"zmin": lowest, "zmax": limit}
    if np.nanmax(np.abs(values), initial=0) > limit:
        ticks = [lowest, (lowest + limit) / 2, limit]
        texts = [format(tick, form) for tick in ticks]
        texts[-1] = f"≥ {texts[-1]}"
        texts[0] = f"≤ {texts[0]}" if diverging else texts[0]
        scale["colorbar"] = {"tickvals": ticks, "ticktext": texts}
    return scale


def styled(figure: go.Figure, title: str, *, height: int, legend_rows: int = 1) -> go.Figure:
    """Apply the common style and a title, which is wrapped if necessary.

    Args:
        figure: The figure.
        title: Placed at the left edge of the figure.
        height: Height in pixels, excluding the legend and title lines after the first.
        legend_rows: Rows to reserve for the legend on a page 700 pixels wide.
    """
    lines = textwrap.wrap(title, TITLE_WIDTH, break_on_hyphens=False)
    more = TITLE_LINE * (len(lines) - 1) + 26 * legend_rows
    pad = {"t": 12 if len(lines) == 1 else 20, "l": 10}
    place = {"x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top", "pad": pad}
    return figure.update_layout(
        title={"text": "<br>".join(lines), **place},
        template=TEMPLATE,
        height=height + more,
        margin={"l": 10, "r": 10, "t": 40 + more, "b": 10},
    )


def with_legend_space(figure: go.Figure, pixels: int) -> go.Figure:
    """Add space below the legend."""
    height = figure.layout.height + pixels
    top = 36 + TITLE_LINE * figure.layout.title.text.count("<br>")
    legend = {"yref": "container", "y": 1 - top / height, "yanchor": "top"}
    return figure.update_layout(height=height, margin_t=figure.layout.margin.t + pixels, legend=legend)


def row_height(names: Sequence[object]) -> int:
    """Height of a row in pixels, given all row names."""
    return 16 if len(names) > MANY else 30


def name_size(names: Sequence[object]) -> int:
    """Font size of row or column names, given all of them."""
    return 9 if len(names) > MANY else 12


def is_not_first_axis(axis: Any) -> bool:
    """Whether an axis is not the first one; plotly warns about an axis that matches itself."""
    return axis.plotly_name not in ("xaxis", "yaxis")
