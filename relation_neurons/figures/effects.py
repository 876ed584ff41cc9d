"""Effects of ablation compared with random controls; marks show significance after correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import refuse
from relation_neurons.figures.common import (
    ENDS,
    MAX_NUMBERED_COLUMNS,
    effect_matrix,
    empty_figure,
    error_bars,
    hover_texts,
    range_with_margin,
    rows_of_measure,
    with_menu,
    with_named_ticks,
    with_one_legend,
    wrapped_label,
)
from relation_neurons.figures.style import (
    GRID,
    MANY,
    MEASURE_TITLES,
    OWN,
    RANDOM,
    RISE,
    ZERO,
    heatmap,
    is_not_first_axis,
    robust_limit,
    row_height,
    styled,
)
from relation_neurons.statistics.effects import FALLS, RISES, SHOWN

SIDE_BY_SIDE = 3
"""Largest number of panels side by side; of more, one is selected from a menu."""


def controls_figure(
    effects: pd.DataFrame,
    measure: str = "logprob",
    group: str = "ablated",
    *,
    answers: pd.DataFrame | None = None,
    panel: str | None = None,
    title: str = "Effects of ablation",
) -> go.Figure:
    """Effects of ablated neurons and the distribution of random controls (the paper's Figures 3, 16).

    Args:
        effects: Table of `effects.compare`.
        measure: `logprob` or `correct`.
        group: Column whose values are the rows, the largest decrease on top.
        answers: Answers behind the effects, for a mark at each control set; `draw` -1
            marks the answers under the neurons themselves.
        panel: Column with several values per row, such as `facts`, `match`, `selection`, `site` or
            `language`. Up to three panels are side by side; of more, one is selected from a menu.
        title: What the effects are, in front of the measure.
    """
    cell = [group, panel] if panel else [group]
    rows, title = rows_of_measure(effects, measure, cell), f"{title}: {MEASURE_TITLES[measure]}"
    if rows.empty:
        return empty_figure(title)
    order = list(rows.groupby(group, sort=False)["effect"].mean().sort_values(ascending=False, kind="stable").index)
    values = list(rows[panel].unique()) if panel else [""]
    beside, sets = len(values) <= SIDE_BY_SIDE, _control_sets(answers, measure, cell)
    figure = go.Figure().set_subplots(1, len(values) if beside else 1, shared_yaxes=True, horizontal_spacing=0.03)
    for column, value in enumerate(values, start=1):
        own, controls = (table[table[panel] == value] if panel else table for table in (rows, sets))
        traces = _effects_and_controls(own, controls, group, order)
        figure.add_traces(traces, rows=1, cols=column if beside else 1)
        if beside:
            figure.update_xaxes(title=wrapped_label(f"{value}: change" if panel else "change"), col=column)
    figure = styled(figure, title, height=110 + row_height(order) * len(order), legend_rows=2)
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    ends = rows[["effect", "effect_low", "effect_high", "random_min", "random_max"]].to_numpy(dtype=float)
    figure.update_xaxes(matches="x", selector=is_not_first_axis)
    figure.update_xaxes(range=range_with_margin(ends))
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=order, range=[-0.6, len(order) - 0.4])
    return with_one_legend(figure) if beside else with_menu(figure, values).update_xaxes(title="change")


def pairs_figure(
    effects: pd.DataFrame,
    measure: str = "logprob",
    own: pd.DataFrame | None = None,
    *,
    answers: pd.DataFrame | None = None,
) -> go.Figure:
    """Matrix of signed effects between relations (the paper's Figure 4).

    Args:
        effects: Table `effects` of the experiment `inter`; `ablated` is the row, `relation` the column.
        measure: `logprob` or `correct`.
        own: Tested effects on own facts by `ablated` for the diagonal, such as the rows of `intra` with
            `facts` equal to `evaluation`.
        answers: Table `answers` of `inter`, for a diagonal without tests: the mean change of own facts.
    """
    cells, title = (
        rows_of_measure(effects, measure, ["ablated", "relation"]),
        f"Effects between relations: {MEASURE_TITLES[measure]}",
    )
    cells = cells.assign(hover=hover_texts(cells))
    if own is not None:
        diagonal = rows_of_measure(own, measure, ["ablated"])
        diagonal = diagonal.assign(relation=diagonal["ablated"], hover=hover_texts(diagonal))
    else:
        diagonal = _own_changes(answers, measure)
    if len(diagonal):
        cells = pd.concat([cells, diagonal]) if len(cells) else diagonal
    if cells.empty:
        return empty_figure(title)
    names = list(dict.fromkeys([*cells["ablated"], *cells["relation"]]))
    figure = effect_matrix(cells, "ablated", names, "relation", names, title)
    return figure.update_layout(xaxis_title="evaluated facts", yaxis_title="ablated neurons")


def _own_changes(answers: pd.DataFrame | None, measure: str) -> pd.DataFrame:
    """Mean changes of own facts, for the diagonal; none where the answers have none."""
    if answers is None or f"d_{measure}" not in answers:
        return pd.DataFrame()
    own = answers[answers["ablated"] == answers["relation"]]
    changes = own.groupby(["ablated", "unit"], sort=False)[f"d_{measure}"].mean().groupby("ablated", sort=False)
    rows = pd.DataFrame({"effect": changes.mean(), "n": changes.size()}).reset_index()
    hover = [f"own facts: mean {row.effect:+z.3f}, n = {row.n} facts; tested in intra" for row in rows.itertuples()]
    return rows.assign(relation=rows["ablated"], hover=hover, verdict="", p_bh=1.0)


def flips_figure(flips: pd.DataFrame, names: Sequence[str] | None = None) -> go.Figure:
    """Answers changed by other relations' neurons: lost (left half of a cell) and gained (right half).

    Args:
        flips: Table `flips` of the experiment `inter`.
        names: All relations in order; by default those with a changed answer.
    """
    title = "Answers lost (left, red) and gained (right, blue)"
    if flips.empty:
        return empty_figure(title, "no answer changed")
    names = list(dict.fromkeys([*flips["ablated"], *flips["relation"]])) if names is None else list(names)
    counts = []
    for flip in ("lost", "gained"):
        rows = flips[flips["flip"] == flip]
        count = pd.crosstab(rows["ablated"], rows["relation"]).reindex(index=names, columns=names)
        counts.append(count.fillna(0).to_numpy(dtype=int))
    numbered = len(names) <= MAX_NUMBERED_COLUMNS
    most, middles = (
        int(robust_limit(np.array(counts, dtype=float))),
        [(half - 0.5) / 2 for half in range(2 * len(names))],
    )
    more = "+" if np.max(counts) > most else ""
    cells = np.stack([-counts[0], counts[1]], axis=-1).astype(float)
    cells[np.eye(len(names), dtype=bool) & (cells == 0).all(axis=-1)] = np.nan
    cells = cells.reshape(len(names), -1)
    hover = (
        "neurons of %{y}<br>facts of %{customdata[0]}<br>%{customdata[1]} lost, %{customdata[2]} gained<extra></extra>"
    )
    figure = heatmap(cells, range(len(names)), middles, hover=hover, diverging=True)
    relations = np.broadcast_to(np.array(names, dtype=object), counts[0].shape)
    figure.update_traces(
        customdata=np.repeat(np.stack([relations, *counts], axis=-1), 2, axis=1),
        text=[[f"{abs(n):.0f}" if abs(n) > 0 and numbered else "" for n in row] for row in cells],
        texttemplate="%{text}",
        xgap=0,
        zmin=-most,
        zmax=most,
        colorbar_tickvals=[-most, 0, most],
        colorbar_ticktext=[f"{most}{more} lost", "0", f"{most}{more} gained"],
    )
    for edge in range(1, len(names)):
        figure.add_vline(x=edge - 0.5, line_width=1, line_color=GRID if len(names) > MANY else RANDOM)
    figure.update_layout(xaxis_title="evaluated facts", yaxis_title="ablated neurons")
    figure = styled(figure, title, height=220 + row_height(names) * len(names), legend_rows=0)
    return with_named_ticks(figure, names, names)


def _control_sets(answers: pd.DataFrame | None, measure: str, cell: Sequence[str]) -> pd.DataFrame:
    """Mean change under every control set, averaged over the prompts of each fact first."""
    if answers is None or answers.empty:
        return pd.DataFrame(columns=[*cell, "draw", "change"])
    if missing := [name for name in (*cell, "draw") if name not in answers]:
        raise refuse(f"The answers have no column {', '.join(missing)}", expected="a table with control sets")
    controls = answers[answers["draw"] >= 0]
    facts = controls.groupby([*cell, "draw", "relation", "unit"], sort=False)[f"d_{measure}"].mean()
    return facts.groupby([*cell, "draw"], sort=False).mean().rename("change").reset_index()


def _effects_and_controls(
    rows: pd.DataFrame, sets: pd.DataFrame, group: str, order: Sequence[object]
) -> list[go.Scatter]:
    """Marks of every control set, of their mean and range, and of the effects, one trace per verdict."""
    rows = rows.assign(hover=rows[group].astype(str) + "<br>" + pd.Series(hover_texts(rows), rows.index, dtype=object))
    sets = sets[sets[group].isin(order)]
    sets = sets.assign(
        hover=[
            f"{row[0]}<br>control set {row[1]}: {row[2]:+z.3f}" for row in sets[[group, "draw", "change"]].to_numpy()
        ]
    )
    falls, rises = (rows[rows["verdict"] == side] for side in (FALLS, RISES))
    parts = (
        ("each control set", sets, "change", None, RANDOM, "line-ns-open"),
        ("control sets: mean and range", rows[rows["random"].notna()], "random", ("_min", "_max"), RANDOM, "square"),
        ("decrease (Holm)", falls, "effect", ENDS, OWN, "circle"),
        ("increase (Holm)", rises, "effect", ENDS, RISE, "circle"),
        ("not significant", rows[~rows["verdict"].isin(SHOWN)], "effect", ENDS, OWN, "circle-open"),
    )
    return [
        go.Scatter(
            x=table[x],
            y=[order.index(name) + (0.15 if x == "effect" else -0.2) for name in table[group]],
            error_x=error_bars(table, x, ends) if ends else None,
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=name,
            legendgroup=name,
            hovertext=table["hover"],
            hoverinfo="text",
        )
        for name, table, x, ends, colour, symbol in parts
    ]
