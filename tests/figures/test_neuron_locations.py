"""Figures of selected neurons."""

import numpy as np
import pandas as pd
import pytest

from relation_neurons.figures.neuron_locations import (
    concept_overlap_figure,
    layer_distribution_figure,
)


def drawn(row):
    return [cell for cell in row if cell]


@pytest.mark.parametrize("n_layers", [2, 32, 80])
def test_layers_are_summed_over_sites(n_layers):
    rows = [
        (name, site, layer, 10 * i + layer, (10 * i + layer) / 100, 2.5)
        for i, name in enumerate("ba")
        for site in ("gate", "down")
        for layer in range(n_layers)
    ]
    table = pd.DataFrame(rows, columns=["relation", "site", "layer", "count", "share", "chance"])
    figure = layer_distribution_figure(table)
    [heat] = figure.data
    assert list(heat.y) == ["b", "a"]
    assert np.array(heat.z)[1, 1] == pytest.approx(2 * 11 / 100)
    assert heat.customdata[1][1].tolist() == [22, 5.0, "gate 11, down 11"]
    assert heat.zmax == pytest.approx(2 * (10 + n_layers - 1) / 100)
    assert n_layers / figure.layout.xaxis.dtick <= 20


def concepts_table():
    rows = [
        ("r", "x", True, 8, 0.4, 0.01, "above chance"),
        ("r", "y", False, 1, 0.05, 1.0, "not shown"),
        ("s", "x", False, 3, 0.15, 0.02, "above chance"),
        ("s", "y", True, 2, 0.10, 0.5, "not shown"),
    ]
    table = pd.DataFrame(rows, columns=["relation", "concept", "own", "count", "coefficient", "p_holm", "verdict"])
    return table.assign(expected=1.0, low=0, high=3)


def test_the_own_concept_is_framed():
    figure = concept_overlap_figure(concepts_table())
    [heat] = figure.data
    assert (list(heat.y), list(heat.x)) == (["r", "s"], ["x", "y"])
    assert np.array(heat.z).tolist() == [[0.4, 0.05], [0.15, 0.10]]
    assert [list(row) for row in heat.text] == [["0.40*", "0.05"], ["0.15*", "0.10"]]
    frames = [(round((s.x0 + s.x1) / 2), round((s.y0 + s.y1) / 2)) for s in figure.layout.shapes]
    assert frames == [(0, 0), (1, 1)]


def test_an_empty_table_gives_an_empty_figure():
    figure = concept_overlap_figure(concepts_table().iloc[:0])
    assert not figure.layout.shapes
    assert np.size(figure.data[0].z) == 0
