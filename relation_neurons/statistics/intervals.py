"""Confidence intervals for means and proportions, each with its sample size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Num
from numpy import ndarray
from scipy import stats

from relation_neurons.errors import refuse

CONFIDENCE = 0.95
N_RESAMPLES = 5000


class Interval(NamedTuple):
    """A mean, its 95 % confidence interval and the number of independent units behind it."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def side(self) -> str:
        """Position of the interval: `below` zero, `above` zero, or `across` zero."""
        return "below" if self.high < 0 else "above" if self.low > 0 else "across"

    def columns(self, name: str) -> dict[str, float]:
        """The mean and both ends as columns of a table: `name`, `name_low` and `name_high`."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}

    def __str__(self) -> str:
        return f"{self.mean:+z.2f} [{self.low:+z.2f}, {self.high:+z.2f}]"


UNKNOWN = Interval(np.nan, np.nan, np.nan, 0)
"""Where there is nothing to estimate."""
CHANGES = (-1.0, 1.0)
"""The least and the greatest change of a share."""
SHARES = (0.0, 1.0)


def mean_interval(
    values: Num[ndarray, " value"],
    clusters: Sequence[object] | None = None,
    *,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Interval:
    """Mean with a percentile bootstrap interval over clusters.

    Args:
        values: One number per prompt, such as a change in log-probability.
        clusters: Cluster of each value, such as its fact. Values of one cluster are averaged
            first, so that a fact prompted with two templates does not count as two facts.
            By default each value is a cluster of its own.
        bounds: The least and the greatest possible value, such as `CHANGES`. Where all clusters are
            equal, a bootstrap has no width; the interval then allows for as large a share of other
            values as Wilson's interval for none of n does (25 unchanged facts: [-0.13, 0.13]).
        seed: Seed of the bootstrap.

    Returns:
        The mean over clusters with its 95 % interval, infinite (or the bounds) for a single cluster.

    Raises:
        RelationNeuronsError: No values, or values that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        raise refuse(
            f"No interval can be computed from these {len(values)} values", expected="at least one, all finite"
        )
    if clusters is not None:
        values = pd.Series(values).groupby(pd.Index(list(clusters)), sort=True).mean().to_numpy()
    mean = float(values.mean())
    if len(values) == 1 or np.ptp(values) == 0:
        return Interval(mean, *_constant(mean, len(values), bounds), len(values))
    resampled = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=N_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(resampled.low), float(resampled.high), len(values))


def _constant(value: float, n: int, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """The interval of the mean of n equal values."""
    if bounds is None:
        spread = 0.0 if n > 1 else np.inf
        return value - spread, value + spread
    other = proportion_interval(np.zeros(n, dtype=bool)).high if n > 1 else 1.0
    return value - other * (value - bounds[0]), value + other * (bounds[1] - value)


def accuracy_interval(right: Bool[ndarray, " answer"], units: Sequence[object], *, seed: int = 0) -> Interval:
    """Share of right answers with its 95 % interval over units, whose answers are averaged first.

    Wilson's interval where each unit is right or wrong as a whole, a bootstrap otherwise.

    Args:
        right: Whether each answer is right.
        units: The fact of each answer; answers to several templates of one fact are one unit.
        seed: Seed of the bootstrap.

    Raises:
        RelationNeuronsError: No answers.
    """
    if len(right) == 0:
        raise refuse("No share can be computed from no values", expected="at least one")
    means = pd.Series(right, dtype=float).groupby(pd.Index(list(units)), sort=True).mean().to_numpy()
    whole = np.isin(means, (0, 1)).all()
    return proportion_interval(means == 1) if whole else mean_interval(means, bounds=SHARES, seed=seed)


def proportion_interval(right: Bool[ndarray, " value"]) -> Interval:
    """Share of true values with its 95 % Wilson interval.

    Raises:
        RelationNeuronsError: No values.
    """
    if len(right) == 0:
        raise refuse("No share can be computed from no values", expected="at least one")
    test = stats.binomtest(int(np.sum(right)), len(right))
    bounds = test.proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return Interval(float(test.statistic), float(bounds.low), float(bounds.high), len(right))


def share_of_drop(effect: Num[ndarray, " fact"], reference: Num[ndarray, " fact"], *, seed: int = 0) -> Interval:
    """Mean effect as a share of the mean drop of a reference on the same facts.

    Returns:
        The ratio with its 95 % percentile bootstrap interval over facts; NaN if the interval of the
        reference does not lie below zero, because the share of an absent drop has no meaning.

    Example:
        >>> share_of_drop(np.array([-1.0, -2.0, -3.0]), np.array([-2.0, -4.0, -6.0]))
        Interval(mean=0.5, low=0.5, high=0.5, n=3)
    """
    if len(reference) < 2 or mean_interval(reference, seed=seed).side != "below":
        return Interval(np.nan, np.nan, np.nan, len(reference))

    def ratio(over: ndarray, under: ndarray, axis: int = -1) -> ndarray:
        # A resample without a drop of the reference gets an immense share, which widens the interval.
        return np.asarray(over.mean(axis=axis) / np.minimum(under.mean(axis=axis), -1e-9))

    bounds = stats.bootstrap(
        (effect, reference),
        ratio,
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        n_resamples=N_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(ratio(effect, reference)), float(bounds.low), float(bounds.high), len(reference))
