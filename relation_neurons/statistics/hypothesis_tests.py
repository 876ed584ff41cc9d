"""Tests of effects: against chance over facts, against matched random neurons, and over a family of hypotheses.

An effect has two sources of chance: which facts were asked, and which neurons were drawn. Permutation tests over facts
see the first only, so that any particular set of neurons, a random one too, soon differs "significantly" from others.
The control test sees the second: it asks whether a set differs from what random sets do. A verdict needs both.
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
"""Flips as extreme, of the first 9,999, from which on no more are drawn."""
POWER = 0.8


def sign_flip_test(differences: Num[ndarray, " fact"], *, seed: int = 0) -> float:
    """Two-sided permutation test that paired differences are as likely negative as positive.

    Exact up to 13 differences. Beyond, 9,999 random flips, and 199,999 others where hardly any of those was as extreme,
    so that corrections over thousands of pairs of relations can be passed.

    Args:
        differences: One for each independent unit, such as a fact.
        seed: Of the flips.

    Returns:
        The p-value; 1 where fewer than two differ from zero.
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
    """Exact McNemar test: whether as many were lost as gained, two-sided; 1 where nothing changed."""
    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def pooled_spread(groups: Sequence[Num[ndarray, " _"]]) -> tuple[float, float]:
    """Standard deviation of draws about the mean of their group, over all groups, and its degrees of freedom."""
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 1:
        return float("nan"), 0.0
    squares = sum(float(np.square(group - np.mean(group)).sum()) for group in groups)
    return float(np.sqrt(squares / freedom)), float(freedom)


def moderated_spreads(groups: Sequence[Num[ndarray, " _"]], *, least: float = 0.0) -> list[tuple[float, float]]:
    """Standard deviations of draws, each drawn towards what is usual for all groups, as far as they are alike.

    Few control sets tell little of their spread. The empirical Bayes estimate of Smyth (2004; the "moderated t" of
    limma) takes the variances as draws from a scaled inverse chi-squared distribution, whose scale and degrees of
    freedom it estimates from all groups: where variances differ little more than by chance it comes to pooling, where
    they really differ to each group's own.

    Args:
        groups: The draws of each group.
        least: Half of this is the least standard deviation of a group.

    Returns:
        For each group a standard deviation and its degrees of freedom, at most those of all groups together.
    """
    own = [pooled_spread([group]) for group in groups]
    freedom = np.array([one[1] for one in own], dtype=float)
    known = freedom > 0
    variances = np.maximum(np.array([one[0] for one in own]), least / 2) ** 2
    if known.sum() < 3 or (variances[known] <= 0).any():
        return [(sd, float(n)) for sd, n in own]
    half = freedom[known] / 2
    logs = np.log(variances[known]) - special.digamma(half) + np.log(half)
    beyond_chance = logs.var(ddof=1) - special.polygamma(1, half).mean()
    prior = 2 * _trigamma_inverse(beyond_chance) if beyond_chance > 0 else np.inf
    usual = logs.mean() + (special.digamma(prior / 2) - np.log(prior / 2) if np.isfinite(prior) else 0.0)
    weight = freedom / (freedom + prior) if np.isfinite(prior) else np.zeros(len(freedom))
    together = np.minimum(freedom + prior, freedom.sum())
    found = np.sqrt(weight * variances + (1 - weight) * np.exp(usual))
    return [
        (float(sd), float(n)) if there else (float("nan"), 0.0)
        for sd, n, there in zip(found, together, known, strict=True)
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
    """Whether a set's effect could be one more draw from those of its random controls (prediction t-test, two-sided).

    Args:
        own: The effect of the set, a mean over facts.
        controls: Those of its control sets, over the same facts.
        resolution: The least step of the effect, such as one fact of n for accuracy. Half of it is taken off the
            difference and is the least standard deviation, so that controls that all do nothing prove little.
        spread: Standard deviation and degrees of freedom, such as from `moderated_spreads`; by default from `controls`
            alone.

    Returns:
        The p-value; NaN where there is no spread to compare with, as with a single control.
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
    """P-values corrected for the size of their family; NaN stays NaN and does not count.

    Raises:
        RelationNeuronsError: Another method.
    """
    if method not in ADJUSTMENTS:
        raise refuse(f"'{method}' is no correction", expected=nearest(method, ADJUSTMENTS))
    found = np.full(len(p_values), np.nan)
    there = np.isfinite(p_values)
    if there.any():
        found[there] = ADJUSTMENTS[method](p_values[there])
    return found


def _holm(p_values: Float[ndarray, " hypothesis"]) -> Float[ndarray, " hypothesis"]:
    """Holm's step-down correction; statsmodels has it, but collects garbage at each call, which takes longer."""
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(p_values), 0, -1) * p_values[order]
    found = np.empty(len(p_values))
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return found


ADJUSTMENTS = {"holm": _holm, "benjamini-hochberg": stats.false_discovery_control}


def minimum_effect(differences: Num[ndarray, " fact"], *, alpha: float = 0.05, power: float = POWER) -> float:
    """The least mean difference that this many units, spread like these, would show with the given power.

    Args:
        differences: One for each independent unit.
        alpha: Two-sided level, divided by the size of the family where one is corrected for.
        power: Probability of finding it.

    Returns:
        In the unit of the differences, from the noncentral t distribution; NaN for fewer than two of them.
    """
    if len(differences) < 2:
        return float("nan")
    size = TTestPower().solve_power(nobs=len(differences), alpha=alpha, power=power, alternative="two-sided")
    return float(np.squeeze(size)) * float(np.std(differences, ddof=1))
