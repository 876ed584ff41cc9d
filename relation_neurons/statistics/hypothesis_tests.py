"""Tests of effects: against chance over facts, against matched random controls, and corrections.

An effect varies with the sample of facts and with the choice of neurons. Permutation tests over
facts account for the first source only, so any particular set of neurons, even a random one,
soon differs "significantly" from others. The control test accounts for the second source: it
compares a set with matched random sets. A verdict requires both tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Num
from numpy import ndarray
from scipy import optimize, special, stats
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


def pooled_spread(groups: Sequence[Num[ndarray, " _"]]) -> tuple[float, float]:
    """Pooled within-group standard deviation and its degrees of freedom; NaN and 0 if unknown."""
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 1:
        return float("nan"), 0.0
    squares = sum(float(np.square(group - np.mean(group)).sum()) for group in groups)
    return float(np.sqrt(squares / freedom)), float(freedom)


def moderated_spreads(groups: Sequence[Num[ndarray, " _"]], *, least: float = 0.0) -> list[tuple[float, float]]:
    """Standard deviation of each group, shrunk towards the value typical of all groups.

    A few control sets give only a rough estimate of their spread. The empirical Bayes estimate of
    Smyth (2004; the "moderated t" of limma) models the variances as draws from a scaled inverse
    chi-squared distribution whose scale and degrees of freedom are estimated from all groups. If
    variances differ little more than by chance, the result is close to pooling; if they really
    differ, it is close to each group's own variance.

    Args:
        groups: Values of each group, such as the effects of its control sets.
        least: Half of this is the lower bound of a group's standard deviation.

    Returns:
        Standard deviation and degrees of freedom of each group; the latter never exceed those of
        all groups together. NaN and 0 for a group of fewer than two values.
    """
    own = [pooled_spread([group]) for group in groups]
    freedom = np.array([n for _, n in own], dtype=float)
    known = freedom > 0
    variances = np.maximum(np.array([sd for sd, _ in own]), least / 2) ** 2
    if known.sum() < 3 or (variances[known] <= 0).any():
        return [(sd, float(n)) for sd, n in own]
    half = freedom[known] / 2
    logs = np.log(variances[known]) - special.digamma(half) + np.log(half)
    beyond_chance = logs.var(ddof=1) - special.polygamma(1, half).mean()
    prior = 2 * _trigamma_inverse(beyond_chance) if beyond_chance > 0 else np.inf
    usual = logs.mean() + (special.digamma(prior / 2) - np.log(prior / 2) if np.isfinite(prior) else 0.0)
    weight = freedom / (freedom + prior) if np.isfinite(prior) else np.zeros(len(freedom))
    together = np.minimum(freedom + prior, freedom.sum())
    moderated = np.sqrt(weight * variances + (1 - weight) * np.exp(usual))
    return [
        (float(sd), float(n)) if is_known else (float("nan"), 0.0)
        for sd, n, is_known in zip(moderated, together, known, strict=True)
    ]


def _trigamma_inverse(value: float) -> float:
    return float(np.exp(optimize.brentq(lambda x: special.polygamma(1, np.exp(x)) - value, -30, 30)))


def control_test(
    own: float,
    controls: Num[ndarray, " draw"],
    *,
    resolution: float = 0.0,
    spread: tuple[float, float] | None = None,
) -> float:
    """Two-sided prediction t-test that a set's effect is another draw from its random controls.

    Args:
        own: Effect of the set of neurons, a mean over facts.
        controls: Effects of its control sets over the same facts.
        resolution: Smallest step of the effect, such as 1/n for the accuracy on n facts. Half of it
            is subtracted from the absolute difference and half of it is the lower bound of the
            standard deviation, so that controls without any effect prove little.
        spread: Standard deviation and degrees of freedom, such as from `moderated_spreads`; by
            default estimated from `controls` alone.

    Returns:
        The p-value; NaN if the spread is unknown, as with a single control set.
    """
    sd, freedom = spread if spread is not None else pooled_spread([controls])
    if freedom < 1 or len(controls) < 1:
        return float("nan")
    error = max(sd, resolution / 2) * np.sqrt(1 + 1 / len(controls))
    distance = max(abs(own - float(np.mean(controls))) - resolution / 2, 0.0)
    if error == 0:
        return 1.0 if distance == 0 else 0.0
    return float(2 * stats.t.sf(distance / error, freedom))


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


def _holm(p_values: Float[ndarray, " hypothesis"]) -> Float[ndarray, " hypothesis"]:
    """Holm's step-down correction, without the garbage collection of statsmodels on each call."""
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(p_values), 0, -1) * p_values[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


ADJUSTMENTS = {"holm": _holm, "benjamini-hochberg": stats.false_discovery_control}


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
