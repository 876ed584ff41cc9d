"""The neurons of a relation as points: score against the effect of ablating each, beside random neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import nearest, refuse
from relation_neurons.figures.style import FAINT, OTHER, RANDOM, RISE, TEMPLATE, ZERO
from relation_neurons.statistics.formatting import interval_text

AXES: Mapping[str, str] = {
    "score": "score that the run ranked by",
    "ap": "average precision",
    "layer": "layer",
}
"""Columns that may be the horizontal axis."""
EFFECT = "attributed effect (nats)"
HEIGHT = 430
"""Of the figure, in pixels."""


def scatter_figure(
    rows: pd.DataFrame, axis: str = "score", *, basket: Sequence[str] = (), selected: str | None = None
) -> go.Figure:
    """Draw the neurons of a relation.

    Points further down lower the log-probability of the relation's objects more when they are ablated, as estimated
    from the derivative. The colour is the layer. Random neurons, as many in each layer, are grey, and the grey band
    holds the central 95 % of their effects.

    Args:
        rows: Of one relation in the table `neurons` of its cards.
        axis: Of `AXES`; random neurons have no score that the run ranked by.
        basket: Neurons to mark with an orange ring.
        selected: A neuron to mark with a cross.

    Raises:
        RelationNeuronsError: An unknown axis.
    """
    if axis not in AXES:
        raise refuse(f"The axis is '{axis}'", expected=nearest(axis, AXES))
    figure = go.Figure()
    chosen, random = (rows[rows["kind"] == kind] for kind in ("chosen", "random"))
    low, high = random["effect"].quantile([0.025, 0.975])
    figure.add_hrect(y0=low, y1=high, fillcolor=FAINT, opacity=0.5, line_width=0, layer="below")
    if axis != "score":
        grey = {"color": RANDOM, "size": 6, "opacity": 0.45}
        figure.add_scatter(**_points(random, axis), marker=grey, name=f"random, same layers ({len(random)})")
    colours: dict[str, Any] = {"color": chosen["layer"], "colorscale": "Viridis", "size": 9, "opacity": 0.9}
    colours |= {"line": {"width": 0.5, "color": "#fff"}}
    if axis != "layer":
        colours |= {"colorbar": {"title": {"text": "layer"}, "thickness": 10, "outlinewidth": 0, "x": 1.01}}
    figure.add_scatter(**_points(chosen, axis), marker=colours, name=f"the relation's best ({len(chosen)})")
    held = rows[rows["neuron"].isin(basket) & ((rows["kind"] == "chosen") | (axis != "score"))]
    ring = {"symbol": "circle-open", "size": 15, "color": OTHER, "line": {"width": 2.5}}
    figure.add_scatter(
        x=held[axis], y=held["effect"], mode="markers", marker=ring, name="in the basket", hoverinfo="skip"
    )
    at = rows[(rows["neuron"] == selected) & ((rows["kind"] == "chosen") | (axis != "score"))]
    cross = {"symbol": "x-thin", "size": 18, "color": RISE, "line": {"width": 2.5, "color": RISE}}
    figure.add_scatter(x=at[axis], y=at["effect"], mode="markers", marker=cross, name="on the card", hoverinfo="skip")
    figure.add_hline(y=0, line_width=1, line_color=ZERO)
    figure.update_xaxes(title=AXES[axis]).update_yaxes(title=EFFECT)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(
        template=TEMPLATE, height=HEIGHT, margin={"l": 8, "r": 8, "t": 34, "b": 8}, legend=legend, uirevision=axis
    )


def _points(rows: pd.DataFrame, axis: str) -> dict[str, Any]:
    return {
        "x": rows[axis],
        "y": rows["effect"],
        "mode": "markers",
        "customdata": rows["neuron"],
        "hovertext": [_hover(row) for row in rows.to_dict("records")],
        "hoverinfo": "text",
    }


def _hover(row: Mapping[Any, Any]) -> str:
    ranked = f"rank {row['rank']}, score {row['score']:.3f}"
    about = ranked if row["kind"] == "chosen" else "random neuron of a layer with chosen ones"
    return (
        f"{row['neuron']}<br>{about}<br>average precision {row['ap']:.3f}<br>"
        f"attributed effect {interval_text(row, decimals=4)} nats, n = {row['n']} facts"
    )


def picks(rows: pd.DataFrame) -> list[dict[str, str]]:
    """The chosen neurons as the options of a list, best first."""
    chosen = rows[rows["kind"] == "chosen"]
    return [
        {"label": f"{row['rank']}. {row['neuron']}  (average precision {row['ap']:.2f})", "value": row["neuron"]}
        for row in chosen.to_dict("records")
    ]


def clicked(click: Mapping[str, Any] | None) -> str | None:
    """The neuron of a click on a point, as Dash reports it; None beside all points."""
    points = (click or {}).get("points") or [{}]
    found = points[0].get("customdata")
    return found if isinstance(found, str) else None
