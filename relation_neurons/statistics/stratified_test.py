"""Tests of effects pooled over relations: sets of neurons against their control sets, relation by relation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

LARGEST_SHIFT = 1e3
"""Shifts beyond this, in the unit of the effect, are not looked for."""


def stratified_rank_test(own: Sequence[float], controls: Sequence[Float[ndarray, " _"]]) -> float:
    """Exact two-sided test that the sets of several strata, such as relations, are like their random controls.

    In each stratum a set and its controls are exchangeable if the set is like a random one, so that
    each rank is as likely as any other. The statistic is the sum of the ranks of the sets. Its
    distribution is computed by convolution over the strata (as in the stratified Wilcoxon test of
    van Elteren 1960). No effect needs to be normal, and one control set that breaks the model counts
    as one rank. With m strata of n controls the smallest p-value is 2 / (n + 1)^m, so that a few
    control sets of each relation suffice for a statement on all of them.

    Args:
        own: Effect of the set of each stratum, on the same scale as its controls.
        controls: Effects of its control sets; strata without any do not count.

    Returns:
        The p-value; NaN if no stratum has controls.

    Example:
        >>> stratified_rank_test([-2.0, -3.0], [np.array([0.1, 0.2]), np.array([0.0, -0.4])])
        0.2222222222222222
    """
    strata = [stats.rankdata([effect, *draws]) for effect, draws in zip(own, controls, strict=True) if len(draws)]
    if not strata:
        return float("nan")
    probabilities, observed, middle = np.ones(1), 0, 0.0
    for ranks in strata:
        doubled = np.rint(2 * ranks).astype(int)  # ranks of ties are halves
        probabilities = np.convolve(probabilities, np.bincount(doubled) / len(doubled))
        observed, middle = observed + int(doubled[0]), middle + float(doubled.mean())
    distances = np.abs(np.arange(len(probabilities)) - middle)
    return min(1.0, float(probabilities[distances >= abs(observed - middle) - 1e-9].sum()))


def critical_shift(controls: Sequence[Float[ndarray, " _"]], level: float) -> float:
    """The distance from each stratum's median control beyond which `stratified_rank_test` falls below a level.

    All strata are shifted alike. Infinite where no shift is enough.
    """
    strata = [draws for draws in controls if len(draws)]

    def p(shift: float) -> float:
        return stratified_rank_test([float(np.median(draws)) - shift for draws in strata], strata)

    if not strata or p(LARGEST_SHIFT) >= level:
        return float("inf")
    low, high = 0.0, LARGEST_SHIFT
    while high - low > 1e-3 * max(high, 1e-2):
        middle = (low + high) / 2
        low, high = (middle, high) if p(middle) >= level else (low, middle)
    return high
