"""Figures: pure functions from tables to plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import refuse

OWN, OTHER, RANDOM = "#0072B2", "#E69F00", "#7F7F7F"
"""Colour-blind safe (Okabe and Ito): a relation's own facts, other relations' facts, random controls."""
GRID = "rgba(128,128,128,0.2)"

MEASURE_TITLES = {
    "logprob": "change in log-probability of the object (nats)",
    "correct_prefix": "change in accuracy (2-token prefix rule)",
    "correct_string": "change in accuracy (string rule)",
}


def effects_figure(summary: pd.DataFrame, changes: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What silencing each relation's neurons does (the paper's Figure 3, with intervals and every control).

    Args:
        summary: From `experiments.ablation.summarise`.
        changes: From `experiments.ablation.effects`, for the single controls.
        measure: `logprob`, `correct_prefix` or `correct_string`.

    Returns:
        A row per relation: its own facts, the other relations' facts, the mean of its controls, each with a 95 %
        interval over facts, and every control set as a small mark.
    """
    rows = summary[summary["measure"] == measure].sort_values("own_mean", ascending=False)
    relations = list(rows["relation"])
    place = {relation: number for number, relation in enumerate(relations)}
    figure = go.Figure()
    random = changes[changes["kind"] == "random"]
    controls = random.groupby(["silenced", "condition"], sort=False)[f"d_{measure}"].mean().reset_index()
    figure.add_scatter(
        x=controls[f"d_{measure}"],
        y=[place[relation] - 0.25 for relation in controls["silenced"]],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "color": RANDOM},
        name="each control set",
        text=controls["condition"],
        hovertemplate="%{text}<br>%{x:+.3f}<extra></extra>",
    )
    parts = (
        ("own", "its own facts", OWN, 0.25, "circle"),
        ("other", "other relations' facts", OTHER, 0.0, "diamond"),
        ("random", "random neurons, its own facts", RANDOM, -0.25, "square"),
    )
    for part, label, colour, shift, symbol in parts:
        figure.add_scatter(
            x=rows[f"{part}_mean"],
            y=[place[relation] + shift for relation in relations],
            error_x={
                "array": rows[f"{part}_high"] - rows[f"{part}_mean"],
                "arrayminus": rows[f"{part}_mean"] - rows[f"{part}_low"],
                "thickness": 1.5,
                "width": 3,
            },
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=label,
            customdata=np.stack(
                [rows["relation"], rows[f"{part}_low"], rows[f"{part}_high"], rows[f"{part}_n"]], axis=-1
            ),
            hovertemplate="%{customdata[0]}<br>%{x:+.3f} [%{customdata[1]:+.3f}, %{customdata[2]:+.3f}], "
            "n = %{customdata[3]}<extra>" + label + "</extra>",
        )
    figure.add_vline(x=0, line_width=1, line_color="#777")
    figure.update_yaxes(tickvals=list(range(len(relations))), ticktext=relations, range=[-0.6, len(relations) - 0.4])
    figure.update_xaxes(title=MEASURE_TITLES[measure])
    title = "Silencing a relation's neurons: " + MEASURE_TITLES[measure].removeprefix("change in ")
    return _styled(figure, title, height=140 + 48 * len(relations), legend_rows=2)


def effect_matrix_figure(matrix: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Signed effects between relations (the paper's Figure 4).

    Args:
        matrix: From `experiments.ablation.effect_matrix`: row silenced, column asked.
        measure: What the numbers are.
    """
    figure = _heatmap(
        matrix.to_numpy(),
        list(matrix.index),
        list(matrix.columns),
        hover="neurons of %{y} silenced<br>facts of %{x} asked<br>%{z:+.3f}<extra></extra>",
        decimals=2,
        diverging=True,
    )
    figure.update_layout(xaxis_title="facts asked", yaxis_title="neurons silenced")
    return _styled(figure, "Effect on every relation: " + MEASURE_TITLES[measure], height=220 + 34 * len(matrix))


def layers_figure(neurons: pd.DataFrame, n_layers: int) -> go.Figure:
    """Where the neurons of each relation sit (the paper's Figure 1).

    Args:
        neurons: Rows of `NeuronSet.to_frame`, all relations.
        n_layers: Layers of the model.
    """
    counts = pd.crosstab(neurons["name"], neurons["layer"]).reindex(columns=range(n_layers), fill_value=0)
    counts = counts.loc[list(neurons["name"].unique())]
    figure = _heatmap(
        counts.to_numpy(),
        list(counts.index),
        list(range(n_layers)),
        hover="%{y}<br>layer %{x}: %{z} neurons<extra></extra>",
    )
    figure.update_layout(xaxis_title="layer", xaxis={"dtick": 5 if n_layers > 16 else 1, "tickangle": 0})
    return _styled(figure, "Relation neurons by layer", height=170 + 30 * len(counts))


def overlap_figure(neurons: pd.DataFrame) -> go.Figure:
    """How many neurons two relations share (the paper's Figure 2)."""
    names = list(neurons["name"].unique())
    sets = {
        name: set(rows.itertuples(index=False))
        for name, rows in neurons.set_index("name")[["site", "layer", "index"]].groupby(level=0)
    }
    shared = np.array([[len(sets[a] & sets[b]) if a != b else np.nan for b in names] for a in names])
    figure = _heatmap(shared, names, names, hover="%{y} and %{x}<br>%{z} shared neurons<extra></extra>", decimals=0)
    return _styled(figure, "Neurons that two relations share", height=200 + 34 * len(names))


def _heatmap(
    values: np.ndarray,
    rows: Sequence[object],
    columns: Sequence[object],
    *,
    hover: str,
    decimals: int | None = None,
    diverging: bool = False,
) -> go.Figure:
    largest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    signed = {"colorscale": "RdBu", "zmin": -largest, "zmax": largest}
    scale = signed if diverging else {"colorscale": "Blues", "zmin": 0, "zmax": max(largest, 1.0)}
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(columns),
            y=list(rows),
            hovertemplate=hover,
            hoverongaps=False,
            texttemplate=f"%{{z:.{decimals}f}}" if decimals is not None else None,
            textfont={"size": 10},
            colorbar={"thickness": 12},
            xgap=1,
            ygap=1,
            **scale,
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-45)
    return figure


def _styled(figure: go.Figure, title: str, *, height: int, legend_rows: int = 1) -> go.Figure:
    """One look for all figures: readable on light and dark pages, labels never cut."""
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 12}},
        template="plotly_white",
        font={"size": 12, "color": "#808080"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#999", "activecolor": OWN},
        title_font_size=15,
        height=height + 26 * legend_rows,
        margin={"l": 10, "r": 10, "t": 40 + 26 * legend_rows, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "xref": "paper"},
    )
    figure.update_xaxes(automargin=True, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(automargin=True, gridcolor=GRID, zeroline=False)
    return figure


def overlap_of_names_figure(table: pd.DataFrame, title: str) -> go.Figure:
    """How many subjects or objects two relations share (the paper's Figures 10 to 12).

    Args:
        table: From `describe.overlaps`; its diagonal stays empty, so that the colours show what is shared.
        title: What is counted.
    """
    sizes, names, many = np.diag(table), list(table.columns), len(table) > 24
    shared = np.where(np.eye(len(table), dtype=bool), np.nan, table.to_numpy(dtype=float))
    either = sizes[:, None] + sizes[None, :] - shared
    hover = "%{y} (%{customdata[0]}) and %{x} (%{customdata[1]})<br>%{z} shared, %{customdata[2]:.1%} of all"
    figure = _heatmap(shared, names, names, hover=hover + "<extra></extra>")
    figure.update_traces(
        customdata=np.stack([*np.broadcast_arrays(sizes[:, None], sizes[None, :]), shared / either], axis=-1),
        text=[["" if many or not n > 0 else f"{n:.0f}" for n in row] for row in shared],
        texttemplate="%{text}",
        textfont_size=None,  # as large as the cells allow
    )
    figure = _styled(figure, title, height=200 + (13 if many else 34) * len(names), legend_rows=0)
    figure.update_xaxes(dtick=1, showgrid=False, tickangle=-90 if many else -45, tickfont_size=9 if many else 12)
    return figure.update_yaxes(dtick=1, showgrid=False, tickfont_size=9 if many else 12)


def facts_figure(description: pd.DataFrame) -> go.Figure:
    """Facts and distinct objects of each relation, and what always naming the most frequent object would score.

    Args:
        description: From `describe.describe`.
    """
    figure = _counts_and_shares(
        description,
        {"facts": "facts", "objects": "distinct objects"},
        {"majority": "share of the most frequent object, 95 % interval"},
    )
    parts = (description[name] for name in ("majority", "majority_low", "majority_high", "facts"))
    details = ["{}, [{:.1%}, {:.1%}], n = {}".format(*row) for row in zip(*parts, strict=True)]
    figure.update_traces(customdata=details, selector={"type": "scatter"})
    figure.update_layout(xaxis_title="facts, objects", xaxis2_title="share of the facts")
    return _styled(figure, "Facts of each relation", height=110 + 24 * len(description), legend_rows=2)


def token_lengths_figure(table: pd.DataFrame) -> go.Figure:
    """Tokens of each relation's objects, and how many objects their first token does not tell apart.

    Args:
        table: From `describe.describe` with a model.

    Raises:
        RelationNeuronsError: The table was made without a model.
    """
    if "tokens_max" not in table:
        raise refuse("The table says nothing of tokens", do="describe the relations with a model")
    figure = _counts_and_shares(
        table,
        {"tokens_max": "longest object", "tokens_median": "median object"},
        {"shared_first": "with another object's first token", "single_token": "of one token"},
    )
    figure.update_traces(customdata=table["objects"].map("n = {}".format), selector={"type": "scatter"})
    figure.update_layout(xaxis_title="tokens", xaxis2_title="share of the objects")
    return _styled(figure, "Objects as tokens", height=110 + 24 * len(table), legend_rows=2)


def _counts_and_shares(table: pd.DataFrame, counts: Mapping[str, str], shares: Mapping[str, str]) -> go.Figure:
    """Two counts of each relation, one bar inside the other, and beside them shares, with intervals where known."""
    figure = go.Figure().set_subplots(1, 2, shared_yaxes=True, column_widths=[0.6, 0.4], horizontal_spacing=0.05)
    for (part, label), colour, width in zip(counts.items(), (RANDOM, OWN), (0.8, 0.4), strict=True):
        hover = "%{y}<br>" + label + ": %{x:g}<extra></extra>"
        bars = {"orientation": "h", "width": width, "marker_color": colour, "name": label, "hovertemplate": hover}
        figure.add_bar(x=table[part], y=table["relation"], row=1, col=1, **bars)
    for (part, label), colour, symbol in zip(shares.items(), (OTHER, OWN), ("diamond", "circle"), strict=False):
        share, error = table[f"{part}_share"], None
        if f"{part}_low" in table:
            error = {"array": table[f"{part}_high"] - share, "arrayminus": share - table[f"{part}_low"], "width": 3}
        figure.add_scatter(
            x=share,
            y=table["relation"],
            error_x=error,
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=label,
            hovertemplate="%{y}: %{x:.1%}<br>%{customdata}<extra>" + label + "</extra>",
            row=1,
            col=2,
        )
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(range=[-0.03, 1.1], tickvals=[0, 0.5, 1], tickformat=".0%", col=2)
    return figure.update_yaxes(dtick=1, range=[len(table) - 0.4, -0.6])
