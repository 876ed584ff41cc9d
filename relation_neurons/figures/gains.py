"""Gains of other relations' facts under ablation, the largest pairs first."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import refuse
from relation_neurons.figures.common import ENDS, empty_figure, error_bars, range_with_margin, with_one_legend
from relation_neurons.figures.style import OWN, RANDOM, RISE, ZERO, row_height, styled
from relation_neurons.statistics.effects import RISES
from relation_neurons.statistics.formatting import interval_text

COLUMNS = ("ablated", "relation", "n", "gain", "gain_low", "gain_high", "effect", "random", "turned_right", "p_family")


def gains_figure(gains: pd.DataFrame, most: int = 20) -> go.Figure:
    """Mean gain of each pair's facts beyond random sets, with 95 % intervals over facts.

    After the paper's Figure 4, in the direction of a gain only.

    Args:
        gains: Table `gains` of the experiment `inter`.
        most: Largest number of pairs, those with the largest gains.
    """
    title = "Largest gains beyond random sets: log-probability (nats)"
    if gains.empty:
        return empty_figure(title)
    if missing := [name for name in (*COLUMNS, "verdict") if name not in gains]:
        raise refuse(f"The table has no column {', '.join(missing)}", expected="the table `gains`")
    rows = gains.sort_values("gain", ascending=False, kind="stable").head(most)[::-1]
    rows = rows.assign(place=range(len(rows)))
    shown = rows["verdict"] == RISES
    figure = go.Figure()
    for name, table, column, colour, symbol in (
        ("mean change under random sets", rows[rows["random"].notna()], "random", RANDOM, "line-ns-open"),
        ("gain, 95 %, shown (max-T)", rows[shown], "gain", RISE, "circle"),
        ("gain, 95 %, not shown", rows[~shown], "gain", OWN, "circle-open"),
    ):
        figure.add_scatter(
            x=table[column],
            y=table["place"],
            error_x=error_bars(table, column) if column == "gain" else None,
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=name,
            hovertext=_texts(table),
            hoverinfo="text",
        )
    figure = styled(figure, title, height=120 + row_height(list(rows["place"])) * len(rows), legend_rows=2)
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    ends = rows[["gain", *(f"gain{end}" for end in ENDS), "random"]].to_numpy(dtype=float)
    figure.update_xaxes(range=range_with_margin(ends), title="change of the asked relation's facts")
    labels = [f"{one} → {other}" for one, other in zip(rows["ablated"], rows["relation"], strict=True)]
    figure.update_yaxes(tickvals=list(rows["place"]), ticktext=labels, range=[-0.6, len(rows) - 0.4])
    return with_one_legend(figure)


def _texts(rows: pd.DataFrame) -> list[str]:
    return [
        f"{row['ablated']} ablated, {row['relation']} asked<br>gain {interval_text(row, 'gain', decimals=3)}, "
        f"n = {row['n']} facts, {row['turned_right']} turned right<br>change {row['effect']:+z.3f}, under random sets "
        f"{row['random']:+z.3f}<br>{row['verdict']}, p = {row['p_family']:.2g} (max-T)"
        for row in rows.to_dict("records")
    ]
