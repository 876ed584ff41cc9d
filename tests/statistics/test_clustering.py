import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import linkage

from relation_neurons.statistics.clustering import average_linkage, linkage_of_shares

PAIRS = pd.DataFrame(
    [("a", "b", 0.1), ("a", "c", 0.8), ("a", "d", 0.3), ("b", "c", 0.2), ("b", "d", 0.0), ("c", "d", 0.5)],
    columns=["first", "second", "share"],
)


def test_clusters_join_at_the_mean_share_of_their_pairs():
    tree = average_linkage(PAIRS)
    assert [{*row.first.split(", ")} | {*row.second.split(", ")} for row in tree.itertuples()] == [
        {"a", "c"},
        {"a", "c", "d"},
        {"a", "b", "c", "d"},
    ]
    assert tree["share"].tolist() == pytest.approx([0.8, (0.3 + 0.5) / 2, (0.1 + 0.2 + 0.0) / 3])
    assert np.sort(linkage_of_shares(PAIRS)[1][:, 2]) == pytest.approx(linkage(1 - PAIRS["share"], "average")[:, 2])
    shuffled = average_linkage(PAIRS.sample(frac=1, random_state=1))
    assert shuffled["share"].tolist() == pytest.approx(tree["share"].tolist())
