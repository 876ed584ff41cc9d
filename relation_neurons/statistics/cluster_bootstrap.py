"""Intervals of means over facts that belong to relations: relations are resampled, and facts within them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.errors import refuse
from relation_neurons.statistics.intervals import CONFIDENCE, N_RESAMPLES, Interval


def two_stage_interval(values: Sequence[Float[ndarray, " _"]], *, seed: int = 0) -> Interval:
    """Mean over all units with a 95 % percentile interval that resamples clusters and, within them, units.

    An interval over facts alone holds for the relations at hand. Whether a set of neurons is like a random one is
    decided once for each relation, so that a statement on relations needs them resampled. Davison and Hinkley (1997,
    section 3.8) call this the two-stage bootstrap; with few clusters it is a little too narrow, and by resampling
    units as well it is a little too wide, which docs/decisions/0023 measures.

    Args:
        values: The values of each cluster's units, such as a relation's facts.
        seed: Seed of the bootstrap.

    Returns:
        The mean over units, with n the number of units; infinite ends for a single cluster.

    Raises:
        RelationNeuronsError: No clusters, or one without values.
    """
    if not values or not all(map(len, values)):
        raise refuse(f"There are {len(values)} clusters, or one is empty", expected="at least one value in each")
    whole = np.concatenate(list(values))
    mean = float(whole.mean())
    if len(values) == 1:
        return Interval(mean, -np.inf, np.inf, len(whole))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled_means(values, N_RESAMPLES, seed), [tail, 100 - tail])
    return Interval(mean, float(low), float(high), len(whole))


def resampled_means(values: Sequence[Float[ndarray, " _"]], n_resamples: int, seed: int) -> Float[ndarray, " resample"]:
    """The mean over units of each resample."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(values), size=(n_resamples, len(values)))
    sums = np.empty(drawn.shape)
    for cluster, units in enumerate(values):
        places = drawn == cluster
        again = generator.integers(len(units), size=(int(places.sum()), len(units)))
        sums[places] = np.asarray(units)[again].sum(axis=1)
    sizes = np.array([len(units) for units in values])[drawn]
    return np.asarray(sums.sum(axis=1) / sizes.sum(axis=1))
