"""Transfer of effects to other languages, templates and sites, and effects on perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import VERDICT_LABELS, empty_figure
from relation_neurons.figures.style import (
    MANY,
    MEASURE_TITLES,
    OTHER,
    OWN,
    RANDOM,
    ZERO,
    heatmap,
    is_not_first_axis,
    styled,
)
from relation_neurons.statistics.effects import SHOWN

ALL = "all relations"
STAR_NOTE = "*: significant against chance and random controls"
STATES = {"clean": "without ablation", "own": "own neurons ablated", "random": "random neurons ablated"}
TICK = {"symbol": "line-ns-open", "size": 10, "color": RANDOM}


def languages_figure(effects: pd.DataFrame, by_language: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Effects of ablation by relation and language (the paper's Figures 7 and 19).

    Args:
        effects: Table `effects` of the experiment `languages`.
        by_language: Table `by_language` of the same experiment, for the first row.
        measure: `logprob` or `correct`.
    """
    return _effects(effects, by_language, "language", measure, "Effects of ablation by language")


def neuron_types_figure(effects: pd.DataFrame, pooled: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Effects of ablating the best neurons of each site (the paper's Figures 24 to 29).

    Args:
        effects: Table `effects` of the experiment `neuron-types`.
        pooled: Table `pooled` of the same experiment, for the first row.
        measure: `logprob` or `correct`.
    """
    figure = _effects(effects, pooled, "site", measure, "Effects of ablating the neurons of each site")
    if not effects.empty:
        sizes = effects.drop_duplicates("site")
        labels = [f"{site}<br>k = {k:,}" for site, k in zip(sizes["site"], sizes["k"], strict=True)]
        figure.update_xaxes(tickvals=list(sizes["site"]), ticktext=labels)
    return figure


def _effects(effects: pd.DataFrame, pooled: pd.DataFrame, by: str, measure: str, title: str) -> go.Figure:
    """Matrix of effects by relation and `by`, pooled ones in the first row; stars mark significance."""
    if effects.empty:
        return empty_figure(title)
    cells = _cells(effects, pooled, measure)
    stars = cells["verdict"].map(dict.fromkeys(SHOWN, "*")).fillna("")
    cells = cells.assign(text=cells["effect"].map("{:.2f}".format) + stars, hover=_hover(cells))
    names, columns = list(cells["ablated"].unique()), list(effects[by].unique())
    effect, text, hover = (
        cells.pivot(index="ablated", columns=by, values=name).reindex(index=names, columns=columns)
        for name in ("effect", "text", "hover")
    )
    template = "%{y}, %{x}<br>%{customdata}<extra></extra>"
    figure = heatmap(effect.to_numpy(dtype=float), names, columns, hover=template, diverging=True)
    figure.update_traces(
        text=text.fillna("").to_numpy(), texttemplate="%{text}", customdata=hover.fillna("").to_numpy()
    )
    figure.add_hline(y=0.5, line_width=2, line_color=ZERO)
    figure = styled(figure, title, height=150 + (24 if len(names) > MANY else 30) * len(names), legend_rows=0)
    figure.update_xaxes(
        tickangle=0, showgrid=False, type="category", title=f"change in {MEASURE_TITLES[measure]}; {STAR_NOTE}"
    )
    return figure.update_yaxes(dtick=1, showgrid=False)


def drops_figure(pooled: pd.DataFrame, by: str, measure: str = "correct") -> go.Figure:
    """Values before and after ablation over all relations, by language, site or other group.

    Args:
        pooled: Table of effects pooled over relations, such as `by_language` of `languages`.
        by: Column that identifies its rows, such as `language`.
        measure: `logprob` or `correct`.

    Returns:
        A row per group: a line from the value without to the value with ablation, the 95 % interval
        of the change, and the value with random controls ablated.
    """
    title = f"All relations before and after ablation: {MEASURE_TITLES[measure]}"
    if pooled.empty:
        return empty_figure(title)
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
    """Effects for all pairs of template sets of detection and evaluation (extends Figure 8).

    Args:
        effects: Table `effects` of the experiment `templates`.
        pooled: Table `pooled` of the same experiment, for the first row.
        measure: `logprob` or `correct`.

    Returns:
        A panel per template set of the evaluation; in each a row per relation with the effects, their
        95 % intervals over facts, and the means of the control sets.
    """
    title = "Effects by template set of detection and evaluation"
    if effects.empty:
        return empty_figure(title)
    cells = _cells(effects, pooled, measure)
    names, sets = list(cells["ablated"].unique()), list(effects["tested"].unique())
    figure = go.Figure().set_subplots(1, len(sets), shared_yaxes=True, horizontal_spacing=0.04)
    for panel, evaluated in enumerate(sets, start=1):
        for number, detected in enumerate(sets):
            rows = cells[(cells["tested"] == evaluated) & (cells["detected"] == detected)]
            positions = [names.index(name) + 0.34 * number - 0.17 for name in rows["ablated"]]
            hover = [f"{name}<br>{text}" for name, text in zip(rows["ablated"], _hover(rows), strict=True)]
            marker = _dot((OWN, OTHER)[number], ("circle", "diamond")[number])
            options: dict[str, Any] = {"row": 1, "col": panel, "showlegend": panel == 1}
            name = f"detected with {detected}"
            _points(figure, rows["effect"], positions, name, marker, hover, error_x=_interval(rows), **options)
            options["showlegend"] = panel == 1 and number == 1
            _points(figure, rows["random"], positions, "random controls (mean)", TICK, hover, **options)
        figure.add_vline(x=0, line_width=1, line_color=ZERO, row=1, col=panel)
        figure.update_xaxes(title=f"evaluated with {evaluated}:<br>change in {MEASURE_TITLES[measure]}", col=panel)
    figure.update_xaxes(matches="x", selector=is_not_first_axis)
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.6])
    return styled(figure, title, height=130 + 34 * len(names))


def perplexity_figure(perplexity: pd.DataFrame, states: pd.DataFrame) -> go.Figure:
    """Perplexity of neutral sentences before and after ablation (the paper's Table 2).

    Args:
        perplexity: Table `perplexity` of the experiment `perplexity`.
        states: Table `states` of the same experiment, with each control set.

    Returns:
        A row per relation, labelled with the perplexity before and after ablation: the mean change of
        the loss per token with its 95 % interval over sentences, and a mark for every control set.
    """
    title = "Perplexity of neutral sentences"
    if perplexity.empty:
        return empty_figure(title)
    labels, hover, figure = {}, [], go.Figure()
    for row in perplexity.to_dict("records"):
        star = " *" if row["verdict"] in SHOWN else ""
        labels[row["ablated"]] = f"{row['ablated']} {row['clean']:.1f} → {row['own']:.1f}{star}"
        change = f"{row['effect']:+z.4f} [{row['effect_low']:+z.4f}, {row['effect_high']:+z.4f}] nats per token"
        verdict = VERDICT_LABELS.get(row["verdict"], row["verdict"])
        hover.append(
            f"{change}<br>n = {row['n']} sentences<br>perplexity with random controls {row['random']:.1f}<br>{verdict}"
        )
    controls = states[states["state"] == "random"]
    texts = [f"perplexity {value:.1f}" for value in controls["perplexity"]]
    names = list(labels.values())
    _lines(figure, 0 * perplexity["effect"], perplexity["effect"], names)
    _points(figure, controls["effect"], controls["ablated"].map(labels), "each control set", TICK, texts)
    _points(figure, perplexity["effect"], names, STATES["own"], _dot(OWN), hover, error_x=_interval(perplexity))
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    figure.update_xaxes(title=f"change in loss (nats per token)<br>{STAR_NOTE}")
    figure.update_yaxes(type="category", dtick=1, range=[len(names) - 0.4, -0.6])
    return styled(figure, title, height=140 + 26 * len(names))


def _cells(effects: pd.DataFrame, pooled: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Rows of a measure, with those of all relations first."""
    cells = pd.concat([pooled.assign(ablated=ALL), effects], ignore_index=True)
    return cells[cells["measure"] == measure]


def _lines(figure: go.Figure, starts: pd.Series, ends: pd.Series, rows: Any) -> None:
    """Add a line in each row."""
    x = [end for pair in zip(starts, ends, strict=True) for end in (*pair, None)]
    y = [row for row in rows for _ in range(3)]
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": OWN, "width": 1, "dash": "dot"}, showlegend=False, hoverinfo="skip"
    )


def _points(
    figure: go.Figure, x: pd.Series, y: Any, name: str, marker: Any, hover: Sequence[str], **options: Any
) -> None:
    """Add marks of one kind, with a common legend entry."""
    style = {"mode": "markers", "marker": marker, "name": name, "legendgroup": name}
    template = "%{customdata}<extra>" + name + "</extra>"
    figure.add_scatter(x=x, y=y, customdata=hover, hovertemplate=template, **style, **options)


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
    """Hover text of each effect."""
    return [
        f"{row['effect']:+z.3f} [{row['effect_low']:+z.3f}, {row['effect_high']:+z.3f}], n = {row['n']} facts<br>"
        f"without ablation {row['clean']:.3f}, {row['n_controls']} random controls: mean {row['random']:+z.3f}<br>"
        f"{VERDICT_LABELS.get(row['verdict'], row['verdict'])}, p = {row['p_holm']:.2g} (Holm)"
        for row in rows.to_dict("records")
    ]
