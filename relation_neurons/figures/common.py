"""What figures of tested effects share: their rows, error bars, marks, menus and names."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import nearest, refuse
from relation_neurons.figures.style import BUTTONS, MANY, heatmap, name_size, raised, row_height, styled
from relation_neurons.statistics.effects import LEVEL, NOT_SHOWN
from relation_neurons.statistics.formatting import interval_text

MEASURES = ("logprob", "correct")
"""Of tables of tested effects."""
NUMBERED = 8
"""Columns up to which cells hold numbers."""
TESTED = ("n", "effect", "effect_low", "effect_high", "n_controls", "random", "random_min", "random_max")
SHOWN = ("p_holm", "p_bh", "verdict")
ENDS = ("_low", "_high")
COLUMNS = 3
"""Small panels beside each other, so that they are legible on a narrow page."""


def measured(
    table: pd.DataFrame, measure: str, cell: Sequence[str], needed: Sequence[str] = (*TESTED, *SHOWN)
) -> pd.DataFrame:
    """The rows of a measure, one for each `cell`."""
    if measure not in MEASURES:
        raise refuse(f"'{measure}' is no measure", expected=nearest(measure, MEASURES))
    columns = [*cell, "measure", *needed]
    if table.empty:
        return table.reindex(columns=columns)
    if missing := [name for name in columns if name not in table]:
        raise refuse(f"The table has no column {', '.join(missing)}", expected=f"the columns {', '.join(columns)}")
    rows = table[table["measure"] == measure]
    if rows.duplicated(list(cell)).any():
        raise refuse(
            f"The table has several rows for the same {' and '.join(cell)}",
            expected="one",
            do="choose the rows of one value of its other columns, or name such a column as panel",
        )
    return rows


def nothing(title: str, why: str = "nothing to draw") -> go.Figure:
    """A figure that says that there is nothing."""
    figure = go.Figure().add_annotation(text=why, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    return styled(figure, title, height=120, legend_rows=0).update_xaxes(visible=False).update_yaxes(visible=False)


def details(rows: pd.DataFrame) -> list[str]:
    """What the pointer shows of tested effects."""
    found = []
    for row in rows.to_dict("records"):
        controls = "no controls"
        if row["n_controls"]:
            controls = f"{row['n_controls']:.0f} random sets {row['random']:+.3f} "
            controls += f"({row['random_min']:+.3f} to {row['random_max']:+.3f})"
        p = f"p = {row['p_holm']:.2g} (Holm), {row['p_bh']:.2g} (Benjamini-Hochberg)"
        found.append(
            f"{interval_text(row, decimals=3)}, n = {row['n']:.0f} facts<br>{controls}<br>{row['verdict']}, {p}"
        )
    return found


def errors(rows: pd.DataFrame, name: str, ends: Sequence[str] = ENDS) -> dict[str, object]:
    """Error bars of a column; an end that is infinite or unknown is not drawn."""
    value = rows[name].astype(float)
    low, high = (rows[name + end].astype(float).replace([np.inf, -np.inf], np.nan).fillna(value) for end in ends)
    return {"array": high - value, "arrayminus": value - low, "thickness": 1.5, "width": 3}


def marked_matrix(
    cells: pd.DataFrame, row: str, rows: Sequence[object], column: str, columns: Sequence[object], title: str
) -> go.Figure:
    """Signed effects as colours, a star where Holm's correction shows one and a dot where only the other does."""
    numbered, names, across = len(columns) <= NUMBERED, list(rows), list(columns)
    effects, hover = (
        cells.assign(hover=details(cells)).pivot(index=row, columns=column, values=value).reindex(names, columns=across)
        for value in ("effect", "hover")
    )
    figure = heatmap(
        effects.to_numpy(dtype=float),
        range(len(names)),
        range(len(across)),
        hover=f"{row} %{{y}}, {column} %{{x}}<br>%{{hovertext}}<extra></extra>",
        decimals=2 if numbered else None,
        diverging=True,
    )
    figure.update_traces(hovertext=hover.to_numpy())
    shown, (right, up) = (
        cells["verdict"] != NOT_SHOWN,
        (0.4 if numbered else 0, 0.28 if numbered and len(names) <= MANY else 0),
    )
    by_other = ~shown & (cells["p_bh"] < LEVEL)
    size = 7 if len(across) > MANY else 10
    kinds = {"shown (Holm)": (shown, "star", size), "only by Benjamini-Hochberg": (by_other, "circle", size / 2)}
    for name, (chosen, symbol, wide) in kinds.items():
        figure.add_scatter(
            x=[across.index(value) + right for value in cells.loc[chosen, column]],
            y=[names.index(value) - up for value in cells.loc[chosen, row]],
            mode="markers",
            marker={"symbol": symbol, "size": wide, "color": "black", "line": {"width": 1, "color": "white"}},
            name=name,
            hoverinfo="skip",
            showlegend=bool(chosen.any()),
        )
    return named_places(styled(figure, title, height=200 + row_height(names) * len(names)), names, across)


def keyed(figure: go.Figure) -> go.Figure:
    """One key for all panels: the first trace of a name that has points."""
    seen: set[str] = set()
    for trace in figure.data:
        trace.showlegend = trace.name is not None and len(trace.x) > 0 and trace.name not in seen
        seen |= {trace.name} if trace.showlegend else set()
    return figure


def choose(figure: go.Figure, values: Sequence[object]) -> go.Figure:
    """A menu of values, to each of which equally many traces belong, in order."""
    owner = np.repeat(np.arange(len(values)), len(figure.data) // len(values))
    for number, trace in zip(owner, figure.data, strict=True):
        trace.visible = bool(number == 0)
    buttons = [
        {"label": str(value), "method": "restyle", "args": [{"visible": (owner == number).tolist()}]}
        for number, value in enumerate(values)
    ]
    place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 8}}
    figure.update_layout(updatemenus=[{"buttons": buttons, **place, **BUTTONS}])
    return raised(figure, 44)


def short(number: float) -> str:
    """A number as a tick.

    Example:
        >>> [short(number) for number in (0.01, 50, 3000, 2e6)]
        ['0.01', '50', '3k', '2M']
    """
    size, letter = next((one for one in ((1e6, "M"), (1e3, "k")) if number >= one[0]), (1, ""))
    return f"{number / size:.3g}{letter}"


def wrapped(text: str, width: int = 20) -> str:
    """A label in lines of so many letters.

    Example:
        >>> wrapped("person_plays_position_in_sport")
        'person_plays_<br>position_in_sport'
    """
    return "<br>".join(textwrap.wrap(text.replace("_", "_ "), width)).replace("_ ", "_")


def named_places(figure: go.Figure, rows: Sequence[object], columns: Sequence[object]) -> go.Figure:
    """Names of the places 0, 1, ... of a matrix, all legible."""
    for names, update in ((rows, figure.update_yaxes), (columns, figure.update_xaxes)):
        size = 7 if names is columns and len(names) > 40 else name_size(names)
        labels = [str(name) for name in names]
        update(tickvals=list(range(len(names))), ticktext=labels, tickfont_size=size, showgrid=False)
    angle = 0 if max(len(str(name)) for name in columns) < 9 else -90 if len(columns) > MANY else -45
    figure.update_xaxes(range=[-0.5, len(columns) - 0.5], tickangle=angle)
    return figure.update_yaxes(range=[len(rows) - 0.5, -0.5], autorange=False)


def panels(parts: Mapping[str, Sequence[object]], title: str, most: int, x_title: str) -> go.Figure:
    """Equally many traces for each name: in a small panel each, or chosen from a menu if there are too many."""
    if len(parts) > most:
        figure = go.Figure([trace for traces in parts.values() for trace in traces]).set_subplots(1, 1)
        figure = styled(figure, title, height=380)
        return choose(raised(figure, 26), list(parts)).update_xaxes(title=x_title)
    columns = min(COLUMNS, len(parts))
    rows = -(-len(parts) // columns)
    height = 80 + 160 * rows
    figure = go.Figure().set_subplots(
        rows,
        columns,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.04,
        vertical_spacing=44 / height,
        subplot_titles=[wrapped(name, 24) for name in parts],
        specs=[
            [{} if row * columns + column < len(parts) else None for column in range(columns)] for row in range(rows)
        ],
    )
    for number, traces in enumerate(parts.values()):
        row, column = divmod(number, columns)
        figure.add_traces(traces, rows=row + 1, cols=column + 1)
        if number >= len(parts) - columns:
            figure.update_xaxes(title=x_title, showticklabels=True, row=row + 1, col=column + 1)
    figure.update_annotations(font_size=11)
    return keyed(raised(styled(figure, title, height=height, legend_rows=2), 34))
