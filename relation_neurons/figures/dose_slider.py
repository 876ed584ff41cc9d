"""Effects in all relations at one number of ablated neurons, selected by a slider."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import (
    ENDS,
    empty_figure,
    error_bars,
    hover_texts,
    range_with_margin,
    rows_of_measure,
    tick_text,
)
from relation_neurons.figures.style import (
    GRID,
    MANY,
    MEASURE_TITLES,
    OTHER,
    OWN,
    RANDOM,
    ZERO,
    name_size,
    row_height,
    styled,
)
from relation_neurons.statistics.effects import SHOWN

Part = tuple[str, str, str, float, tuple[str, str]]
PARTS: tuple[Part, ...] = (
    ("random controls: mean and range", "random", RANDOM, -0.26, ("_min", "_max")),
    ("other relations' facts, 95 %", "effect", OTHER, 0.0, ENDS),
    ("own facts, 95 % (filled: significant)", "effect", OWN, 0.26, ENDS),
)
"""Label, column, colour, offset within the row, and suffixes of the columns of the error bars."""
SYMBOLS = ("square", "diamond", "circle")


def dose_slider_figure(
    effects: pd.DataFrame, others: pd.DataFrame | None = None, measure: str = "logprob"
) -> go.Figure:
    """Effects of ablating each relation's best k neurons, with a slider for k (the paper's Figure 5).

    Args:
        effects: Table `effects` of the experiment `sweep`.
        others: Table `others` of the same experiment, the effects on other relations' facts.
        measure: `logprob` or `correct`.

    Returns:
        A row per relation, the largest mean decrease on top: own facts, other relations' facts, and
        mean and range of the random controls. Rows and axis are the same at every k.
    """
    rows = rows_of_measure(effects, measure, ["ablated", "k"])
    title = f"Effects by number of ablated neurons: {MEASURE_TITLES[measure]}"

    if rows.empty:
        return empty_figure(title)
    other = rows.head(0) if others is None else rows_of_measure(others, measure, ["ablated", "k"])
    order = list(rows.groupby("ablated", sort=False)["effect"].mean().sort_values(ascending=False, kind="stable").index)
    ks = sorted(rows["k"].unique().tolist())
    tables = (rows, other, rows)
    states = [_state([table[table["k"] == k] for table in tables], order) for k in ks]
    start = len(ks) // 2
    figure = go.Figure(_traces(states[start], len(order)))
    figure = styled(figure, title, height=170 + row_height(order) * len(order), legend_rows=2)
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    figure.update_xaxes(title="change", range=_axis_range(rows, other))
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=order, tickfont_size=name_size(order))
    figure.update_yaxes(range=[-0.6, len(order) - 0.4])
    return figure.update_layout(sliders=[_slider(ks, states, start)])


def _state(tables: Sequence[pd.DataFrame], order: Sequence[object]) -> dict[str, list[object]]:
    """Data of the traces at one k: a list for each property, with one entry per trace."""
    state: dict[str, list[object]] = {
        name: [] for name in ("x", "y", "error_x.array", "error_x.arrayminus", "hovertext", "marker.symbol")
    }
    for (_, column, _, shift, ends), symbol, table in zip(PARTS, SYMBOLS, tables, strict=True):
        rows = table[table[column].notna()]
        bars = error_bars(rows, column, ends)
        is_hollow = ~rows["verdict"].isin(SHOWN) & (symbol == "circle")
        names, ks = rows["ablated"].astype(str), rows["k"].map("k = {:,}".format)
        texts = [f"{name}, {k}<br>{text}" for name, k, text in zip(names, ks, hover_texts(rows), strict=True)]
        state["x"].append(rows[column].tolist())
        state["y"].append([order.index(name) + shift for name in rows["ablated"]])
        state["error_x.array"].append(pd.Series(bars["array"]).tolist())
        state["error_x.arrayminus"].append(pd.Series(bars["arrayminus"]).tolist())
        state["hovertext"].append(texts)
        state["marker.symbol"].append([f"{symbol}-open" if hollow else symbol for hollow in is_hollow])
    return state


def _traces(state: dict[str, list[object]], n_rows: int) -> list[go.Scatter]:
    size = 6 if n_rows > MANY else 8
    return [
        go.Scatter(
            x=state["x"][number],
            y=state["y"][number],
            error_x={
                "array": state["error_x.array"][number],
                "arrayminus": state["error_x.arrayminus"][number],
                "thickness": 1.5,
                "width": 3,
            },
            mode="markers",
            marker={"color": colour, "size": size, "symbol": state["marker.symbol"][number]},
            name=name,
            hovertext=state["hovertext"][number],
            hoverinfo="text",
        )
        for number, (name, _, colour, _, _) in enumerate(PARTS)
    ]


def _slider(ks: Sequence[int], states: Sequence[dict[str, list[object]]], start: int) -> dict[str, object]:
    """A slider that updates the same traces, so that traces hidden in the legend stay hidden."""
    traces = list(range(len(PARTS)))
    steps = [
        {"label": tick_text(k), "method": "restyle", "args": [state, traces]}
        for k, state in zip(ks, states, strict=True)
    ]
    return {
        "steps": steps,
        "active": start,
        "currentvalue": {"prefix": "neurons ablated: ", "font": {"size": 13}},
        "pad": {"t": 46, "b": 6},
        "bgcolor": GRID,
        "bordercolor": RANDOM,
        "activebgcolor": OWN,
        "tickcolor": RANDOM,
    }


def _axis_range(rows: pd.DataFrame, other: pd.DataFrame) -> list[float]:
    """Range of all data at any k, with a margin."""
    ends = ["effect", "effect_low", "effect_high"]
    tables = [rows[[*ends, "random_min", "random_max"]].to_numpy(dtype=float), other[ends].to_numpy(dtype=float)]
    values = np.concatenate([table.ravel() for table in tables])
    return range_with_margin(values)
