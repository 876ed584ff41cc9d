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
from scipy import stats
from statsmodels.stats.power import TTestPower

from relation_neurons.errors import nearest, refuse

N_PERMUTATIONS = 9999
POWER = 0.8


def sign_flip_test(differences: Num[ndarray, " fact"], *, seed: int = 0) -> float:
    """Two-sided permutation test that paired differences are as likely negative as positive.

    Exact up to 13 differences, with 9,999 random flips beyond.

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
    test = stats.permutation_test(
        (values,),
        lambda sample, axis: sample.mean(axis=axis),
        permutation_type="samples",
        n_resamples=N_PERMUTATIONS,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def mcnemar_test(lost: int, gained: int) -> float:
    """Exact McNemar test: whether as many were lost as gained, two-sided; 1 where nothing changed."""
    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def pooled_spread(groups: Sequence[Num[ndarray, " draw"]]) -> tuple[float, int]:
    """Standard deviation of draws about the mean of their group, over all groups, and its degrees of freedom."""
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 1:
        return float("nan"), 0
    squares = sum(float(np.square(group - np.mean(group)).sum()) for group in groups)
    return float(np.sqrt(squares / freedom)), freedom


def control_test(
    own: float,
    controls: Num[ndarray, " draw"],
    *,
    resolution: float = 0.0,
    spread: tuple[float, int] | None = None,
) -> float:
    """Whether a set's effect could be one more draw from those of its random controls (prediction t-test, two-sided).

    Args:
        own: The effect of the set, a mean over facts.
        controls: Those of its control sets, over the same facts.
        resolution: The least step of the effect, such as one fact of n for accuracy. Half of it is taken off the
            difference and is the least standard deviation, so that controls that all do nothing prove little.
        spread: Standard deviation and degrees of freedom from `pooled_spread`; by default from `controls` alone.

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
