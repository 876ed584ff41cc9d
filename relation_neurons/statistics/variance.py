"""Standard deviations of changes over facts, over control sets and between groups, from a pilot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy import special, stats

from relation_neurons.errors import refuse
from relation_neurons.statistics.by_fact import LEAST_NATS, changes_of
from relation_neurons.statistics.simulation import Spread

LEAST_SHARE = 0.1
"""Variance over sets as a share of that of their means, at the least: a few sets can be alike by chance."""


def spread_of(own: pd.DataFrame, controls: pd.DataFrame, *, by: Sequence[str], measure: str = "logprob") -> Spread:
    """The standard deviations that a family of tests will meet.

    For each group the variance over facts under its own set, or under one control set where that is more;
    and, of the changes of its facts under its
    control sets (a two-way layout), the mean square of the residuals, and the variance of the sets' means,
    which the residuals over the number of facts are part of. Over groups the median of each is taken,
    divided by the median of a variance estimated with so many degrees of freedom, so that one broken
    group or set does not decide. What the logarithms of the first vary more between groups than an
    estimate does, by their median absolute deviation, is `between`.

    Args:
        own: Table of `Study.changes` with the columns `by`.
        controls: The same for the control sets, numbered in the column `draw`, at least two.
        by: Columns that define a group.
        measure: What changes.

    Raises:
        RelationNeuronsError: Fewer than two facts or control sets in a group.
    """
    groups = changes_of(own, controls, by=by, measure=measure)
    if min(min(matrix.shape) for _, matrix in groups) < 2:
        raise refuse("A group of the pilot has fewer than two facts or control sets", expected="at least two of each")
    n_facts, n_sets = (int(np.median([matrix.shape[axis] for _, matrix in groups])) for axis in (0, 1))
    over_facts = np.array([max(values.var(ddof=1), matrix.var(axis=0, ddof=1).mean()) for values, matrix in groups])
    residual = _pooled([_residual(matrix) for _, matrix in groups], (n_facts - 1) * (n_sets - 1))
    of_means = _pooled([matrix.mean(axis=0).var(ddof=1) for _, matrix in groups], n_sets - 1)
    over_sets = max(of_means - residual / n_facts, LEAST_SHARE * of_means)
    variances = np.maximum([_pooled(over_facts, n_facts - 1), residual, over_sets], LEAST_NATS**2)
    fact, control, sets = np.sqrt(variances).tolist()
    return Spread(fact, control, sets, _between(over_facts, n_facts - 1))


def _residual(changes: Float[ndarray, "fact draw"]) -> float:
    """Mean square of what neither the fact nor the set explains."""
    rest = changes - changes.mean(axis=0) - changes.mean(axis=1, keepdims=True) + changes.mean()
    return float((rest**2).sum() / np.prod(np.array(changes.shape) - 1))


def _pooled(variances: Sequence[float] | Float[ndarray, " group"], df: int) -> float:
    """The median of estimated variances, over that of a variance of 1."""
    return float(np.median(variances)) * df / float(stats.chi2.median(df))


def _between(variances: Float[ndarray, " group"], df: int) -> float:
    """Standard deviation of the logarithm of the true standard deviations."""
    logs = np.log(np.maximum(variances, LEAST_NATS**2)) / 2
    seen = stats.median_abs_deviation(logs, scale="normal") ** 2
    return float(np.sqrt(max(0.0, seen - special.polygamma(1, df / 2) / 4)))
