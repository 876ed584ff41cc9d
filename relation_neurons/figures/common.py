"""Shared parts of figures of tested effects: rows, error bars, marks, menus and labels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import nearest, refuse
from relation_neurons.figures.style import BUTTONS, MANY, heatmap, name_size, row_height, styled, with_legend_space
from relation_neurons.statistics.effects import CANNOT_BE_SHOWN, FALLS, LEVEL, NOT_SHOWN, RISES, SHOWN
from relation_neurons.statistics.formatting import interval_text

MEASURES = ("logprob", "correct")
"""Measures of tables of tested effects."""
MAX_NUMBERED_COLUMNS = 16
"""Matrices with more columns have no numbers in their cells."""
TESTED = ("n", "effect", "effect_low", "effect_high", "n_controls", "random", "random_min", "random_max")
SIGNIFICANCE = ("p_holm", "p_bh", "verdict")
ENDS = ("_low", "_high")
COLUMNS = 3
"""Small panels side by side; more would not be legible on a narrow page."""
VERDICT_LABELS = {
    FALLS: "decrease",
    RISES: "increase",
    NOT_SHOWN: "not significant",
    CANNOT_BE_SHOWN: "cannot be shown",
}
"""Labels of verdicts in figures."""


def rows_of_measure(
    table: pd.DataFrame, measure: str, cell: Sequence[str], needed: Sequence[str] = (*TESTED, *SIGNIFICANCE)
) -> pd.DataFrame:
    """Select the rows of a measure; there must be one per combination of the columns `cell`."""
    if measure not in MEASURES:
        raise refuse(f"'{measure}' is not a known measure", expected=nearest(measure, MEASURES))
    columns = [*cell, "measure", *needed]
    if table.empty:
        return table.reindex(columns=columns)
    if missing := [name for name in columns if name not in table]:
        raise refuse(f"The table has no column {', '.join(missing)}", expected=f"the columns {', '.join(columns)}")
    rows = table[table["measure"] == measure]
    if rows.duplicated(list(cell)).any():
        raise refuse(
            f"The table has several rows for the same {' and '.join(cell)}",
            expected="one row each",
            do="select the rows of one value of the other columns, or pass such a column as `panel`",
        )
    return rows


def empty_figure(title: str, note: str = "no data") -> go.Figure:
    """A figure of an empty table, with a note."""
    figure = go.Figure().add_annotation(text=note, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    return styled(figure, title, height=120, legend_rows=0).update_xaxes(visible=False).update_yaxes(visible=False)


def hover_texts(rows: pd.DataFrame) -> list[str]:
    """Hover texts of tested effects."""
    texts = []
    for row in rows.to_dict("records"):
        controls = "no controls"
        if row["n_controls"]:
            controls = f"{row['n_controls']:.0f} random controls: mean {row['random']:+z.3f}, "
            controls += f"range {row['random_min']:+z.3f} to {row['random_max']:+z.3f}"
        p = f"p = {row['p_holm']:.2g} (Holm), {row['p_bh']:.2g} (Benjamini-Hochberg)"
        verdict = VERDICT_LABELS.get(row["verdict"], row["verdict"])
        texts.append(f"{interval_text(row, decimals=3)}, n = {row['n']:.0f} facts<br>{controls}<br>{verdict}, {p}")
    return texts


def error_bars(rows: pd.DataFrame, name: str, ends: Sequence[str] = ENDS) -> dict[str, object]:
    """Error bars of a column; infinite or unknown ends are omitted."""
    value = rows[name].astype(float)
    low, high = (rows[name + end].astype(float).replace([np.inf, -np.inf], np.nan).fillna(value) for end in ends)
    return {"array": high - value, "arrayminus": value - low, "thickness": 1.5, "width": 3}


def range_with_margin(values: np.ndarray) -> list[float]:
    """Axis range that includes all finite values and zero."""
    included = np.append(values[np.isfinite(values)], 0)
    return [included.min() - 0.04 * np.ptp(included), included.max() + 0.04 * np.ptp(included)]


def effect_matrix(
    cells: pd.DataFrame, row: str, rows: Sequence[object], column: str, columns: Sequence[object], title: str
) -> go.Figure:
    """Heatmap of signed effects; stars mark significance after Holm, dots only after Benjamini-Hochberg."""
    numbered, row_names, column_names = len(columns) <= MAX_NUMBERED_COLUMNS, list(rows), list(columns)
    if "hover" not in cells:
        cells = cells.assign(hover=hover_texts(cells))
    effects, hover = (
        cells.pivot(index=row, columns=column, values=value).reindex(row_names, columns=column_names)
        for value in ("effect", "hover")
    )
    values = effects.to_numpy(dtype=float)
    decimals = 1 if np.nanmax(np.abs(values), initial=0) >= 10 else 2  # next to tens, hundredths only fill the cells
    figure = heatmap(
        values,
        range(len(row_names)),
        range(len(column_names)),
        hover=f"{row} %{{y}}, {column} %{{x}}<br>%{{hovertext}}<extra></extra>",
        decimals=decimals if numbered else None,
        diverging=True,
    )
    figure.update_traces(hovertext=hover.to_numpy(), textfont_size=10 if len(columns) <= 8 else 9)
    significant = cells["verdict"].isin(SHOWN)
    only_bh = ~significant & (cells["p_bh"] < LEVEL)
    right, up = 0.4 if numbered else 0, 0.28 if numbered and len(row_names) <= MANY else 0
    size = 7 if len(column_names) > MANY else 10
    kinds = {
        "significant (Holm)": (significant, "star", size),
        "only after Benjamini-Hochberg": (only_bh, "circle", size / 2),
    }
    for name, (selected, symbol, symbol_size) in kinds.items():
        figure.add_scatter(
            x=[column_names.index(value) + right for value in cells.loc[selected, column]],
            y=[row_names.index(value) - up for value in cells.loc[selected, row]],
            mode="markers",
            marker={"symbol": symbol, "size": symbol_size, "color": "black", "line": {"width": 1, "color": "white"}},
            name=name,
            hoverinfo="skip",
            showlegend=bool(selected.any()),
        )
    figure = styled(figure, title, height=200 + row_height(row_names) * len(row_names))
    return with_named_ticks(figure, row_names, column_names)


def with_one_legend(figure: go.Figure) -> go.Figure:
    """Merge the legends of all panels: only the first nonempty trace of each name has an entry."""
    seen: set[str] = set()
    for trace in figure.data:
        trace.showlegend = trace.name is not None and len(trace.x) > 0 and trace.name not in seen
        seen |= {trace.name} if trace.showlegend else set()
    return figure


def with_menu(figure: go.Figure, values: Sequence[object]) -> go.Figure:
    """Add a menu that selects a value; the traces must be ordered by value, equally many each."""
    owner = np.repeat(np.arange(len(values)), len(figure.data) // len(values))
    for number, trace in zip(owner, figure.data, strict=True):
        trace.visible = bool(number == 0)
    buttons = [
        {"label": str(value), "method": "restyle", "args": [{"visible": (owner == number).tolist()}]}
        for number, value in enumerate(values)
    ]
    position = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 8}}
    figure.update_layout(updatemenus=[{"buttons": buttons, **position, **BUTTONS}])
    return with_legend_space(figure, 44)


def tick_text(number: float) -> str:
    """Format a number as a tick label.

    Example:
        >>> [tick_text(number) for number in (0.01, 50, 3000, 2e6)]
        ['0.01', '50', '3k', '2M']
    """
    size, letter = next((unit for unit in ((1e6, "M"), (1e3, "k")) if number >= unit[0]), (1, ""))
    return f"{number / size:.3g}{letter}"


def wrapped_label(text: str, width: int = 20) -> str:
    """Break a label into lines of at most `width` characters.

    Example:
        >>> wrapped_label("person_plays_position_in_sport")
        'person_plays_<br>position_in_sport'
    """
    return "<br>".join(textwrap.wrap(text.replace("_", "_ "), width)).replace("_ ", "_")


def with_named_ticks(figure: go.Figure, rows: Sequence[object], columns: Sequence[object]) -> go.Figure:
    """Label the rows and columns 0, 1, ... of a matrix, in a size at which all names fit."""
    for names, update in ((rows, figure.update_yaxes), (columns, figure.update_xaxes)):
        size = 7 if names is columns and len(names) > 40 else name_size(names)
        labels = [str(name) for name in names]
        update(tickvals=list(range(len(names))), ticktext=labels, tickfont_size=size, showgrid=False)
    angle = 0 if max(len(str(name)) for name in columns) < 9 else -90 if len(columns) > MANY else -45
    figure.update_xaxes(range=[-0.5, len(columns) - 0.5], tickangle=angle)
    return figure.update_yaxes(range=[len(rows) - 0.5, -0.5], autorange=False)


def panel_figure(parts: Mapping[str, Sequence[object]], title: str, most: int, x_title: str) -> go.Figure:
    """Draw each part in a panel of its own, or select it from a menu if there are more than `most`."""
    if len(parts) > most:
        figure = go.Figure([trace for traces in parts.values() for trace in traces]).set_subplots(1, 1)
        figure = styled(figure, title, height=380)
        return with_menu(with_legend_space(figure, 26), list(parts)).update_xaxes(title=x_title)
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
        subplot_titles=[wrapped_label(name, 24) for name in parts],
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
    return with_one_legend(with_legend_space(styled(figure, title, height=height, legend_rows=2), 34))
