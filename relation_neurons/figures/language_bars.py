"""Bars of what the model knows as it is, each with a line to where ablating leaves it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import COLUMNS, details, keyed, measured, nothing
from relation_neurons.figures.style import (
    FAINT,
    MEASURE_TITLES,
    OWN,
    RANDOM,
    RISE,
    name_size,
    raised,
    row_height,
    styled,
)
from relation_neurons.statistics.effects import NOT_SHOWN


def language_bars_figure(effects: pd.DataFrame, measure: str = "correct") -> go.Figure:
    """What the model knows in each language, and where ablating leaves it (the paper's Figures 7 and 19).

    Args:
        effects: From the experiment `languages`; filled marks are shown after Holm's correction.
        measure: `logprob` or `correct`.

    Returns:
        A panel for each language. In each a bar per relation for the model as it is, a line from its end to where
        ablating the relation's neurons leaves it (blue where it falls, orange where it rises), and a grey tick where
        random neurons leave it.
    """
    rows, title = (
        measured(effects, measure, ["ablated", "language"]),
        f"In each language, before and after: {MEASURE_TITLES[measure]}",
    )
    if rows.empty:
        return nothing(title)
    names, languages = list(rows["ablated"].unique()), list(rows["language"].unique())
    columns = min(COLUMNS, len(languages))
    n_rows = -(-len(languages) // columns)
    height = 60 + n_rows * (60 + _height(names))
    figure = go.Figure().set_subplots(
        n_rows,
        columns,
        shared_xaxes="all",
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=44 / height if n_rows > 1 else 0,
        subplot_titles=languages,
    )
    for number, language in enumerate(languages):
        row, column = divmod(number, columns)
        traces = _panel(rows[rows["language"] == language], names)
        figure.add_traces(traces, rows=row + 1, cols=column + 1)
        if number >= len(languages) - columns:
            figure.update_xaxes(title=MEASURE_TITLES[measure], showticklabels=True, row=row + 1, col=column + 1)
    figure.update_layout(barmode="overlay")
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, tickfont_size=name_size(names))
    figure.update_yaxes(range=[len(names) - 0.4, -0.6], showgrid=False)
    return keyed(raised(styled(figure, title, height=height, legend_rows=2), 24))


def _height(names: Sequence[object]) -> int:
    """Of a panel; rows of bars may be closer than rows of marks with bars."""
    return min(22, row_height(names)) * len(names)


def _panel(rows: pd.DataFrame, names: Sequence[object]) -> list[go.Bar | go.Scatter]:
    """The bars of one language, the lines and the marks."""
    rows = rows.assign(place=[names.index(name) for name in rows["ablated"]], after=rows["clean"] + rows["effect"])
    rows["hover"] = [
        f"{name}<br>{before:.3f} [{low:.3f}, {high:.3f}] before, {after:.3f} after<br>{text}"
        for name, before, low, high, after, text in zip(
            rows["ablated"],
            rows["clean"],
            *(rows.get(f"clean{end}", rows["clean"]) for end in ("_low", "_high")),
            rows["after"],
            details(rows),
            strict=True,
        )
    ]
    hover = {"hovertext": rows["hover"], "hoverinfo": "text"}
    before = {"orientation": "h", "marker_color": FAINT, "width": 0.8, "name": "the model as it is"}
    drawn: list[go.Bar | go.Scatter] = [go.Bar(x=rows["clean"], y=rows["place"], **before, **hover)]
    for name, chosen, colour in (("falls", rows["effect"] <= 0, OWN), ("rises", rows["effect"] > 0, RISE)):
        drawn += _drops(rows[chosen], f"{name} (filled: shown)", colour)
    controls = rows[rows["random"].notna()]
    tick = {"symbol": "line-ns-open", "size": 11, "color": RANDOM, "line": {"width": 2}}
    drawn.append(
        go.Scatter(
            x=controls["clean"] + controls["random"],
            y=controls["place"],
            mode="markers",
            marker=tick,
            name="random neurons ablated (mean)",
            legendgroup="random",
            hovertext=controls["hover"],
            hoverinfo="text",
        )
    )
    return drawn


def _drops(rows: pd.DataFrame, name: str, colour: str) -> list[go.Scatter]:
    """Lines from before to after, and marks at their ends."""
    look = {"name": name, "legendgroup": name}
    ends = [end for pair in zip(rows["clean"], rows["after"], strict=True) for end in (*pair, None)]
    places = [place for place in rows["place"] for _ in range(3)]
    line = {"color": colour, "width": 2}
    symbols = ["circle-open" if verdict == NOT_SHOWN else "circle" for verdict in rows["verdict"]]
    marker = {"color": colour, "size": 8, "symbol": symbols, "line": {"width": 2, "color": colour}}
    return [
        go.Scatter(x=ends, y=places, mode="lines", line=line, legendgroup=name, hoverinfo="skip", showlegend=False),
        go.Scatter(
            x=rows["after"],
            y=rows["place"],
            mode="markers",
            marker=marker,
            hovertext=rows["hover"],
            hoverinfo="text",
            **look,
        ),
    ]
