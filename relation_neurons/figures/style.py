"""One look for all figures: colours, heatmaps, and labels that are never cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

OWN, OTHER, RANDOM = "#0072B2", "#E69F00", "#7F7F7F"
"""Colour-blind safe (Okabe and Ito): a relation's own facts, other relations' facts, random controls."""
GRID = "rgba(128,128,128,0.2)"


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
            colorbar={"thickness": 12},
            xgap=1,
            ygap=1,
            **scale,
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-45)
    return figure


def styled(figure: go.Figure, title: str, *, height: int, legend_rows: int = 1) -> go.Figure:
    """One look for all figures: readable on light and dark pages, labels never cut."""
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 12}},
        template="plotly_white",
        font={"size": 12, "color": "#808080"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#999", "activecolor": OWN},
        title_font_size=15,
        height=height + 26 * legend_rows,
        margin={"l": 10, "r": 10, "t": 40 + 26 * legend_rows, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "xref": "paper"},
    )
    figure.update_xaxes(automargin=True, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(automargin=True, gridcolor=GRID, zeroline=False)
    return figure
