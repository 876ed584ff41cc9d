"""What happens as more and more neurons are silenced: doses, nested sets, slices, and the fates of single answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int
from numpy import ndarray

from relation_neurons.errors import refuse
from relation_neurons.experiments.effects import NOT_SHOWN
from relation_neurons.experiments.finding import said
from relation_neurons.figures.effects import (
    ENDS,
    MEASURE_TITLES,
    choose,
    details,
    errors,
    keyed,
    marked_matrix,
    measured,
    nothing,
    raised,
    short,
    wrapped,
)
from relation_neurons.figures.style import OTHER, OWN, RANDOM, styled
from relation_neurons.statistics import mean_interval

COLUMNS = 3
"""Small panels beside each other, so that they are legible on a narrow page."""
FATES = {
    "right throughout": OWN,
    "right again": "#56B4E9",
    "gained": "#009E73",
    "lost": "#D55E00",
    "wrong without silencing": "rgba(127,127,127,0.35)",
}
"""What has become of an answer, the right ones first, with its colour."""


def dose_figure(
    effects: pd.DataFrame, others: pd.DataFrame | None = None, measure: str = "logprob", max_panels: int = 16
) -> go.Figure:
    """Own facts by number of silenced neurons, beside nested random sets (the paper's Figures 5, 14, 15, 20 to 22).

    Args:
        effects: From the experiment `sweep`; filled marks are shown after Holm's correction.
        others: Its table of other relations' facts.
        measure: `logprob` or `correct`.
        max_panels: Relations up to which each has a small panel; of more, one is chosen from a menu.
    """
    rows, title = measured(effects, measure, ["silenced", "k"]), f"Dose and response: {MEASURE_TITLES[measure]}"
    if rows.empty:
        return nothing(title)
    other = rows.head(0) if others is None else measured(others, measure, ["silenced", "k"])
    parts = {}
    for name, group in rows.groupby("silenced", sort=False):
        traces = _line(group, "random", ("_min", "_max"), RANDOM, "random sets, mean and range")
        traces += _line(other[other["silenced"] == name], "effect", None, OTHER, "other facts")
        traces += _line(group, "effect", ENDS, OWN, "own facts, 95 % (filled: shown)")
        parts[str(name)] = traces
    figure = _panels(parts, title, max_panels, "neurons silenced")
    figure.update_yaxes(title="change", col=1)
    return _dose_axis(figure, rows["k"])


def mean_dose_figure(effects: pd.DataFrame, others: pd.DataFrame | None = None, measure: str = "logprob") -> go.Figure:
    """The mean over relations by number of silenced neurons, 95 % over relations.

    Args:
        effects: From the experiment `sweep`.
        others: Its table of other relations' facts.
        measure: `logprob` or `correct`.
    """
    rows, title = measured(effects, measure, ["silenced", "k"]), f"Mean over relations: {MEASURE_TITLES[measure]}"
    if rows.empty:
        return nothing(title)
    other = rows.head(0) if others is None else measured(others, measure, ["silenced", "k"])
    figure = go.Figure()
    for table, column, colour, name in (
        (rows, "random", RANDOM, "random sets, own facts"),
        (other, "effect", OTHER, "other facts"),
        (rows, "effect", OWN, "own facts"),
    ):
        means = []
        for k, values in table.dropna(subset=[column]).groupby("k")[column]:
            mean, low, high, n = mean_interval(values.to_numpy(dtype=float))
            means.append({"k": k, "mean": mean, "mean_low": low, "mean_high": high, "n": n})
        columns = ["k", "mean", "mean_low", "mean_high", "n"]
        figure.add_traces(_line(pd.DataFrame(means, columns=columns), "mean", ENDS, colour, name))
    figure = keyed(styled(figure, title, height=360, legend_rows=2))
    figure.update_layout(xaxis_title="neurons silenced", yaxis_title="change")
    return _dose_axis(figure, rows["k"])


def steps_figure(steps: pd.DataFrame) -> go.Figure:
    """Cumulativity from each k to the next (the paper's Figure 6 and Table 3).

    Args:
        steps: From `cumulativity.difference_table`. Above the averages, below the counts behind them.
    """
    title, single = "Cumulativity by step of k", steps.loc[steps["k"] > 0, ["k_small", "k"]].drop_duplicates()
    if steps.empty:
        return nothing(title)
    order = [*single.sort_values("k").itertuples(index=False, name=None), (0, 0)]
    labels = [f"{short(small)}<br>to {short(k)}" for small, k in order[:-1]] + ["all<br>steps"]
    place = [order.index(pair) for pair in zip(steps["k_small"], steps["k"], strict=True)]
    rows = steps.assign(place=place).rename(columns={end[1:]: f"cumulativity{end}" for end in ENDS})
    every, each = rows[rows["relation"] == "all"], rows[(rows["relation"] != "all") & (rows["total"] > 0)]
    figure = go.Figure().set_subplots(2, 1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.06)
    for name, table, y, shift, colour, symbol in (
        ("each relation", each, "cumulativity", 0.0, RANDOM, "line-ew-open"),
        ("micro average, 95 %", every, "cumulativity", -0.12, OWN, "circle"),
        ("macro average", every, "macro", 0.12, OTHER, "diamond"),
    ):
        figure.add_scatter(
            x=table["place"] + shift,
            y=table[y],
            error_y=errors(table, y) if y == "cumulativity" and table is every else None,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 9},
            name=name,
            hovertext=_step_texts(table),
            hoverinfo="text",
            row=1,
            col=1,
        )
    _add_counts(figure, every[every["k"] > 0])
    figure = styled(figure, title, height=430, legend_rows=3)
    figure.update_xaxes(tickvals=list(range(len(order))), ticktext=labels, tickangle=0, tickfont_size=11)
    figure.update_yaxes(title="cumulativity", range=[-0.05, 1.05], row=1)
    return figure.update_yaxes(title="answers", row=2)


def slices_figure(slices: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What each disjoint slice of the ranking does on its own.

    Args:
        slices: From the experiment `cumulativity`.
        measure: `logprob` or `correct`.
    """
    rows, title = measured(slices, measure, ["silenced", "slice"]), f"Slice by slice: {MEASURE_TITLES[measure]}"
    if rows.empty:
        return nothing(title)
    names, numbers = list(rows["silenced"].unique()), sorted(rows["slice"].unique())
    figure = marked_matrix(rows, "silenced", names, "slice", numbers, title)
    return figure.update_layout(xaxis_title="slice of the ranking, 1 the best", height=figure.layout.height - 60)


def fates_figure(facts: pd.DataFrame, ks: Sequence[int] | None = None, max_panels: int = 16) -> go.Figure:
    """What becomes of the answers as more neurons are silenced, in all relations and in each.

    Args:
        facts: From `cumulativity.flip_table`.
        ks: The numbers of neurons, ascending; by default those at which some answer first changed, the others unnamed.
        max_panels: Relations up to which each has a small panel; of more, one is chosen from a menu.
    """
    title = "Fates of answers"
    if facts.empty:
        return nothing(title)
    courses = np.array([list(map(int, course)) for course in facts["course"]])
    labels = ["0", *_labels(facts, courses, ks)]
    relations = facts["relation"].to_numpy()
    parts = {f"all relations ({len(facts)})": _fates(courses, labels)}
    for name in facts["relation"].unique():
        there = courses[relations == name]
        parts[f"{name} ({len(there)})"] = _fates(there, labels)
    figure = _panels(parts, title, max_panels + 1, "neurons silenced")
    figure.update_layout(barmode="stack", bargap=0.06)
    stride = 1 if len(parts) > max_panels + 1 else 1 + (len(labels) - 1) // 6
    figure.update_xaxes(
        tickvals=list(range(len(labels)))[::stride], ticktext=labels[::stride], tickangle=0, showgrid=False
    )
    return figure.update_yaxes(range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%", title="answers", col=1)


def _panels(parts: Mapping[str, Sequence[go.Figure]], title: str, most: int, x_title: str) -> go.Figure:
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


def _line(rows: pd.DataFrame, column: str, ends: Sequence[str] | None, colour: str, name: str) -> list[go.Scatter]:
    """A band, where both its ends are known, and the line in it; filled marks have a verdict."""
    rows = rows[rows[column].notna()].sort_values("k")
    known = rows.head(0)
    if ends is not None:
        finite = np.isfinite(rows[[column + end for end in ends]].to_numpy(dtype=float)).all(axis=1)
        known = rows[finite]
    low, high = (known[column + end] for end in ends or ("", ""))
    band = go.Scatter(
        x=[*known["k"], *known["k"][::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=0.2,
        mode="none",
        legendgroup=name,
        showlegend=False,
        hoverinfo="skip",
    )
    hollow = rows["verdict"] == NOT_SHOWN if "verdict" in rows and column == "effect" else pd.Series(False, rows.index)
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
        return details(rows)
    return [f"{said(row, column, decimals=3)}, n = {row['n']} relations" for row in rows.to_dict("records")]


def _dose_axis(figure: go.Figure, ks: pd.Series) -> go.Figure:
    powers = [10**power for power in range(12) if ks.min() <= 10**power <= ks.max()]
    ticks = powers if len(powers) > 1 else sorted({int(ks.min()), int(ks.max())})
    figure.add_hline(y=0, line_width=1, line_color="#777")
    return figure.update_xaxes(type="log", tickvals=ticks, ticktext=[short(tick) for tick in ticks])


def _add_counts(figure: go.Figure, every: pd.DataFrame) -> None:
    """The counts of all relations together; those of all steps together would dwarf them."""
    for name, y, colour, width in (
        ("turned wrong", "total", "rgba(127,127,127,0.45)", 0.8),
        ("by the added ones alone", "affected", OWN, 0.5),
        ("by random ones", "affected_random", OTHER, 0.15),
    ):
        bar = {"marker_color": colour, "width": width, "name": name, "hoverinfo": "text"}
        figure.add_bar(x=every["place"], y=every[y], hovertext=_step_texts(every), row=2, col=1, **bar)
    figure.update_layout(barmode="overlay")


def _step_texts(rows: pd.DataFrame) -> list[str]:
    found = []
    for row in rows.to_dict("records"):
        step = f"{row['k_small']:,} to {row['k']:,}" if row["k"] else "all steps"
        who = "all relations" if row["relation"] == "all" else row["relation"]
        random = "" if np.isnan(row["affected_random"]) else f", {row['affected_random']:.0f} with random ones"
        macro = "" if np.isnan(row["macro"]) else f"<br>macro average {row['macro']:.2f}"
        found.append(
            f"{who}, {step}<br>{row['total']} turned wrong, {row['affected']} of them with the added ones alone{random}"
            f"<br>cumulativity {said(row, 'cumulativity').replace('+', '')}, n = {row['n']} facts{macro}"
        )
    return found


def _fates(courses: Int[ndarray, "answer step"], labels: Sequence[str]) -> list[go.Bar]:
    """The share of answers in each state at every step."""
    right, at_first = courses == 1, courses[:, :1] == 1
    throughout = np.logical_and.accumulate(right, axis=1)
    states = (throughout, right & at_first & ~throughout, right & ~at_first, ~right & at_first, ~right & ~at_first)
    bars = []
    for (name, colour), state in zip(FATES.items(), states, strict=True):
        counts, fresh = state.sum(axis=0), (state[:, 1:] & ~state[:, :-1]).sum(axis=0)
        hover = [f"k = {label}<br>{n} of {len(courses)} {name}" for label, n in zip(labels, counts, strict=True)]
        hover[1:] = [f"{text}, {n} of them not at the k before" for text, n in zip(hover[1:], fresh, strict=True)]
        about = {"name": name, "legendgroup": name, "marker_color": colour, "hovertext": hover, "hoverinfo": "text"}
        bars.append(go.Bar(x=list(range(len(labels))), y=counts / len(courses), **about))
    return bars


def _labels(facts: pd.DataFrame, courses: Int[ndarray, "answer step"], ks: Sequence[int] | None) -> list[str]:
    """What the steps are called: their k where it is given, or where an answer first changed."""
    n_steps = courses.shape[1] - 1
    if ks is not None:
        if len(ks) != n_steps:
            raise refuse(f"{len(ks)} ks were given", expected=f"{n_steps}, as many as the courses have steps")
        return [short(k) for k in ks]
    changed = courses != courses[:, :1]
    first = facts["lost_at"].fillna(facts["gained_at"])
    known = dict(zip(changed.argmax(axis=1), first, strict=True))
    return [short(known[step]) if known.get(step, np.nan) > 0 else "?" for step in range(1, n_steps + 1)]
