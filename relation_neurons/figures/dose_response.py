"""Effects as more neurons are ablated: dose response, cumulativity by step, and slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import (
    ENDS,
    effect_matrix,
    empty_figure,
    error_bars,
    hover_texts,
    panel_figure,
    rows_of_measure,
    tick_text,
    with_one_legend,
)
from relation_neurons.figures.style import FAINT, MEASURE_TITLES, OTHER, OWN, RANDOM, ZERO, styled
from relation_neurons.statistics.effects import SHOWN
from relation_neurons.statistics.formatting import interval_text
from relation_neurons.statistics.intervals import mean_interval


def dose_figure(
    effects: pd.DataFrame, others: pd.DataFrame | None = None, measure: str = "logprob", max_panels: int = 16
) -> go.Figure:
    """Effects by number of ablated neurons, and nested random controls.

    After the paper's Figures 5, 14, 15 and 20 to 22.

    Args:
        effects: Table `effects` of the experiment `sweep`; filled marks are significant after Holm.
        others: Table `others` of the same experiment, the effects on other relations' facts.
        measure: `logprob` or `correct`.
        max_panels: Largest number of relations with a panel each; of more, one is selected from a menu.
    """
    rows = rows_of_measure(effects, measure, ["ablated", "k"])
    title = f"Dose response: {MEASURE_TITLES[measure]}"
    if rows.empty:
        return empty_figure(title)
    other = rows.head(0) if others is None else rows_of_measure(others, measure, ["ablated", "k"])
    parts = {}
    for name, group in rows.groupby("ablated", sort=False):
        traces = _line(group, "random", ("_min", "_max"), RANDOM, "random controls, mean and range")
        traces += _line(other[other["ablated"] == name], "effect", None, OTHER, "other relations' facts")
        traces += _line(group, "effect", ENDS, OWN, "own facts, 95 % (filled: significant)")
        parts[str(name)] = traces
    figure = panel_figure(parts, title, max_panels, "neurons ablated")
    figure.update_yaxes(title="change", col=1)
    return _dose_axis(figure, rows["k"])


def mean_dose_figure(effects: pd.DataFrame, others: pd.DataFrame | None = None, measure: str = "logprob") -> go.Figure:
    """Mean effect over relations by number of ablated neurons, with 95 % intervals over relations.

    Args:
        effects: Table `effects` of the experiment `sweep`.
        others: Table `others` of the same experiment, the effects on other relations' facts.
        measure: `logprob` or `correct`.
    """
    rows = rows_of_measure(effects, measure, ["ablated", "k"])
    title = f"Mean effect over relations: {MEASURE_TITLES[measure]}"

    if rows.empty:
        return empty_figure(title)
    other = rows.head(0) if others is None else rows_of_measure(others, measure, ["ablated", "k"])
    figure = go.Figure()
    for table, column, colour, name in (
        (rows, "random", RANDOM, "random controls, own facts"),
        (other, "effect", OTHER, "other relations' facts"),
        (rows, "effect", OWN, "own facts"),
    ):
        means = []
        for k, values in table.dropna(subset=[column]).groupby("k")[column]:
            mean, low, high, n = mean_interval(values.to_numpy(dtype=float))
            means.append({"k": k, "mean": mean, "mean_low": low, "mean_high": high, "n": n})
        columns = ["k", "mean", "mean_low", "mean_high", "n"]
        figure.add_traces(_line(pd.DataFrame(means, columns=columns), "mean", ENDS, colour, name))
    figure = with_one_legend(styled(figure, title, height=360, legend_rows=2))
    figure.update_layout(xaxis_title="neurons ablated", yaxis_title="change")
    return _dose_axis(figure, rows["k"])


def steps_figure(steps: pd.DataFrame) -> go.Figure:
    """Cumulativity from each k to the next (the paper's Figure 6 and Table 3).

    The upper panel has the averages, the lower panel the underlying counts.

    Args:
        steps: Table of `cumulativity.difference_table`.
    """
    title = "Cumulativity from each k to the next"
    if steps.empty:
        return empty_figure(title)
    pairs = steps.loc[steps["k"] > 0, ["k_small", "k"]].drop_duplicates()
    order = [*pairs.sort_values("k").itertuples(index=False, name=None), (0, 0)]
    labels = [f"{tick_text(small)}<br>to {tick_text(k)}" for small, k in order[:-1]] + ["all<br>steps"]
    positions = [order.index(pair) for pair in zip(steps["k_small"], steps["k"], strict=True)]
    rows = steps.assign(place=positions).rename(columns={end[1:]: f"cumulativity{end}" for end in ENDS})
    pooled, single = rows[rows["relation"] == "all"], rows[(rows["relation"] != "all") & (rows["total"] > 0)]
    figure = go.Figure().set_subplots(2, 1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.06)
    for name, table, y, shift, colour, symbol in (
        ("each relation", single, "cumulativity", 0.0, RANDOM, "line-ew-open"),
        ("micro average, 95 %", pooled, "cumulativity", -0.12, OWN, "circle"),
        ("macro average", pooled, "macro", 0.12, OTHER, "diamond"),
    ):
        figure.add_scatter(
            x=table["place"] + shift,
            y=table[y],
            error_y=error_bars(table, y) if y == "cumulativity" and table is pooled else None,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 9},
            name=name,
            hovertext=_step_texts(table),
            hoverinfo="text",
            row=1,
            col=1,
        )
    _add_counts(figure, pooled[pooled["k"] > 0])
    figure = styled(figure, title, height=430, legend_rows=3)
    figure.update_xaxes(tickvals=list(range(len(order))), ticktext=labels, tickangle=0, tickfont_size=11)
    figure.update_yaxes(title="cumulativity", range=[-0.05, 1.05], row=1)
    return figure.update_yaxes(title="answers", row=2)


def slices_figure(slices: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Effect of ablating each disjoint slice of the ranking alone.

    Args:
        slices: Table `slices` of the experiment `cumulativity`.
        measure: `logprob` or `correct`.
    """
    rows = rows_of_measure(slices, measure, ["ablated", "slice"])
    title = f"Effects of slices of the ranking: {MEASURE_TITLES[measure]}"

    if rows.empty:
        return empty_figure(title)
    names, numbers = list(rows["ablated"].unique()), sorted(rows["slice"].unique())
    figure = effect_matrix(rows, "ablated", names, "slice", numbers, title)
    return figure.update_layout(xaxis_title="slice of the ranking (1: best neurons)", height=figure.layout.height - 60)


def _line(rows: pd.DataFrame, column: str, ends: Sequence[str] | None, colour: str, name: str) -> list[go.Scatter]:
    """A line and the band around it, where both ends are finite; filled marks are significant."""
    rows = rows[rows[column].notna()].sort_values("k")
    bounded = rows.head(0)
    if ends is not None:
        bounded = rows[np.isfinite(rows[[column + end for end in ends]].to_numpy(dtype=float)).all(axis=1)]
    low, high = (bounded[column + end] for end in ends or ("", ""))
    band = go.Scatter(
        x=[*bounded["k"], *bounded["k"][::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=0.2,
        mode="none",
        legendgroup=name,
        showlegend=False,
        hoverinfo="skip",
    )
    hollow = ~rows["verdict"].isin(SHOWN) if "verdict" in rows and column == "effect" else pd.Series(False, rows.index)
    line = go.Scatter(
        x=rows["k"],
        y=rows[column],
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": 6, "symbol": np.where(hollow, "circle-open", "circle")},
        name=name,
        legendgroup=name,
        hovertext=[f"k = {k:,}<br>{text}" for k, text in zip(rows["k"], _texts(rows, column), strict=True)],
        hoverinfo="text",
    )
    return [band, line]


def _texts(rows: pd.DataFrame, column: str) -> list[str]:
    if "verdict" in rows:
        return hover_texts(rows)
    return [f"{interval_text(row, column, decimals=3)}, n = {row['n']} relations" for row in rows.to_dict("records")]


def _dose_axis(figure: go.Figure, ks: pd.Series) -> go.Figure:
    powers = [10**power for power in range(12) if ks.min() <= 10**power <= ks.max()]
    ticks = powers if len(powers) > 1 else sorted({int(ks.min()), int(ks.max())})
    figure.add_hline(y=0, line_width=1, line_color=ZERO)
    return figure.update_xaxes(type="log", tickvals=ticks, ticktext=[tick_text(tick) for tick in ticks])


def _add_counts(figure: go.Figure, pooled: pd.DataFrame) -> None:
    """Add the counts of all relations for each single step."""
    for name, y, colour, width in (
        ("answers lost", "total", FAINT, 0.8),
        ("lost by the added neurons alone", "affected", OWN, 0.5),
        ("lost by random controls", "affected_random", OTHER, 0.15),
    ):
        bar = {"marker_color": colour, "width": width, "name": name, "hoverinfo": "text"}
        figure.add_bar(x=pooled["place"], y=pooled[y], hovertext=_step_texts(pooled), row=2, col=1, **bar)
    figure.update_layout(barmode="overlay")


def _step_texts(rows: pd.DataFrame) -> list[str]:
    texts = []
    for row in rows.to_dict("records"):
        step = f"{row['k_small']:,} to {row['k']:,}" if row["k"] else "all steps"
        relation = "all relations" if row["relation"] == "all" else row["relation"]
        random = "" if np.isnan(row["affected_random"]) else f", {row['affected_random']:.0f} by random controls"
        macro = "" if np.isnan(row["macro"]) else f"<br>macro average {row['macro']:.2f}"
        lost = f"{row['total']} answers lost, {row['affected']} of them by the added neurons alone{random}"
        texts.append(
            f"{relation}, {step}<br>{lost}"
            f"<br>cumulativity {interval_text(row, 'cumulativity').replace('+', '')}, n = {row['n']} facts{macro}"
        )
    return texts
