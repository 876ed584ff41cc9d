"""Where neurons are, and which of them relations share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.style import heatmap, styled


def layers_figure(neurons: pd.DataFrame, n_layers: int) -> go.Figure:
    """Where the neurons of each relation sit (the paper's Figure 1).

    Args:
        neurons: Rows of `NeuronSet.to_frame`, all relations.
        n_layers: Layers of the model.
    """
    counts = pd.crosstab(neurons["name"], neurons["layer"]).reindex(columns=range(n_layers), fill_value=0)
    counts = counts.loc[list(neurons["name"].unique())]
    figure = heatmap(
        counts.to_numpy(),
        list(counts.index),
        list(range(n_layers)),
        hover="%{y}<br>layer %{x}: %{z} neurons<extra></extra>",
    )
    figure.update_layout(xaxis_title="layer", xaxis={"dtick": 5 if n_layers > 16 else 1, "tickangle": 0})
    return styled(figure, "Relation neurons by layer", height=170 + 30 * len(counts))


def overlap_figure(neurons: pd.DataFrame) -> go.Figure:
    """How many neurons two relations share (the paper's Figure 2)."""
    names = list(neurons["name"].unique())
    sets = {
        name: set(rows.itertuples(index=False))
        for name, rows in neurons.set_index("name")[["site", "layer", "index"]].groupby(level=0)
    }
    shared = np.array([[len(sets[a] & sets[b]) if a != b else np.nan for b in names] for a in names])
    figure = heatmap(shared, names, names, hover="%{y} and %{x}<br>%{z} shared neurons<extra></extra>", decimals=0)
    return styled(figure, "Neurons that two relations share", height=200 + 34 * len(names))
