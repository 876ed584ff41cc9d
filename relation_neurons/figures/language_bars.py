"""Performance in each language without ablation, and its change under ablation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import COLUMNS, empty_figure, hover_texts, rows_of_measure, with_one_legend
from relation_neurons.figures.style import (
    FAINT,
    MEASURE_TITLES,
    OWN,
    RANDOM,
    RISE,
    name_size,
    row_height,
    styled,
    with_legend_space,
)
from relation_neurons.statistics.effects import SHOWN


def language_bars_figure(effects: pd.DataFrame, measure: str = "correct") -> go.Figure:
    """Performance in each language before and after ablation (the paper's Figures 7 and 19).

    Args:
        effects: Table `effects` of the experiment `languages`; filled marks are significant after Holm.
        measure: `logprob` or `correct`.

    Returns:
        A panel per language. In each, a bar per relation for the unablated model, a line from its end
        to the value with the relation's neurons ablated (blue for a decrease, orange for an
        increase), and a grey tick at the value with random neurons ablated.
    """
    rows, title = (
        rows_of_measure(effects, measure, ["ablated", "language"]),
        f"Before and after ablation by language: {MEASURE_TITLES[measure]}",
    )
    if rows.empty:
        return empty_figure(title)
    names, languages = list(rows["ablated"].unique()), list(rows["language"].unique())
    columns = min(COLUMNS, len(languages))
    n_rows = -(-len(languages) // columns)
    height = 60 + n_rows * (60 + _panel_height(names))
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
    return with_one_legend(with_legend_space(styled(figure, title, height=height, legend_rows=2), 24))


def _panel_height(names: Sequence[object]) -> int:
    """Height of a panel in pixels; rows of bars can be closer than rows of marks."""
    return min(22, row_height(names)) * len(names)


def _panel(rows: pd.DataFrame, names: Sequence[object]) -> list[go.Bar | go.Scatter]:
    """Bars, lines and marks of one language."""
    rows = rows.assign(place=[names.index(name) for name in rows["ablated"]], after=rows["clean"] + rows["effect"])
    rows["hover"] = [
        f"{name}<br>{before:.3f} [{low:.3f}, {high:.3f}] before, {after:.3f} after<br>{text}"
        for name, before, low, high, after, text in zip(
            rows["ablated"],
            rows["clean"],
            *(rows.get(f"clean{end}", rows["clean"]) for end in ("_low", "_high")),
            rows["after"],
            hover_texts(rows),
            strict=True,
        )
    ]
    hover = {"hovertext": rows["hover"], "hoverinfo": "text"}
    before = {"orientation": "h", "marker_color": FAINT, "width": 0.8, "name": "without ablation"}
    traces: list[go.Bar | go.Scatter] = [go.Bar(x=rows["clean"], y=rows["place"], **before, **hover)]
    for name, selected, colour in (("decrease", rows["effect"] <= 0, OWN), ("increase", rows["effect"] > 0, RISE)):
        traces += _changes(rows[selected], f"{name} (filled: significant)", colour)
    controls = rows[rows["random"].notna()]
    tick = {"symbol": "line-ns-open", "size": 11, "color": RANDOM, "line": {"width": 2}}
    traces.append(
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
    return traces


def _changes(rows: pd.DataFrame, name: str, colour: str) -> list[go.Scatter]:
    """Lines from before to after ablation, and marks at their ends."""
    style = {"name": name, "legendgroup": name}
    ends = [end for pair in zip(rows["clean"], rows["after"], strict=True) for end in (*pair, None)]
    places = [place for place in rows["place"] for _ in range(3)]
    line = {"color": colour, "width": 2}
    symbols = ["circle" if verdict in SHOWN else "circle-open" for verdict in rows["verdict"]]
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
            **style,
        ),
    ]
