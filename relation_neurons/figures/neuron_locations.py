"""Layers of the selected neurons, and their overlap between relations and with concepts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import wrapped_label
from relation_neurons.figures.style import MANY, OWN, RANDOM, RISE, heatmap, name_size, row_height, styled
from relation_neurons.models.sites import Neuron
from relation_neurons.statistics.effects import ABOVE
from relation_neurons.statistics.formatting import name_list

LEAST = 0.5
"""Position of 0 on a logarithmic axis."""
MAX_NAMED = 8
"""Number of shared neurons that the hover text lists."""
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
        zmax=float(shares.to_numpy().max()),
        colorbar_tickformat=".0%",
    )
    step = next(step for step in (1, 2, 5, 10, 20) if n_layers / step <= 20)
    figure.update_layout(xaxis_title="layer")
    figure = styled(
        figure, "Share of each relation's neurons by layer", height=160 + row_height(names) * len(names), legend_rows=0
    )
    figure.update_xaxes(dtick=step, tickangle=0, showgrid=False)
    return _label_every_row(figure, names, x=False)


def overlap_matrix_figure(pairs: pd.DataFrame, neurons: pd.DataFrame | None = None) -> go.Figure:
    """Share of neurons that two relations have in common (the paper's Figures 2 and 18).

    Args:
        pairs: Table `pairs` of the experiment `overlap`; a star marks an overlap above that of random
            sets matched by site and layer, Holm-corrected.
        neurons: The sets of neurons, as from `NeuronSet.to_frame`, best first; if given, the hover text
            lists shared neurons.

    Returns:
        A heatmap whose x and y are names of relations, so that a page can identify a clicked cell.
    """
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    transposed = pairs.rename(columns={"first": "second", "second": "first"})
    cells = pd.concat([pairs, transposed], ignore_index=True)
    figure = _overlaps(cells, "first", names, "second", names)
    if neurons is not None:
        (heat,) = figure.data
        shown = heat.hovertemplate.replace("<extra>", "%{hovertext}<extra>")
        figure.update_traces(hovertext=_shared_names(neurons, names), hovertemplate=shown)
    title = "Share of common neurons (*: above matched random controls)"
    return _label_every_row(styled(figure, title, height=200 + row_height(names) * len(names), legend_rows=0), names)


def concept_overlap_figure(overlaps: pd.DataFrame) -> go.Figure:
    """Share of neurons that relations have in common with concepts (the paper's Figures 9, 30, 31).

    Args:
        overlaps: Table `overlaps` of the experiment `concepts`. Stars are as in
            `overlap_matrix_figure`; a frame marks the concept of a relation's own subjects.
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
    return _label_every_row(figure, names, x=False)


def multiplicity_figure(multiplicity: pd.DataFrame) -> go.Figure:
    """Number of neurons selected by exactly n relations, compared with random sets.

    Args:
        multiplicity: Table `multiplicity` of the experiment `overlap`.
    """
    last = int(multiplicity.loc[multiplicity[["count", "high"]].max(axis=1) > 0, "n_relations"].max())
    rows = multiplicity[multiplicity["n_relations"] <= last]
    count, expected, low, high = (rows[name].clip(lower=LEAST) for name in ("count", "expected", "low", "high"))
    figure = go.Figure()
    figure.add_scatter(
        x=rows["n_relations"] + 0.1,
        y=expected,
        error_y={"array": (high - expected).clip(lower=0), "arrayminus": (expected - low).clip(lower=0), "width": 3},
        mode="markers",
        marker={"color": RANDOM, "size": 8, "symbol": "square"},
        name="matched random controls, 95 % range",
        customdata=rows[["n_relations", "expected", "low", "high"]].to_numpy(),
        hovertemplate="%{customdata[0]:.0f} relations<br>%{customdata[1]:.2f} "
        "[%{customdata[2]:.1f}, %{customdata[3]:.1f}]<extra>matched random controls</extra>",
    )
    figure.add_scatter(
        x=rows["n_relations"] - 0.1,
        y=count,
        mode="markers",
        marker={"color": OWN, "size": 9},
        name="relation neurons",
        customdata=rows[["n_relations", "count", "at_least", "p"]].to_numpy(),
        hovertemplate="%{customdata[0]:.0f} relations<br>%{customdata[1]:.0f} neurons; %{customdata[2]:.0f} in at "
        "least as many relations, p = %{customdata[3]:.3f}<extra>relation neurons</extra>",
    )
    ticks = [LEAST, *(10**power for power in range(int(np.log10(max(count.max(), high.max()))) + 1))]
    figure.update_yaxes(
        type="log", tickvals=ticks, ticktext=["0", *(f"{tick:,}" for tick in ticks[1:])], title="neurons"
    )
    figure.update_xaxes(dtick=1 if last <= MANY else 5, title="number of relations that select a neuron")
    return styled(figure, "Neurons selected by several relations", height=330, legend_rows=2)


def _overlaps(cells: pd.DataFrame, row: str, rows: Sequence[str], column: str, columns: Sequence[str]) -> go.Figure:
    """Heatmap of the overlap coefficient with stars; counts and expectations in the hover text."""
    many = len(columns) > MANY
    grid = {name: _grid(cells, row, rows, column, columns, name) for name in ("coefficient", "verdict", *DETAILS)}
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
        zmax=float(np.nanmax(shares)) or 1.0 if np.isfinite(shares).any() else 1.0,
    )


def _shared_names(neurons: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """Hover text for every pair of relations: the best shared neurons, ranked as for the first."""
    sets: dict[str, dict[Neuron, None]] = {
        str(name): dict.fromkeys(Neuron(*location) for location in rows[["site", "layer", "index"]].to_numpy().tolist())
        for name, rows in neurons.groupby("name", sort=False)
    }

    def shared_text(first: str, second: str) -> str:
        others = sets.get(second, {})
        shared = [] if first == second else [neuron for neuron in sets.get(first, {}) if neuron in others]
        return f"<br>{wrapped_label(name_list(shared, most=MAX_NAMED), 60)}" if shared else ""

    return [[shared_text(first, second) for second in names] for first in names]


def _grid(
    cells: pd.DataFrame, row: str, rows: Sequence[str], column: str, columns: Sequence[str], name: str
) -> pd.DataFrame:
    return cells.pivot(index=row, columns=column, values=name).reindex(index=list(rows), columns=list(columns))


def _label_every_row(figure: go.Figure, names: Sequence[str], *, x: bool = True) -> go.Figure:
    """Label every row, and every column if `x`, in a size at which all names fit."""
    figure.update_yaxes(dtick=1, showgrid=False, tickfont_size=name_size(names))
    if x:
        angle = -90 if len(names) > MANY else -45
        figure.update_xaxes(dtick=1, showgrid=False, tickangle=angle, tickfont_size=name_size(names))
    return figure
