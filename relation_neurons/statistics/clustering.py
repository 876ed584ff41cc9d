"""Groups of relations by what they share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy.cluster.hierarchy import linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform


def linkage_of_shares(pairs: pd.DataFrame) -> tuple[list[str], Float[ndarray, "merge 4"]]:
    """Names, and scipy's matrix of their average linkage on 1 - share, with similar leaves side by side.

    Args:
        pairs: A row for each pair of names, with `first`, `second` and `share`.
    """
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    distances = np.zeros((len(names), len(names)))
    rows, columns = pairs["first"].map(names.index), pairs["second"].map(names.index)
    distances[rows, columns] = distances[columns, rows] = 1 - pairs["share"]
    condensed = squareform(distances)
    return names, optimal_leaf_ordering(linkage(condensed, "average"), condensed)


def average_linkage(pairs: pd.DataFrame) -> pd.DataFrame:
    """Relations clustered by the share of neurons that they have in common, the closest first.

    Args:
        pairs: As for `linkage_of_shares`.

    Returns:
        A row per merge of two clusters: `first` and `second`, their names, and `share`, the mean over the pairs of one
        of each.
    """
    names, merges = linkage_of_shares(pairs)
    clusters, rows = [[name] for name in names], []
    for one, other, distance, _ in merges:
        first, second = clusters[int(one)], clusters[int(other)]
        clusters.append([*first, *second])
        rows.append((", ".join(first), ", ".join(second), 1 - distance))
    return pd.DataFrame(rows, columns=["first", "second", "share"])
