"""Tails of counts that vary more than independent draws would."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Num
from numpy import ndarray
from scipy import stats


def dispersion(
    counts: Num[ndarray, " unit"], means: Float[ndarray, " unit"], variances: Float[ndarray, " unit"]
) -> float:
    """By what factor counts vary more than they should: their mean squared distance in variances, and its error.

    One standard error of a variance is added, since a factor that is too small by chance makes a test reject too often.

    Args:
        counts: Counts that are chance.
        means: What each would be.
        variances: How each would vary; counts without variance are left out.

    Returns:
        The factor, at least 1; 1 without counts.

    Example:
        >>> round(dispersion(np.array([7, 3, 1, 9]), np.full(4, 5.0), np.full(4, 4.0)), 3)
        4.268
    """
    varying = variances > 0
    if not varying.any():
        return 1.0
    squares = (counts - means)[varying] ** 2 / variances[varying]
    return max(1.0, float(squares.mean()) * (1 + float(np.sqrt(2 / len(squares)))))


def dispersed_tail(
    counts: Num[ndarray, " unit"], means: Float[ndarray, " unit"], variances: Float[ndarray, " unit"]
) -> Float[ndarray, " unit"]:
    """P(X >= count) of a negative binomial, the mixture of Poisson counts, or of a Poisson if its variance is less.

    Example:
        >>> dispersed_tail(np.array([3, 3]), np.array([1.0, 1.0]), np.array([1.0, 2.0])).round(4)
        array([0.0803, 0.125 ])
    """
    poisson = stats.poisson.sf(counts - 1, means)
    wide = (variances > means) & (means > 0)
    size = np.divide(means**2, variances - means, out=np.ones_like(means), where=wide)
    return np.where(wide, stats.nbinom.sf(counts - 1, size, size / (size + means)), poisson)
