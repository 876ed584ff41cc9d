"""The drop of facts with unseen objects against that of the same facts where neurons were found with their objects."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import empty_figure, error_bars, rows_of_measure
from relation_neurons.figures.style import COLOURS, MEASURE_TITLES, RANDOM, styled
from relation_neurons.statistics.formatting import interval_text

CELL = ["scorer", "ablated", "objects"]
ENDS = ("", "_low", "_high")


def carry_over_figure(effects: pd.DataFrame, pooled: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Mean effect on facts with unseen objects against that with seen objects, in the study's templates.

    Args:
        effects: Table `effects` of the experiment `carry-over`.
        pooled: Table `pooled` of the same experiment.
        measure: `logprob` or `correct`.

    Returns:
        For each scorer a large mark for all relations, with 95 % intervals over facts, small ones for the relations,
        and a cross for the control sets of all relations. On the dotted line all of the drop carries over to objects
        that were not seen, on the dashed one nothing does.
    """
    title = f"Do neurons carry objects that they were not found with? {MEASURE_TITLES[measure]}"
    if effects.empty:
        return empty_figure(title)
    tested = effects["tested"].iloc[0]
    every, each = (_beside(table[table["tested"] == tested], measure) for table in (pooled, effects))
    figure = go.Figure()
    for (scorer, rows), colour in zip(every.groupby("scorer", sort=False), cycle(COLOURS), strict=False):
        small = {"size": 6, "color": colour, "opacity": 0.45}
        large = {"size": 12, "color": colour, "line": {"width": 1, "color": "white"}}
        _marks(figure, each[each["scorer"] == scorer], str(scorer), small, showlegend=False)
        bars = {"error_x": error_bars(rows, "effect_seen"), "error_y": error_bars(rows, "effect_unseen")}
        _marks(figure, rows, str(scorer), large, **bars)
        tick = {"symbol": "x-thin-open", "size": 9, "color": colour, "line": {"width": 2}}
        controls = rows.assign(effect_seen=rows["random_seen"], effect_unseen=rows["random_unseen"])
        _marks(figure, controls, f"{scorer}, random controls", tick, showlegend=False)
    least = min(0.0, *(float(table[f"effect_{one}"].min()) for table in (every, each) for one in ("seen", "unseen")))
    for name, end, dash in (("all carries over", least, "dot"), ("nothing carries over", 0, "dash")):
        line = {"dash": dash, "width": 1, "color": RANDOM}
        figure.add_scatter(x=[least, 0], y=[end, 0], mode="lines", line=line, name=name, hoverinfo="skip")
    figure.update_layout(xaxis_title="change with seen objects", yaxis_title="change with unseen objects")
    return styled(figure, title, height=400, legend_rows=1 + (every["scorer"].nunique() + 2) // 3)


def _beside(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A row per scorer and relation, with the effects on seen and on unseen objects."""
    needed = [f"effect{end}" for end in ENDS] + ["random", "n"]
    rows = rows_of_measure(table, measure, CELL, needed)[[*CELL, *needed]]
    seen, unseen = (rows[rows["objects"] == one].drop(columns="objects") for one in ("seen", "unseen"))
    return seen.merge(unseen, on=["scorer", "ablated"], suffixes=("_seen", "_unseen")).rename(
        columns={f"effect{end}_{one}": f"effect_{one}{end}" for end in ENDS for one in ("seen", "unseen")}
    )


def _marks(figure: go.Figure, rows: pd.DataFrame, name: str, marker: dict[str, Any], **options: Any) -> None:
    hover = [
        f"{row['ablated']}, {name}<br>seen objects {interval_text(row, 'effect_seen', decimals=3)}<br>unseen objects "
        f"{interval_text(row, 'effect_unseen', decimals=3)}<br>n = {row['n_seen']} facts"
        for row in rows.to_dict("records")
    ]
    figure.add_scatter(
        x=rows["effect_seen"],
        y=rows["effect_unseen"],
        mode="markers",
        marker=marker,
        name=name,
        legendgroup=name,
        hovertext=hover,
        hoverinfo="text",
        **options,
    )
