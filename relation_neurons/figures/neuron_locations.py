"""Layers of the selected neurons, and their overlap with concepts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.style import MANY, RISE, colour_range, heatmap, name_size, row_height, styled
from relation_neurons.statistics.effects import ABOVE

DETAILS = ("count", "expected", "low", "high", "p_holm")


def layer_distribution_figure(layers: pd.DataFrame) -> go.Figure:
    """Share of each relation's neurons by layer (the paper's Figures 1, 13 and 17).

    Args:
        layers: Table `layers` of the experiment `layers`; sites are summed, and listed on hover.
    """
    names, n_layers = list(layers["relation"].unique()), int(layers["layer"].max()) + 1
    summed = layers.groupby(["relation", "layer"])[["count", "share", "chance"]].sum()
    sites = layers.assign(text=layers["site"] + " " + layers["count"].astype(str))
    by_site = sites.groupby(["relation", "layer"], sort=False)["text"].agg(", ".join).unstack("layer").loc[names]
    shares, counts, chance = (summed[name].unstack("layer").loc[names] for name in ("share", "count", "chance"))
    figure = heatmap(
        shares.to_numpy(),
        names,
        list(range(n_layers)),
        hover="%{y}, layer %{x}<br>%{customdata[0]} neurons, %{z:.1%} (%{customdata[1]:.1f} expected at random)"
        "<br>%{customdata[2]}<extra></extra>",
    )
    figure.update_traces(
        customdata=np.stack([table.to_numpy(dtype=object) for table in (counts, chance, by_site)], axis=-1),
        colorbar_tickformat=".0%",
    )
    figure.update_traces(colour_range(shares.to_numpy(dtype=float), diverging=False, form=".0%"))
    step = next(step for step in (1, 2, 5, 10, 20) if n_layers / step <= 20)
    figure.update_layout(xaxis_title="layer")
    figure = styled(
        figure, "Share of each relation's neurons by layer", height=160 + row_height(names) * len(names), legend_rows=0
    )
    figure.update_xaxes(dtick=step, tickangle=0, showgrid=False)
    return label_every_row(figure, names, x=False)


def concept_overlap_figure(overlaps: pd.DataFrame) -> go.Figure:
    """Share of neurons that relations have in common with concepts (the paper's Figures 9, 30, 31).

    Args:
        overlaps: Table `overlaps` of the experiment `concepts`. A star marks an overlap above that
            of random sets matched by site and layer, Holm-corrected; a frame marks the concept of a
            relation's own subjects.
    """
    names, concepts = list(overlaps["relation"].unique()), list(overlaps["concept"].unique())
    figure = _overlaps(overlaps, "relation", names, "concept", concepts)
    own = overlaps[overlaps["own"].astype(bool)]
    for name, concept in zip(own["relation"], own["concept"], strict=True):
        row, column = names.index(name), concepts.index(concept)
        corners = {"x0": column - 0.48, "x1": column + 0.48, "y0": row - 0.46, "y1": row + 0.46}
        figure.add_shape(type="rect", line={"color": RISE, "width": 2}, **corners)
    figure.update_layout(xaxis_title="concept")
    title = "Share of neurons in common with concepts (framed: own concept; *: above matched random controls)"
    figure = styled(figure, title, height=200 + row_height(names) * len(names), legend_rows=0)
    return label_every_row(figure, names, x=False)


def _overlaps(cells: pd.DataFrame, row: str, rows: Sequence[str], column: str, columns: Sequence[str]) -> go.Figure:
    """Heatmap of the overlap coefficient with stars; counts and expectations in the hover text."""
    many = len(columns) > MANY
    grid = {name: grid_of(cells, row, rows, column, columns, name) for name in ("coefficient", "verdict", *DETAILS)}
    shares = grid["coefficient"].to_numpy(dtype=float)
    stars = np.where(grid["verdict"].to_numpy() == ABOVE, "*", "")
    figure = heatmap(
        shares,
        rows,
        columns,
        hover="%{y} and %{x}<br>%{customdata[0]:.0f} shared, %{z:.1%}<br>matched random controls %{customdata[1]:.1f} "
        "[%{customdata[2]:.0f}, %{customdata[3]:.0f}]<br>p = %{customdata[4]:.2g} (Holm)<extra></extra>",
    )
    text = [
        [
            "" if np.isnan(share) else f"{'' if many else f'{share:.2f}'}{star}"
            for share, star in zip(*pair, strict=True)
        ]
        for pair in zip(shares, stars, strict=True)
    ]
    return figure.update_traces(
        customdata=np.stack([grid[name].to_numpy(dtype=float) for name in DETAILS], axis=-1),
        text=text,
        texttemplate="%{text}",
        textfont_size=9,
        **colour_range(shares, diverging=False),
    )


def grid_of(
    cells: pd.DataFrame, row: str, rows: Sequence[str], column: str, columns: Sequence[str], name: str
) -> pd.DataFrame:
    """The values of a column of a table, by the names of its rows and columns."""
    return cells.pivot(index=row, columns=column, values=name).reindex(index=list(rows), columns=list(columns))


def label_every_row(figure: go.Figure, names: Sequence[str], *, x: bool = True) -> go.Figure:
    """Label every row, and every column if `x`, in a size at which all names fit."""
    figure.update_yaxes(dtick=1, showgrid=False, tickfont_size=name_size(names))
    if x:
        angle = -90 if len(names) > MANY else -45
        figure.update_xaxes(dtick=1, showgrid=False, tickangle=angle, tickfont_size=name_size(names))
    return figure
