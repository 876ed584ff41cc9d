"""Whether neurons carry over to other languages, templates and sites, and what their loss does to other text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.style import (
    MANY,
    MEASURE_TITLES,
    OTHER,
    OWN,
    RANDOM,
    ZERO,
    beside_the_first,
    heatmap,
    styled,
)

ALL = "all relations"
SHOWN = "* beyond chance and random neurons"
STATES = {"clean": "the model as it is", "own": "own neurons ablated", "random": "random neurons ablated"}
TICK = {"symbol": "line-ns-open", "size": 10, "color": RANDOM}


def languages_figure(effects: pd.DataFrame, by_language: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What ablating does in each language, relation by relation (the paper's Figures 7 and 19).

    Args:
        effects: From the experiment `languages`.
        by_language: From there as well, for the first row.
        measure: `logprob` or `correct`.
    """
    return _effects(effects, by_language, "language", measure, "The same facts in other languages")


def neuron_types_figure(effects: pd.DataFrame, pooled: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What ablating the best neurons of each site does (the paper's Figures 24 to 29).

    Args:
        effects: From the experiment `neuron_types`.
        pooled: From there as well, for the first row.
        measure: `logprob` or `correct`.
    """
    figure = _effects(effects, pooled, "site", measure, "Neurons of each site ablated")
    if not effects.empty:
        sizes = effects.drop_duplicates("site")
        labels = [f"{site}<br>k = {k:,}" for site, k in zip(sizes["site"], sizes["k"], strict=True)]
        figure.update_xaxes(tickvals=list(sizes["site"]), ticktext=labels)
    return figure


def _effects(effects: pd.DataFrame, pooled: pd.DataFrame, by: str, measure: str, title: str) -> go.Figure:
    """Effects as a matrix of relation and `by`, the pooled ones in the first row; a star where one is shown."""
    if effects.empty:
        return _nothing(title)
    cells = _of_measure(effects, pooled, measure)
    stars = cells["verdict"].map({"not shown": ""}).fillna("*")
    cells = cells.assign(said=cells["effect"].map("{:.2f}".format) + stars, hover=_hover(cells))
    names, columns = list(cells["ablated"].unique()), list(effects[by].unique())
    effect, said, hover = (
        cells.pivot(index="ablated", columns=by, values=name).reindex(index=names, columns=columns)
        for name in ("effect", "said", "hover")
    )
    shown = "%{y}, %{x}<br>%{customdata}<extra></extra>"
    figure = heatmap(effect.to_numpy(dtype=float), names, columns, hover=shown, diverging=True)
    figure.update_traces(
        text=said.fillna("").to_numpy(), texttemplate="%{text}", customdata=hover.fillna("").to_numpy()
    )
    figure.add_hline(y=0.5, line_width=2, line_color=ZERO)
    figure = styled(figure, title, height=150 + (24 if len(names) > MANY else 30) * len(names), legend_rows=0)
    figure.update_xaxes(
        tickangle=0, showgrid=False, type="category", title=f"change in {MEASURE_TITLES[measure]}; {SHOWN}"
    )
    return figure.update_yaxes(dtick=1, showgrid=False)


def drops_figure(pooled: pd.DataFrame, by: str, measure: str = "correct") -> go.Figure:
    """Before and after, over all relations, for each language, site or other group.

    Args:
        pooled: A table of effects pooled over relations, such as `by_language` of the experiment `languages`.
        by: The column that tells its rows apart, such as `language`.
        measure: `logprob` or `correct`.

    Returns:
        A row each, with a line from the model as it is to where ablating leaves it, the 95 % interval of the change,
        and where control sets leave it.
    """
    title = f"All relations, before and after: {MEASURE_TITLES[measure]}"
    if pooled.empty:
        return _nothing(title)
    rows, figure = pooled[pooled["measure"] == measure], go.Figure()
    names, hover, after = rows[by], _hover(rows), rows["clean"] + rows["effect"]
    _lines(figure, rows["clean"], after, names)
    _points(figure, rows["clean"], names, STATES["clean"], _dot(OWN, "circle-open"), hover)
    _points(figure, after, names, STATES["own"], _dot(OWN), hover, error_x=_interval(rows))
    _points(figure, rows["clean"] + rows["random"], names, STATES["random"], TICK, hover)
    figure.update_yaxes(type="category", dtick=1, range=[len(rows) - 0.4, -0.6])
    figure.update_xaxes(title=MEASURE_TITLES[measure])
    return styled(figure, title, height=130 + 34 * len(rows))


def templates_figure(effects: pd.DataFrame, pooled: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Neurons found with either template set, asked in either (the paper's Figure 8, crossed).

    Args:
        effects: From the experiment `templates`.
        pooled: From there as well, for the first row.
        measure: `logprob` or `correct`.

    Returns:
        A panel for each set asked; in each a row per relation with the effects, their 95 % intervals over facts, and
        the means of the control sets.
    """
    title = "Found with one template set, asked in another"
    if effects.empty:
        return _nothing(title)
    cells = _of_measure(effects, pooled, measure)
    names, sets = list(cells["ablated"].unique()), list(effects["asked"].unique())
    figure = go.Figure().set_subplots(1, len(sets), shared_yaxes=True, horizontal_spacing=0.04)
    for panel, asked in enumerate(sets, start=1):
        for number, found in enumerate(sets):
            rows = cells[(cells["asked"] == asked) & (cells["detected"] == found)]
            places = [names.index(name) + 0.34 * number - 0.17 for name in rows["ablated"]]
            hover = [f"{name}<br>{one}" for name, one in zip(rows["ablated"], _hover(rows), strict=True)]
            look = _dot((OWN, OTHER)[number], ("circle", "diamond")[number])
            at: dict[str, Any] = {"row": 1, "col": panel, "showlegend": panel == 1}
            _points(figure, rows["effect"], places, f"found with {found}", look, hover, error_x=_interval(rows), **at)
            at["showlegend"] = panel == 1 and number == 1
            _points(figure, rows["random"], places, "random (mean)", TICK, hover, **at)
        figure.add_vline(x=0, line_width=1, line_color=ZERO, row=1, col=panel)
        figure.update_xaxes(title=f"asked in {asked}:<br>change in {MEASURE_TITLES[measure]}", col=panel)
    figure.update_xaxes(matches="x", selector=beside_the_first)
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.6])
    return styled(figure, title, height=130 + 34 * len(names))


def perplexity_figure(perplexity: pd.DataFrame, states: pd.DataFrame) -> go.Figure:
    """Perplexity of neutral sentences before and after (the paper's Table 2).

    Args:
        perplexity: From the experiment `language_modelling`.
        states: From there as well, for each control set.

    Returns:
        A row per relation, named with the perplexity before and after: the mean change per token with its 95 % interval
        over sentences, and every control set as a mark.
    """
    title = "Perplexity of neutral sentences"
    if perplexity.empty:
        return _nothing(title)
    label, hover, figure = {}, [], go.Figure()
    for row in perplexity.to_dict("records"):
        star = "" if row["verdict"] == "not shown" else " *"
        label[row["ablated"]] = f"{row['ablated']} {row['clean']:.1f} → {row['own']:.1f}{star}"
        change = f"{row['effect']:+.4f} [{row['effect_low']:+.4f}, {row['effect_high']:+.4f}] nats per token"
        hover.append(f"{change}<br>n = {row['n']} sentences, random {row['random']:.1f}<br>{row['verdict']}")
    drawn = states[states["state"] == "random"]
    each = [f"perplexity {value:.1f}" for value in drawn["perplexity"]]
    names = list(label.values())
    _lines(figure, 0 * perplexity["effect"], perplexity["effect"], names)
    _points(figure, drawn["effect"], drawn["ablated"].map(label), "each random set", TICK, each)
    _points(figure, perplexity["effect"], names, STATES["own"], _dot(OWN), hover, error_x=_interval(perplexity))
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    figure.update_xaxes(title=f"nats per token, a rise is damage<br>{SHOWN}")
    figure.update_yaxes(type="category", dtick=1, range=[len(names) - 0.4, -0.6])
    return styled(figure, title, height=140 + 26 * len(names))


def _of_measure(effects: pd.DataFrame, pooled: pd.DataFrame, measure: str) -> pd.DataFrame:
    cells = pd.concat([pooled.assign(ablated=ALL), effects], ignore_index=True)
    return cells[cells["measure"] == measure]


def _lines(figure: go.Figure, starts: pd.Series, ends: pd.Series, rows: Any) -> None:
    """A line in each row."""
    x = [end for pair in zip(starts, ends, strict=True) for end in (*pair, None)]
    y = [row for row in rows for _ in range(3)]
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": OWN, "width": 1, "dash": "dot"}, showlegend=False, hoverinfo="skip"
    )


def _points(figure: go.Figure, x: pd.Series, y: Any, name: str, marker: Any, hover: Sequence[str], **more: Any) -> None:
    """Marks of one kind, in the legend and switched on and off under one name."""
    look = {"mode": "markers", "marker": marker, "name": name, "legendgroup": name}
    shown = "%{customdata}<extra>" + name + "</extra>"
    figure.add_scatter(x=x, y=y, customdata=hover, hovertemplate=shown, **look, **more)


def _dot(colour: str, symbol: str = "circle") -> dict[str, object]:
    return {
        "color": colour,
        "size": 9,
        "symbol": symbol,
        "line": {"width": 2 * symbol.endswith("open"), "color": colour},
    }


def _interval(rows: pd.DataFrame) -> dict[str, object]:
    high, low = rows["effect_high"] - rows["effect"], rows["effect"] - rows["effect_low"]
    return {"array": high, "arrayminus": low, "thickness": 1.5, "width": 3}


def _hover(rows: pd.DataFrame) -> list[str]:
    """What is said of each effect under the pointer."""
    return [
        f"{row['effect']:+.3f} [{row['effect_low']:+.3f}, {row['effect_high']:+.3f}], n = {row['n']} facts<br>"
        f"before {row['clean']:.3f}, random neurons {row['random']:+.3f} ({row['n_controls']} sets)<br>"
        f"{row['verdict']} (p = {row['p_holm']:.2g}, Holm)"
        for row in rows.to_dict("records")
    ]


def _nothing(title: str) -> go.Figure:
    figure = go.Figure().add_annotation(
        text="nothing was asked", showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper"
    )
    return styled(figure.update_xaxes(visible=False).update_yaxes(visible=False), title, height=120, legend_rows=0)
