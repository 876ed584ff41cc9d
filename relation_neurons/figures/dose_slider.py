"""All relations at one number of ablated neurons, which a slider changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import ENDS, details, errors, measured, nothing, short
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
from relation_neurons.statistics.effects import NOT_SHOWN

Part = tuple[str, str, str, float, tuple[str, str]]
PARTS: tuple[Part, ...] = (
    ("random sets: mean and range", "random", RANDOM, -0.26, ("_min", "_max")),
    ("other facts, 95 %", "effect", OTHER, 0.0, ENDS),
    ("own facts, 95 % (filled: shown)", "effect", OWN, 0.26, ENDS),
)
"""Name, column, colour, place in the row, ends of the bars."""
SYMBOLS = ("square", "diamond", "circle")


def dose_slider_figure(
    effects: pd.DataFrame, others: pd.DataFrame | None = None, measure: str = "logprob"
) -> go.Figure:
    """What ablating each relation's best k neurons does, with a slider that moves k (the paper's Figure 5).

    Args:
        effects: From the experiment `sweep`.
        others: Its table of other relations' facts.
        measure: `logprob` or `correct`.

    Returns:
        A row per relation in the same order at every k, the deepest mean fall on top: own facts, other facts, and the
        mean and range of the random sets. The axis is the same at every k, so that what moves is the effect.
    """
    rows, title = measured(effects, measure, ["ablated", "k"]), f"Dose by dose: {MEASURE_TITLES[measure]}"
    if rows.empty:
        return nothing(title)
    other = rows.head(0) if others is None else measured(others, measure, ["ablated", "k"])
    order = list(rows.groupby("ablated", sort=False)["effect"].mean().sort_values(ascending=False, kind="stable").index)
    ks = sorted(rows["k"].unique().tolist())
    tables = (rows, other, rows)
    states = [_state([table[table["k"] == k] for table in tables], order) for k in ks]
    start = len(ks) // 2
    figure = go.Figure(_traces(states[start], len(order)))
    figure = styled(figure, title, height=170 + row_height(order) * len(order), legend_rows=2)
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    figure.update_xaxes(title="change", range=_reach(rows, other))
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=order, tickfont_size=name_size(order))
    figure.update_yaxes(range=[-0.6, len(order) - 0.4])
    return figure.update_layout(sliders=[_slider(ks, states, start)])


def _state(tables: Sequence[pd.DataFrame], order: Sequence[object]) -> dict[str, list[object]]:
    """What the traces show at one k: a list for each property, with an entry for each trace."""
    state: dict[str, list[object]] = {
        name: [] for name in ("x", "y", "error_x.array", "error_x.arrayminus", "hovertext", "marker.symbol")
    }
    for (_, column, _, shift, ends), symbol, table in zip(PARTS, SYMBOLS, tables, strict=True):
        known = table[table[column].notna()]
        bars = errors(known, column, ends)
        hollow = (known["verdict"] == NOT_SHOWN) & (symbol == "circle")
        names = known["ablated"].astype(str)
        k = known["k"].map("k = {:,}".format)
        said = [f"{a}, {b}<br>{c}" for a, b, c in zip(names, k, details(known), strict=True)]
        state["x"].append(known[column].tolist())
        state["y"].append([order.index(name) + shift for name in known["ablated"]])
        state["error_x.array"].append(pd.Series(bars["array"]).tolist())
        state["error_x.arrayminus"].append(pd.Series(bars["arrayminus"]).tolist())
        state["hovertext"].append(said)
        state["marker.symbol"].append([f"{symbol}-open" if one else symbol for one in hollow])
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
    """Steps that put other numbers into the same traces, so that what was switched off in the legend stays off."""
    traces = list(range(len(PARTS)))
    steps = [
        {"label": short(k), "method": "restyle", "args": [state, traces]} for k, state in zip(ks, states, strict=True)
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


def _reach(rows: pd.DataFrame, other: pd.DataFrame) -> list[float]:
    """What is drawn at any k, with a margin."""
    ends = ["effect", "effect_low", "effect_high"]
    drawn = [rows[[*ends, "random_min", "random_max"]].to_numpy(dtype=float), other[ends].to_numpy(dtype=float)]
    found = np.concatenate([table.ravel() for table in drawn])
    found = np.append(found[np.isfinite(found)], 0)
    return [found.min() - 0.04 * np.ptp(found), found.max() + 0.04 * np.ptp(found)]
