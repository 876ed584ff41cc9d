"""Figures of selected neurons."""

import numpy as np
import pandas as pd
import pytest

from relation_neurons.figures.neuron_locations import (
    concept_overlap_figure,
    layer_distribution_figure,
    multiplicity_figure,
    overlap_matrix_figure,
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


def pairs_table(n):
    names = [f"relation_{i}" for i in range(n)]
    rows = [
        (names[i], names[j], 10 * i + j, (10 * i + j) / 1000, 1.5, 0, 4, 0.001 if i == 0 else 0.9)
        for i in range(n)
        for j in range(i + 1, n)
    ]
    table = pd.DataFrame(rows, columns=["first", "second", "count", "coefficient", "expected", "low", "high", "p_holm"])
    return table.assign(verdict=np.where(table["p_holm"] < 0.05, "above chance", "not shown"))


def test_the_overlap_matrix_is_symmetric_with_stars_for_significance():
    [heat] = overlap_matrix_figure(pairs_table(4)).data
    shares = np.array(heat.z)
    assert np.isnan(np.diag(shares)).all()
    assert (shares[1, 3], shares[3, 1]) == (0.013, 0.013)
    assert [list(row) for row in heat.text[:2]] == [["", "0.00*", "0.00*", "0.00*"], ["0.00*", "", "0.01", "0.01"]]
    assert heat.customdata[3][1].tolist() == [13, 1.5, 0, 4, 0.9]
    assert heat.zmax == pytest.approx(0.023)


@pytest.mark.parametrize("n", [2, 12, 47])
def test_every_relation_is_labelled_and_small_cells_only_have_stars(n):
    figure = overlap_matrix_figure(pairs_table(n))
    [heat] = figure.data
    assert len(heat.x) == len(heat.y) == n
    assert figure.layout.yaxis.dtick == figure.layout.xaxis.dtick == 1
    text = set(drawn(cell for row in heat.text for cell in row))
    assert (text == {"*"}) == (n == 47)


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


def test_multiplicities_are_shown_with_the_range_of_random_sets():
    table = pd.DataFrame({"n_relations": [1, 2, 3, 4, 5], "count": [900, 40, 0, 0, 0], "at_least": [940, 40, 0, 0, 0]})
    table = table.assign(expected=[910.0, 20.0, 1.5, 0.0, 0.0], low=[890.0, 12.0, 0.0, 0.0, 0.0])
    table = table.assign(high=[930.0, 30.0, 4.0, 0.0, 0.0], p=[0.9, 0.005, 1.0, 1.0, 1.0])
    figure = multiplicity_figure(table)
    random, own = figure.data
    assert [round(x) for x in own.x] == [1, 2, 3]  # larger counts are empty
    assert list(own.y) == [900, 40, 0.5]  # the position of 0
    assert list(random.y) == [910, 20, 1.5]
    assert list(random.error_y.array) == [20, 10, 2.5]
    assert list(random.error_y.arrayminus) == [20, 8, 1.0]
    assert own.customdata[1].tolist() == [2, 40, 40, 0.005]
    assert list(figure.layout.yaxis.ticktext) == ["0", "1", "10", "100"]
