"""What ablating does beyond chance and beyond random neurons; a mark says where the corrected test shows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import refuse
from relation_neurons.figures.common import (
    ENDS,
    NUMBERED,
    choose,
    details,
    errors,
    keyed,
    marked_matrix,
    measured,
    named_places,
    nothing,
    wrapped,
)
from relation_neurons.figures.style import (
    GRID,
    MANY,
    MEASURE_TITLES,
    OTHER,
    OWN,
    RANDOM,
    RISE,
    ZERO,
    beside_the_first,
    heatmap,
    row_height,
    styled,
)
from relation_neurons.statistics.effects import FALLS, NOT_SHOWN, RISES

SUMMARY_PARTS = (
    ("own", "its own facts", OWN, 0.25, "circle"),
    ("other", "other relations' facts", OTHER, 0.0, "diamond"),
    ("random", "random neurons, its own facts", RANDOM, -0.25, "square"),
)
"""Column of the summary, label, colour, shift within the row, and symbol."""
SIDE_BY_SIDE = 3
"""Panels beside each other; of more, one is chosen from a menu."""


def summary_figure(summary: pd.DataFrame, controls: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What ablating each relation's neurons does (the paper's Figure 3, with intervals and every control set).

    Args:
        summary: From the experiment `summary`, or `summary.summarise`.
        controls: From the experiment `summary`, for the single control sets.
        measure: `logprob`, `correct` or `correct_prefix`.

    Returns:
        A row per relation: its own facts, the other relations' facts, the mean of its controls, each with a 95 %
        interval over facts, and every control set as a small mark.
    """
    rows = summary[summary["measure"] == measure].sort_values("own", ascending=False)
    relations = list(rows["relation"])
    place = {relation: number for number, relation in enumerate(relations)}
    figure = go.Figure()
    figure.add_scatter(
        x=controls[f"d_{measure}"],
        y=[place[relation] - 0.25 for relation in controls["relation"]],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "color": RANDOM},
        name="each control set",
        text=controls["relation"] + " random " + controls["draw"].astype(str),
        hovertemplate="%{text}<br>%{x:+.3f}<extra></extra>",
    )
    for part, label, colour, shift, symbol in SUMMARY_PARTS:
        figure.add_scatter(
            x=rows[part],
            y=[place[relation] + shift for relation in relations],
            error_x={
                "array": rows[f"{part}_high"] - rows[part],
                "arrayminus": rows[part] - rows[f"{part}_low"],
                "thickness": 1.5,
                "width": 3,
            },
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=label,
            customdata=rows[["relation", f"{part}_low", f"{part}_high", f"{part}_n"]].to_numpy(),
            hovertemplate="%{customdata[0]}<br>%{x:+.3f} [%{customdata[1]:+.3f}, %{customdata[2]:+.3f}], "
            "n = %{customdata[3]}<extra>" + label + "</extra>",
        )
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    figure.update_yaxes(tickvals=list(range(len(relations))), ticktext=relations, range=[-0.6, len(relations) - 0.4])
    figure.update_xaxes(title="change in " + MEASURE_TITLES[measure])
    title = "Ablating a relation's neurons: " + MEASURE_TITLES[measure]
    return styled(figure, title, height=140 + 48 * len(relations), legend_rows=2)


def controls_figure(
    effects: pd.DataFrame,
    measure: str = "logprob",
    group: str = "ablated",
    *,
    answers: pd.DataFrame | None = None,
    panel: str | None = None,
) -> go.Figure:
    """What ablated neurons do, beside the distribution of random ones (the paper's Figures 3 and 16).

    Args:
        effects: From `effects.compare`.
        measure: `logprob` or `correct`.
        group: The column whose values are the rows, the deepest fall on top.
        answers: The answers behind the effects, for a mark at each control set; `draw` -1 is the neurons' own.
        panel: A column with several values for each row, such as `facts`, `match`, `selection`, `site` or `language`:
            up to three stand side by side, of more one is chosen from a menu.
    """
    cell = [group, panel] if panel else [group]
    rows, title = measured(effects, measure, cell), f"Ablated neurons: {MEASURE_TITLES[measure]}"
    if rows.empty:
        return nothing(title)
    order = list(rows.groupby(group, sort=False)["effect"].mean().sort_values(ascending=False, kind="stable").index)
    values = list(rows[panel].unique()) if panel else [""]
    beside, sets = len(values) <= SIDE_BY_SIDE, _control_sets(answers, measure, cell)
    figure = go.Figure().set_subplots(1, len(values) if beside else 1, shared_yaxes=True, horizontal_spacing=0.03)
    for column, value in enumerate(values, start=1):
        there, drawn = (table[table[panel] == value] if panel else table for table in (rows, sets))
        traces = _beside_controls(there, drawn, group, order)
        figure.add_traces(traces, rows=1, cols=column if beside else 1)
        if beside:
            figure.update_xaxes(title=wrapped(f"{value}: change" if panel else "change"), col=column)
    figure = styled(figure, title, height=110 + row_height(order) * len(order), legend_rows=2)
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    ends = rows[["effect", "effect_low", "effect_high", "random_min", "random_max"]].to_numpy(dtype=float)
    reach = np.append(ends[np.isfinite(ends)], 0)
    figure.update_xaxes(matches="x", selector=beside_the_first)
    figure.update_xaxes(range=[reach.min() - 0.04 * np.ptp(reach), reach.max() + 0.04 * np.ptp(reach)])
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=order, range=[-0.6, len(order) - 0.4])
    return keyed(figure) if beside else choose(figure, values).update_xaxes(title="change")


def pairs_figure(effects: pd.DataFrame, measure: str = "logprob", own: pd.DataFrame | None = None) -> go.Figure:
    """Signed effects between relations (the paper's Figure 4).

    Args:
        effects: From the experiment `inter`: `ablated` is the row, `relation` the column.
        measure: `logprob` or `correct`.
        own: Effects on own facts by `ablated`, such as the rows of `intra` with `facts` `evaluation`: the diagonal. It
            does not set the colours, so that the others stay visible beside it.
    """
    cells, title = measured(effects, measure, ["ablated", "relation"]), f"Between relations: {MEASURE_TITLES[measure]}"
    largest = cells["effect"].abs().max()
    if own is not None and len(diagonal := measured(own, measure, ["ablated"])):
        diagonal = diagonal.assign(relation=diagonal["ablated"])
        cells = pd.concat([cells, diagonal]) if len(cells) else diagonal
    if cells.empty:
        return nothing(title)
    names = list(dict.fromkeys([*cells["ablated"], *cells["relation"]]))
    figure = marked_matrix(cells, "ablated", names, "relation", names, title)
    if largest > 0:
        figure.update_traces(zmin=-largest, zmax=largest, selector={"type": "heatmap"})
    return figure.update_layout(xaxis_title="facts asked", yaxis_title="neurons ablated")


def flips_figure(flips: pd.DataFrame, names: Sequence[str] | None = None) -> go.Figure:
    """Answers turned by other relations' neurons: in each cell lost ones on the left, gained ones on the right.

    Args:
        flips: From the experiment `inter`.
        names: All relations, in order; by default those with a changed answer.
    """
    title = "Answers lost (left, red) and gained (right, blue)"
    if flips.empty:
        return nothing(title, "no answer changed")
    names = list(dict.fromkeys([*flips["ablated"], *flips["relation"]])) if names is None else list(names)
    counts = []
    for flip in ("lost", "gained"):
        rows = flips[flips["flip"] == flip]
        count = pd.crosstab(rows["ablated"], rows["relation"]).reindex(index=names, columns=names)
        counts.append(count.fillna(0).to_numpy(dtype=int))
    most, middles = int(np.max(counts)), [(half - 0.5) / 2 for half in range(2 * len(names))]
    cells = np.stack([-counts[0], counts[1]], axis=-1).astype(float)
    cells[np.eye(len(names), dtype=bool) & (cells == 0).all(axis=-1)] = np.nan
    cells = cells.reshape(len(names), -1)
    hover = "%{y} ablated<br>%{customdata[0]} asked<br>%{customdata[1]} lost, %{customdata[2]} gained<extra></extra>"
    figure = heatmap(cells, range(len(names)), middles, hover=hover, diverging=True)
    asked = np.broadcast_to(np.array(names, dtype=object), counts[0].shape)
    figure.update_traces(
        customdata=np.repeat(np.stack([asked, *counts], axis=-1), 2, axis=1),
        text=[[f"{abs(n):.0f}" if abs(n) > 0 and len(names) <= NUMBERED else "" for n in row] for row in cells],
        texttemplate="%{text}",
        xgap=0,
        colorbar_tickvals=[-most, 0, most],
        colorbar_ticktext=[f"{most} lost", "0", f"{most} gained"],
    )
    for edge in range(1, len(names)):
        figure.add_vline(x=edge - 0.5, line_width=1, line_color=GRID if len(names) > MANY else RANDOM)
    figure.update_layout(xaxis_title="facts asked", yaxis_title="neurons ablated")
    figure = styled(figure, title, height=220 + row_height(names) * len(names), legend_rows=0)
    return named_places(figure, names, names)


def _control_sets(answers: pd.DataFrame | None, measure: str, cell: Sequence[str]) -> pd.DataFrame:
    """The mean change under every control set, each fact counting once."""
    if answers is None or answers.empty:
        return pd.DataFrame(columns=[*cell, "draw", "change"])
    if missing := [name for name in (*cell, "draw") if name not in answers]:
        raise refuse(f"The answers have no column {', '.join(missing)}", expected="answers under control sets too")
    drawn = answers[answers["draw"] >= 0]
    facts = drawn.groupby([*cell, "draw", "relation", "fact"], sort=False)[f"d_{measure}"].mean()
    return facts.groupby([*cell, "draw"], sort=False).mean().rename("change").reset_index()


def _beside_controls(rows: pd.DataFrame, sets: pd.DataFrame, group: str, order: Sequence[object]) -> list[go.Scatter]:
    """Marks of single control sets, of their mean and range, and of the effects, a trace for each verdict."""
    rows = rows.assign(hover=rows[group].astype(str) + "<br>" + pd.Series(details(rows), rows.index, dtype=object))
    sets = sets[sets[group].isin(order)]
    sets = sets.assign(
        hover=[f"{row[0]}<br>random set {row[1]}: {row[2]:+.3f}" for row in sets[[group, "draw", "change"]].to_numpy()]
    )
    by_verdict = {side: rows[rows["verdict"] == side] for side in (FALLS, RISES, NOT_SHOWN)}
    parts = (
        ("each random set", sets, "change", None, RANDOM, "line-ns-open"),
        ("random sets: mean and range", rows[rows["random"].notna()], "random", ("_min", "_max"), RANDOM, "square"),
        ("falls (Holm)", by_verdict[FALLS], "effect", ENDS, OWN, "circle"),
        ("rises (Holm)", by_verdict[RISES], "effect", ENDS, RISE, "circle"),
        ("not shown", by_verdict[NOT_SHOWN], "effect", ENDS, OWN, "circle-open"),
    )
    return [
        go.Scatter(
            x=table[x],
            y=[order.index(name) + (0.15 if x == "effect" else -0.2) for name in table[group]],
            error_x=errors(table, x, ends) if ends else None,
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=name,
            legendgroup=name,
            hovertext=table["hover"],
            hoverinfo="text",
        )
        for name, table, x, ends, colour, symbol in parts
    ]
