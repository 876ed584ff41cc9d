"""How much of what a model does is restored: ratios of means over facts, and the areas under their curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.statistics.intervals import CONFIDENCE, N_RESAMPLES, Interval, mean_interval

LEAST_RANGE = 1e-9
"""Smallest distance of clean and none in a resample, so that one without any widens the interval."""


class Restored(NamedTuple):
    """Means as shares of the way from a model that is switched off (0) to the clean model (1).

    Attributes:
        shares: Of all facts, at each point; NaN where clean is not clearly above none.
        resampled: The same of resampled facts.
        n: The number of facts.
    """

    shares: Float[ndarray, " point"]
    resampled: Float[ndarray, "resample point"]
    n: int

    def interval(self, point: int) -> Interval:
        """One point with its 95 % interval."""
        return interval(self.shares[point], self.resampled[:, point], self.n)


def restored(
    values: Float[ndarray, "fact point"],
    none: Float[ndarray, " fact"],
    clean: Float[ndarray, " fact"],
    *,
    seed: int = 0,
) -> Restored:
    """(mean of values - mean of none) / (mean of clean - mean of none), at each point.

    All means are over the same facts, which are resampled together. The ratio is undefined, NaN, unless the 95 %
    interval of clean - none lies above zero.

    Args:
        values: What is placed between none and clean, such as the mean log-probability with some neurons kept.
        none: The same of the model that is switched off.
        clean: The same of the clean model.
        seed: Of the resampling.

    Example:
        >>> none, clean = np.array([-4.0, -6.0]), np.array([-1.0, -1.0])
        >>> restored(np.array([[-4.0], [-2.0]]), none, clean).shares
        array([0.5])
    """
    n = len(clean)
    if n < 2 or mean_interval(clean - none, seed=seed).side != "above":
        return Restored(np.full(values.shape[1], np.nan), np.full((1, values.shape[1]), np.nan), n)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    weights = np.vstack([np.ones(n), drawn]) / n  # first all facts, then each resample
    lowest, highest = (weights @ one for one in (none, clean))
    shares = (weights @ values - lowest[:, None]) / np.maximum(highest - lowest, LEAST_RANGE)[:, None]
    return Restored(shares[0], shares[1:], n)


def interval(value: float, resampled: Float[ndarray, " resample"], n: int) -> Interval:
    """A statistic with its 95 % percentile bootstrap interval; NaN if it is undefined."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(float(value), float(low), float(high), n)


def performance_ratio(faithfulness: Float[ndarray, "*row point"], shares: Float[ndarray, " point"]) -> ndarray:
    """MIB's CPR: the area under faithfulness over the share of neurons kept, by the trapezoid rule; high is good.

    The axis is linear and ends at the smallest and largest share, as in MIB.

    Args:
        faithfulness: At each share.
        shares: Of the neurons kept, ascending.

    Example:
        >>> float(performance_ratio(np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.5, 1.0])))
        0.75
    """
    return np.asarray(np.trapezoid(faithfulness, shares, axis=-1))


def model_distance(faithfulness: Float[ndarray, "*row point"], shares: Float[ndarray, " point"]) -> ndarray:
    """MIB's CMD: the area of the distance between faithfulness and 1, by the same rule; 0 is best.

    The distance is taken at the shares and then integrated, as MIB does, so that a curve that crosses 1 between two
    shares counts as if it did not.

    Example:
        >>> float(model_distance(np.array([0.0, 2.0, 1.0]), np.array([0.0, 0.5, 1.0])))
        0.75
    """
    return performance_ratio(np.abs(1 - faithfulness), shares)
