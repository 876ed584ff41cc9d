"""Kinds of answers that the model gives."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.style import EMPTY, GREEN, OTHER, OWN, PURPLE, RISE, SKY, styled
from relation_neurons.figures.transfer import STATES

KINDS = ("right", "empty", "repeats the prompt", "other answer", "the", "a", "other")
KIND_COLOURS = (OWN, EMPTY, OTHER, RISE, GREEN, SKY, PURPLE)
"""Colours of the colour-blind safe palette of Okabe and Ito."""


def error_kinds_figure(kinds: pd.DataFrame) -> go.Figure:
    """Kinds of answers without ablation, with own and with random neurons ablated.

    After the paper's Tables 4 to 7.

    Args:
        kinds: Table `kinds` of the experiment `errors`.

    Returns:
        A panel per state; in each a bar per relation, divided by kind of answer.
    """
    n_relations, present = kinds["relation"].nunique(), set(kinds.loc[kinds["count"] > 0, "kind"])
    figure = go.Figure().set_subplots(1, 3, shared_yaxes=True, horizontal_spacing=0.06)
    for panel, (state, label) in enumerate(STATES.items(), start=1):
        for kind, colour in zip(KINDS, KIND_COLOURS, strict=True):
            rows = kinds[(kinds["kind"] == kind) & (kinds["state"] == state)]
            figure.add_bar(
                x=rows["share"],
                y=rows["relation"],
                orientation="h",
                marker_color=colour,
                name=kind,
                legendgroup=kind,
                showlegend=panel == 1 and kind in present,
                customdata=rows[["count", "n", "share_low", "share_high"]].to_numpy(),
                hovertemplate="%{y}<br>" + kind + ": %{customdata[0]} of %{customdata[1]}, %{x:.0%} "
                "[%{customdata[2]:.0%}, %{customdata[3]:.0%}]<extra>" + label + "</extra>",
                row=1,
                col=panel,
            )
        figure.update_xaxes(title=label, range=[0, 1], tickvals=[0, 0.5, 1], ticktext=["0", "50%", "100%"], col=panel)
    figure.update_layout(barmode="stack", bargap=0.25)
    figure.update_yaxes(dtick=1, range=[n_relations - 0.4, -0.6])
    return styled(figure, "Kinds of answers", height=130 + 26 * n_relations, legend_rows=2)
