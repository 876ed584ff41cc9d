from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from relation_neurons.figures import overlap_matrix_figure


def pairs_table(shares, k=100):
    rows = [
        (first, second, round(share * k), share, 1.5, 0, 4, 2, 1.4, 0.001 if share > 0.05 else 0.9)
        for (first, second), share in shares.items()
    ]
    columns = ["first", "second", "count", "share", "expected", "low", "high"]
    table = pd.DataFrame(rows, columns=[*columns, "count_as_negatives", "expected_as_negatives", "p_holm"])
    return table.assign(verdict=np.where(table["p_holm"] < 0.05, "above chance", "not shown"))


SHARES = {("a", "b"): 0.01, ("a", "c"): 0.64, ("a", "d"): 0.0, ("b", "c"): 0.02, ("b", "d"): 0.16, ("c", "d"): 0.01}


def test_the_matrix_has_counts_and_stars_and_similar_relations_side_by_side():
    heat, tree = overlap_matrix_figure(pairs_table(SHARES)).data
    names = list(heat.y)
    assert list(heat.x) == names
    assert {frozenset(names[:2]), frozenset(names[2:])} == {frozenset("ac"), frozenset("bd")}
    z, text = np.array(heat.z), {(a, b): heat.text[i][j] for i, a in enumerate(names) for j, b in enumerate(names)}
    for (a, b), share in SHARES.items():
        i, j = names.index(a), names.index(b)
        assert z[i, j] == z[j, i] == pytest.approx(np.sqrt(share))
        assert text[a, b] == text[b, a] == f"{share * 100:.0f}{'*' if share > 0.05 else ''}"
        assert heat.customdata[i][j].tolist() == [share, 1.5, 0, 4, 2, 1.4, 0.001 if share > 0.05 else 0.9]
    assert np.isnan(np.diag(z)).all()
    assert heat.colorbar.tickvals[-2] == pytest.approx(np.sqrt(0.5))
    # three merges: a with c at 1 - 0.64, b with d at 1 - 0.16, all at the mean of the four other pairs
    merges = sorted(max(x for x in tree.x[i : i + 4]) for i in range(0, len(tree.x), 5))
    assert merges == pytest.approx([0.36, 0.84, 1 - np.mean([0.01, 0.0, 0.02, 0.01])])
    leaves = {y for x, y in zip(tree.x, tree.y, strict=True) if x == 0}
    assert leaves == {0, 1, 2, 3}  # the rows of the matrix


@pytest.mark.parametrize("n", [3, 16, 30])
def test_every_relation_is_labelled_and_small_cells_have_no_numbers(n):
    shares = dict.fromkeys(combinations([f"relation_{i}" for i in range(n)], 2), 0.1)
    figure = overlap_matrix_figure(pairs_table(shares))
    assert len(figure.data[0].x) == n
    assert figure.layout.yaxis.dtick == figure.layout.xaxis.dtick == 1
    assert (figure.data[0].texttemplate is None) == (n == 30)


def test_hover_text_lists_the_best_shared_neurons():
    rows = [("a, c", "gate", 1, index) for index in range(9)] + [("b, d", "up", 0, 20)]
    shared = pd.DataFrame(rows, columns=["relations", "site", "layer", "index"])
    heat = overlap_matrix_figure(pairs_table(SHARES), shared).data[0]
    assert "%{hovertext}" in heat.hovertemplate
    at = {name: place for place, name in enumerate(heat.y)}
    listed = heat.hovertext[at["c"]][at["a"]].replace("<br>", " ").strip()
    assert listed == ", ".join(f"gate:L1.N{index}" for index in range(8)) + " and 1 more"
    assert heat.hovertext[at["b"]][at["d"]] == "<br>up:L0.N20"
    assert heat.hovertext[at["a"]][at["b"]] == ""


def test_an_empty_table_gives_a_note():
    assert not overlap_matrix_figure(pd.DataFrame()).data
