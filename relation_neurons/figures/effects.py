"""What silencing does beyond chance and beyond random neurons; a mark says where the corrected test shows it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import refuse
from relation_neurons.experiments.effects import FALLS, NOT_SHOWN, RISES
from relation_neurons.experiments.finding import said
from relation_neurons.figures.style import GRID, OTHER, OWN, RANDOM, heatmap, styled
from relation_neurons.figures.tested import (
    ENDS,
    MANY,
    MEASURE_TITLES,
    NUMBERED,
    RISE,
    choose,
    details,
    errors,
    keyed,
    marked_matrix,
    measured,
    named_places,
    nothing,
    row_height,
    short,
    wrapped,
)

COLOURS = (OWN, OTHER, "#009E73", RISE, "#CC79A7", "#56B4E9", RANDOM)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
SIDE_BY_SIDE = 3
"""Panels beside each other; of more, one is chosen from a menu."""


def controls_figure(
    effects: pd.DataFrame,
    measure: str = "logprob",
    group: str = "silenced",
    *,
    answers: pd.DataFrame | None = None,
    panel: str | None = None,
) -> go.Figure:
    """What silenced neurons do, beside the distribution of random ones (the paper's Figures 3 and 16).

    Args:
        effects: From `effects.compare`.
        measure: `logprob` or `correct`.
        group: The column whose values are the rows, the deepest fall on top.
        answers: The answers behind the effects, for a mark at each control set; `draw` -1 is the neurons' own.
        panel: A column with several values for each row, such as `facts`, `match`, `selection`, `site` or `language`:
            up to three stand side by side, of more one is chosen from a menu.
    """
    cell = [group, panel] if panel else [group]
    rows, title = measured(effects, measure, cell), f"Silenced neurons: {MEASURE_TITLES[measure]}"
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
    figure.add_vline(x=0, line_width=1, line_color="#777")
    ends = rows[["effect", "effect_low", "effect_high", "random_min", "random_max"]].to_numpy(dtype=float)
    reach = np.append(ends[np.isfinite(ends)], 0)
    figure.update_xaxes(matches="x", range=[reach.min() - 0.04 * np.ptp(reach), reach.max() + 0.04 * np.ptp(reach)])
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=order, range=[-0.6, len(order) - 0.4])
    return keyed(figure) if beside else choose(figure, values).update_xaxes(title="change")


def pairs_figure(effects: pd.DataFrame, measure: str = "logprob", own: pd.DataFrame | None = None) -> go.Figure:
    """Signed effects between relations (the paper's Figure 4).

    Args:
        effects: From the experiment `inter`: `silenced` is the row, `relation` the column.
        measure: `logprob` or `correct`.
        own: Effects on own facts by `silenced`, such as the rows of `intra` with `facts` `evaluation`: the diagonal. It
            does not set the colours, so that the others stay visible beside it.
    """
    cells, title = measured(effects, measure, ["silenced", "relation"]), f"Between relations: {MEASURE_TITLES[measure]}"
    largest = cells["effect"].abs().max()
    if own is not None and len(diagonal := measured(own, measure, ["silenced"])):
        diagonal = diagonal.assign(relation=diagonal["silenced"])
        cells = pd.concat([cells, diagonal]) if len(cells) else diagonal
    if cells.empty:
        return nothing(title)
    names = list(dict.fromkeys([*cells["silenced"], *cells["relation"]]))
    figure = marked_matrix(cells, "silenced", names, "relation", names, title)
    if largest > 0:
        figure.update_traces(zmin=-largest, zmax=largest, selector={"type": "heatmap"})
    return figure.update_layout(xaxis_title="facts asked", yaxis_title="neurons silenced")


def flips_figure(flips: pd.DataFrame, names: Sequence[str] | None = None) -> go.Figure:
    """Answers turned by other relations' neurons: in each cell lost ones on the left, gained ones on the right.

    Args:
        flips: From the experiment `inter`.
        names: All relations, in order; by default those with a changed answer.
    """
    title = "Answers lost (left, red) and gained (right, blue)"
    if flips.empty:
        return nothing(title, "no answer changed")
    names = list(dict.fromkeys([*flips["silenced"], *flips["relation"]])) if names is None else list(names)
    counts = []
    for flip in ("lost", "gained"):
        rows = flips[flips["flip"] == flip]
        count = pd.crosstab(rows["silenced"], rows["relation"]).reindex(index=names, columns=names)
        counts.append(count.fillna(0).to_numpy(dtype=int))
    most, middles = int(np.max(counts)), [(half - 0.5) / 2 for half in range(2 * len(names))]
    cells = np.stack([-counts[0], counts[1]], axis=-1).astype(float)
    cells[np.eye(len(names), dtype=bool) & (cells == 0).all(axis=-1)] = np.nan
    cells = cells.reshape(len(names), -1)
    hover = "%{y} silenced<br>%{customdata[0]} asked<br>%{customdata[1]} lost, %{customdata[2]} gained<extra></extra>"
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
    figure.update_layout(xaxis_title="facts asked", yaxis_title="neurons silenced")
    figure = styled(figure, title, height=220 + row_height(names) * len(names), legend_rows=0)
    return named_places(figure, names, names)


def frequency_figure(table: pd.DataFrame) -> go.Figure:
    """Documents that name both sides of resilient and of sensitive facts (the paper's Figure 23).

    Args:
        table: From `frequency.compare_frequencies`. Means are on a logarithmic axis that begins with 0. Differences are
            drawn as ratios, so that half and double are equally far from none; what is infinite ends at the edge.
    """
    title = "Documents of resilient and sensitive facts"
    if table.empty:
        return nothing(title)
    rows = table.sort_values("relative_difference", kind="stable")
    figure = go.Figure().set_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.05)
    means = rows[["mean_resilient", "mean_sensitive"]].to_numpy(dtype=float)
    logs = np.log10(means[means > 0]) if (means > 0).any() else np.zeros(1)
    powers, places = np.arange(np.floor(logs.min()), np.ceil(logs.max()) + 1), list(range(len(rows)))
    ticks = [10.0 ** (powers[0] - 1), *10.0 ** powers[:: 1 + len(powers) // 4]]
    for part, colour, symbol, shift in (("resilient", OWN, "circle", 0.1), ("sensitive", OTHER, "diamond", -0.1)):
        hover = rows["relation"] + rows[f"mean_{part}"].map("<br>{:,.4g} documents, n = ".format)
        figure.add_scatter(
            x=rows[f"mean_{part}"].clip(lower=ticks[0]),
            y=[place + shift for place in places],
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=f"{part} facts, mean",
            hovertext=hover + rows[f"n_{part}"].map("{} facts".format),
            hoverinfo="text",
        )
    _add_ratios(figure, rows, places)
    figure = styled(figure, title, height=120 + row_height(places) * len(rows), legend_rows=2)
    labels = ["0", *map(short, ticks[1:])]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=labels, tickangle=0, title="documents", col=1)
    return figure.update_yaxes(tickvals=places, ticktext=list(rows["relation"]), range=[-0.6, len(rows) - 0.4])


def methods_figure(methods: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What own facts change against what others do, by scorer (colour) and k (symbol); 95 % over relations.

    Args:
        methods: From the experiment `methods`.
        measure: `logprob` or `correct`.
    """
    needed = [f"{part}{end}" for part in ("own", "other") for end in ("", "_low", "_high")]
    rows, title = measured(methods, measure, ["scorer", "k"], [*needed, "n"]), f"Scorers: {MEASURE_TITLES[measure]}"
    if rows.empty:
        return nothing(title)
    figure, symbols = go.Figure(), dict(zip(sorted(rows["k"].unique()), cycle(SYMBOLS), strict=False))
    for (scorer, group), colour in zip(rows.groupby("scorer", sort=False), cycle(COLOURS), strict=False):
        group = group.sort_values("k")
        hover = [
            f"{scorer}, k = {row['k']:,}<br>own {said(row, 'own', decimals=3)}<br>other "
            f"{said(row, 'other', decimals=3)}<br>n = {row['n']} relations"
            for row in group.to_dict("records")
        ]
        figure.add_scatter(
            x=group["own"],
            y=group["other"],
            error_x=errors(group, "own"),
            error_y=errors(group, "other"),
            mode="lines+markers",
            line={"width": 1, "color": colour},
            marker={"size": 9, "symbol": [symbols[k] for k in group["k"]]},
            name=str(scorer),
            hovertext=hover,
            hoverinfo="text",
        )
    for k, symbol in symbols.items():
        key = {"symbol": symbol, "color": RANDOM, "size": 9}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=key, name=f"k = {k:,}", hoverinfo="skip")
    least = min(0.0, max(rows["own"].min(), rows["other"].min()))
    line = {"dash": "dot", "width": 1, "color": RANDOM}
    figure.add_scatter(x=[least, 0], y=[least, 0], mode="lines", line=line, name="own = other", hoverinfo="skip")
    figure.update_layout(xaxis_title="change of own facts", yaxis_title="change of other facts")
    return styled(figure, title, height=380, legend_rows=(3 * len(figure.data) + 7) // 8)


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


def _add_ratios(figure: go.Figure, rows: pd.DataFrame, places: Sequence[int]) -> None:
    """Relative differences as ratios on a logarithmic axis, whose edges stand for nothing and for infinity."""
    name = "relative_difference"
    ratios = 1 + rows[[name, *(name + end for end in ENDS)]].astype(float)
    finite = ratios.where((ratios > 0) & np.isfinite(ratios)).to_numpy()
    edge = 0.1 + float(np.nanmax(np.abs(np.log10(finite)), initial=1.0))
    drawn = ratios.clip(10**-edge, 10**edge)
    hover = [
        f"{row['relation']}<br>{row[name]:+.0%} [{row[name + '_low']:+.0%}, {row[name + '_high']:+.0%}]<br>"
        f"n = {row['n_resilient']} and {row['n_sensitive']} facts, p = {row['p']:.2g} (uncorrected)"
        for row in rows.to_dict("records")
    ]
    mark = {"mode": "markers", "marker": {"color": RANDOM, "size": 8, "symbol": "square"}}
    figure.add_scatter(
        x=drawn[name],
        y=places,
        error_x=errors(drawn, name),
        name="relative difference, 95 %",
        hovertext=hover,
        hoverinfo="text",
        cliponaxis=False,
        row=1,
        col=2,
        **mark,
    )
    ticks = [0.1, 1, 10] if edge < 2 else [0.01, 1, 100] if edge < 3 else [0.001, 1, 1000]
    labels = ["0" if tick == 1 else f"{100 * (tick - 1):+,.4g} %" for tick in ticks]
    figure.add_vline(x=1, line_width=1, line_color="#777", col=2)
    figure.update_xaxes(type="log", range=[-edge, edge], tickvals=ticks, ticktext=labels, tickangle=0, col=2)
    figure.update_xaxes(title="resilient against sensitive", col=2)
