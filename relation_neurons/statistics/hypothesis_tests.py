"""Tests of effects: against chance over facts, against matched random controls, and corrections.

An effect varies with the sample of facts and with the choice of neurons. Permutation tests over
facts account for the first source only, so any particular set of neurons, even a random one,
soon differs "significantly" from others. The control test accounts for the second source: it
compares a set with matched random sets. A verdict requires both tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Num
from numpy import ndarray
from scipy import stats
from statsmodels.stats.power import TTestPower

from relation_neurons.errors import nearest, refuse

N_PERMUTATIONS = (9_999, 199_999)
EXTREME = 10
"""If more of the first 9,999 flips are as extreme as the data, no further flips are drawn."""
POWER = 0.8


def sign_flip_test(differences: Num[ndarray, " fact"], *, seed: int = 0) -> float:
    """Two-sided sign-flip permutation test of paired differences against zero.

    The test is exact for up to 13 nonzero differences. For more it draws 9,999 random flips. If
    hardly any of these is as extreme as the data, it draws 199,999 new ones, so that p-values can
    be small enough to pass corrections over thousands of pairs of relations.

    Args:
        differences: One value per independent unit, such as a fact.
        seed: Seed of the random flips.

    Returns:
        The p-value; 1 if fewer than two differences are nonzero.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]  # flipping a zero changes nothing
    if len(values) < 2:
        return 1.0
    generator, p = np.random.default_rng(seed), 0.0
    for flips in N_PERMUTATIONS:
        test = stats.permutation_test(
            (values,),
            lambda sample, axis: sample.mean(axis=axis),
            permutation_type="samples",
            n_resamples=flips,
            batch=10_000,
            vectorized=True,
            rng=generator,
        )
        p = float(test.pvalue)
        if p > EXTREME / N_PERMUTATIONS[0] or 2 ** len(values) <= N_PERMUTATIONS[0]:
            break
    return p


def mcnemar_test(lost: int, gained: int) -> float:
    """Two-sided p-value of the exact McNemar test.

    Args:
        lost: Number of facts that changed from right to wrong.
        gained: Number of facts that changed from wrong to right.

    Returns:
        The p-value that losses and gains are equally likely; 1 if nothing changed.
    """
    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


class ControlTest(NamedTuple):
    """Results of `control_test`, one value per group.

    Attributes:
        p: P-value of the group alone, at least 1 / (number of its control sets + 1); NaN without controls.
        p_family: P-value corrected for all groups.
        critical: Distance from the controls' median beyond which `p_family` falls below the level;
            infinite where there are too few control sets.
    """

    p: Float[ndarray, " group"]
    p_family: Float[ndarray, " group"]
    critical: Float[ndarray, " group"]


def control_test(
    own: Sequence[float],
    controls: Sequence[Num[ndarray, " _"]],
    *,
    resolution: float = 0.0,
    level: float = 0.05,
) -> ControlTest:
    """Two-sided rank test that each set's effect is another draw from its random controls.

    The set and its controls are exchangeable if the set is like a random one, so the rank of its
    distance from their common median is a p-value, whatever the distribution of effects. Over a
    family of groups, distances are scaled and compared with the largest of all groups in each draw
    (max-T; Westfall and Young 1993), which keeps the family-wise level, since control sets of
    different groups are drawn independently. A t-test of one effect against a few controls does
    not: where effects of random sets have heavy tails, it is wrong in 22 to 58 % of families.

    Args:
        own: Effect of each group's set of neurons, a mean over facts.
        controls: Effects of the group's control sets over the same facts; draw j of one group is
            independent of draw j of another.
        resolution: Smallest step of an effect, such as 1/n for the accuracy on n facts. Distances of
            up to half of it count as none.
        level: Of `critical`.

    Returns:
        The p-values, alone and over the family.
    """
    p, p_family, critical = (np.full(len(own), np.nan) for _ in range(3))
    tested = [group for group, draws in enumerate(controls) if len(draws)]
    if not tested:
        return ControlTest(p, p_family, critical)
    n_draws = min(len(controls[group]) for group in tested)
    distances = np.empty((len(tested), n_draws + 1))
    for row, group in enumerate(tested):
        effects = np.append(own[group], controls[group])
        beyond = _less(np.abs(effects - np.median(effects)), resolution)
        p[group] = np.mean(beyond >= beyond[0])
        distances[row] = beyond[: n_draws + 1]
    p_family[tested], largest, scales = _max_t(distances, resolution)
    critical[tested] = _critical(largest[1:], level) * scales[:, 0] + resolution / 2
    return ControlTest(p, p_family, critical)


def family_p(
    effects: Float[ndarray, "*families group draw"], *, resolution: float = 0.0
) -> Float[ndarray, "*families group"]:
    """`p_family` of `control_test` for many families at once, as simulations need it.

    Args:
        effects: Those of each group's set, first, and of its control sets, as many for each group.
        resolution: As for `control_test`.
    """
    distances = _less(np.abs(effects - np.median(effects, axis=-1, keepdims=True)), resolution)
    return _max_t(distances, resolution)[0]


def _max_t(
    distances: Float[ndarray, "*families group draw"], resolution: float
) -> tuple[Float[ndarray, "*families group"], Float[ndarray, "*families draw"], Float[ndarray, "*families group draw"]]:
    """Corrected p-values, the largest scaled distance of each draw, and the scales."""
    scales = _scales(distances, resolution)
    scaled = distances / scales
    largest = scaled.max(axis=-2)
    return (largest[..., None, :] >= scaled[..., :1]).mean(axis=-1), largest, scales


def _less(distances: Float[ndarray, "*draws"], resolution: float) -> Float[ndarray, "*draws"]:
    """Distances less half a step."""
    return np.maximum(distances - resolution / 2, 0.0)


def _scales(
    distances: Float[ndarray, "*families group draw"], resolution: float
) -> Float[ndarray, "*families group draw"]:
    """What a distance is divided by: the geometric mean of the group's mean distance without it and of all groups'.

    The test is valid with any scale that treats the set like its controls. This one had the most power over
    normal, sparse and unequal effects of random sets; see docs/decisions/0007.
    """
    of_others = (distances.sum(axis=-1, keepdims=True) - distances) / (distances.shape[-1] - 1)
    scales = np.sqrt(of_others * distances.mean(axis=(-2, -1), keepdims=True))
    return np.maximum(scales, resolution / 2 or np.finfo(float).tiny)


def _critical(largest: Float[ndarray, " draw"], level: float) -> float:
    """The scaled distance beyond which less than the level's share of draws, the set's own included, lie."""
    n_beyond = int(np.ceil(level * (len(largest) + 1))) - 1
    return float(np.sort(largest)[-n_beyond]) if n_beyond else np.inf


def adjust(
    p_values: Float[ndarray, " hypothesis"], method: Literal["holm", "benjamini-hochberg"]
) -> Float[ndarray, " hypothesis"]:
    """Correct p-values for multiple testing; NaNs stay NaN and do not count as tests.

    Raises:
        RelationNeuronsError: If the method is unknown.
    """
    if method not in ADJUSTMENTS:
        raise refuse(f"'{method}' is not a known correction", expected=nearest(method, ADJUSTMENTS))
    adjusted = np.full(len(p_values), np.nan)
    finite = np.isfinite(p_values)
    if finite.any():
        adjusted[finite] = ADJUSTMENTS[method](p_values[finite])
    return adjusted


def holm(p_values: Float[ndarray, "*families hypothesis"]) -> Float[ndarray, "*families hypothesis"]:
    """Holm's step-down correction of each family, without the garbage collection of statsmodels on each call."""
    order = np.argsort(p_values, axis=-1, kind="stable")
    steps = np.arange(p_values.shape[-1], 0, -1) * np.take_along_axis(p_values, order, axis=-1)
    adjusted = np.empty(p_values.shape)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(steps, axis=-1), 1.0), axis=-1)
    return adjusted


ADJUSTMENTS = {"holm": holm, "benjamini-hochberg": stats.false_discovery_control}


def minimum_effect(differences: Num[ndarray, " fact"], *, alpha: float = 0.05, power: float = POWER) -> float:
    """Minimum detectable mean difference of a t-test with this sample size and spread.

    Args:
        differences: One value per independent unit.
        alpha: Two-sided level, already divided by the number of tests if these are corrected.
        power: Probability of detecting a difference of the returned size.

    Returns:
        The difference in the unit of `differences`, from the noncentral t distribution; NaN for
        fewer than two values.
    """
    if len(differences) < 2:
        return float("nan")
    size = TTestPower().solve_power(nobs=len(differences), alpha=alpha, power=power, alternative="two-sided")
    return float(np.squeeze(size)) * float(np.std(differences, ddof=1))
