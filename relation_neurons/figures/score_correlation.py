"""Two relations' scores of the same neurons."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import nothing
from relation_neurons.figures.style import GREEN, OTHER, OWN, RANDOM, styled


def score_pair_figure(table: pd.DataFrame) -> go.Figure:
    """The average precision of neurons for one relation against that for another.

    Args:
        table: From `experiments.score_pairs.score_pair`.

    Returns:
        A point per neuron: those among the best of the first relation only, of the second only, of both, and a random
        sample of the others; dotted lines where the best of each begin.
    """
    title = "Scores of the same neurons for two relations"
    if table.empty:
        return nothing(title)
    first, second = str(table["first"].iloc[0]), str(table["second"].iloc[0])
    figure = go.Figure()
    for group, name, colour, symbol in (
        ("rest", "others, at random", RANDOM, "circle"),
        ("first", f"best of {first} only", OWN, "circle"),
        ("second", f"best of {second} only", OTHER, "diamond"),
        ("both", "best of both", GREEN, "star"),
    ):
        rows = table[table["group"] == group]
        figure.add_scattergl(
            x=rows["score_first"],
            y=rows["score_second"],
            mode="markers",
            marker={
                "color": colour,
                "symbol": symbol,
                "size": {"rest": 3, "both": 9}.get(group, 5),
                "opacity": 0.5 if group == "rest" else 0.85,
            },
            name=f"{name} ({len(rows):,})",
            customdata=rows[["neuron", "site", "layer", "index"]].to_numpy(),
            hovertemplate="%{customdata[0]}<br>site %{customdata[1]}, layer %{customdata[2]}, index %{customdata[3]}"
            f"<br>{first} %{{x:.3f}}<br>{second} %{{y:.3f}}<extra>{name}</extra>",
        )
    line = {"line_width": 1, "line_dash": "dot", "line_color": RANDOM}
    for place, group, draw in (
        ("score_first", "first", figure.add_vline),
        ("score_second", "second", figure.add_hline),
    ):
        best = table.loc[table["group"].isin([group, "both"]), place]
        if len(best):
            draw(best.min(), **line)
    figure.update_layout(xaxis_title=f"average precision for {first}", yaxis_title=f"average precision for {second}")
    return styled(figure, title, height=520, legend_rows=2).update_layout(legend_itemsizing="constant")
