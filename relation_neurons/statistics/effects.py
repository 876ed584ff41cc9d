"""Effects of ablation by group, with intervals, matched random controls, tests and corrections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Num
from numpy import ndarray
from scipy import stats

from relation_neurons.errors import refuse
from relation_neurons.statistics.hypothesis_tests import (
    adjust,
    control_test,
    mcnemar_test,
    minimum_effect,
    moderated_spreads,
    pooled_spread,
    sign_flip_test,
)
from relation_neurons.statistics.intervals import CONFIDENCE, N_RESAMPLES, Interval, mean_interval

MEASURES = ("logprob", "correct")
"""Measures of each answer: log-probability of the whole object in nats, and correctness."""
LEVEL = 0.05
LEAST_NATS = 1e-3
"""Differences in log-probability below this are rounding errors."""
FALLS, RISES, NOT_SHOWN = "falls", "rises", "not shown"
ABOVE = "above chance"
WHAT = {"correct": "Accuracy", "logprob": "Log-probability of the object (nats)"}
RATIO = ("ratio", "ratio_low", "ratio_high")


class Facts(NamedTuple):
    """Values of one group and measure, averaged over the prompts of each fact."""

    clean: Float[ndarray, " fact"]
    own: Float[ndarray, " fact"]
    controls: Float[ndarray, "fact draw"]
    resolution: float


def compare(
    own: pd.DataFrame,
    controls: pd.DataFrame,
    *,
    by: Sequence[str],
    pool: str | None = None,
    measures: Sequence[str] = MEASURES,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the effects of ablated neurons with those of matched random controls.

    Prompts of one fact are averaged first, so that facts are the units. A group has the verdict
    `falls` or `rises` only if its effect differs both from zero, in a test over facts, and from its
    controls, in the same direction. Its `p` is the larger of both p-values, corrected over all
    groups of the measure.

    Args:
        own: Table of `Study.changes` with the columns `by`.
        controls: The same table for the control sets, numbered in the column `draw`, on the same
            prompts.
        by: Columns that define a group, such as `["ablated"]`.
        pool: Column of `by` whose groups have a common variance: the spread of the controls is then
            pooled over all groups that share its value. By default each group has its own spread,
            shrunk towards the typical one (`hypothesis_tests.moderated_spreads`).
        measures: Some or all of `MEASURES`.
        seed: Seed of the bootstrap and of the sign flips.

    Returns:
        One row per group and measure. Columns: `by`; `measure`; `n`, the number of facts; `clean` and
        `effect` with `_low` and `_high` (95 % over facts); `lost` and `gained`, the numbers of facts
        whose measure fell and rose; `n_controls`; `random` (mean over control sets), `random_sd`,
        `random_min` and `random_max`; `difference` from the controls' mean with `_low` and `_high`,
        paired by fact; `p_chance`, of the exact McNemar test over facts for accuracy and of the
        sign-flip test otherwise; `p_random`, of the control test; `p`, `p_holm` and `p_bh`;
        `minimum_effect`, detectable with 80 % power at the level of Holm's first step; `verdict` at
        the 5 % level by `p_holm`: `falls`, `rises` or `not shown`.

    Raises:
        RelationNeuronsError: If there are no groups, or if controls lack some facts of their group.
    """
    by = list(by)
    if own.empty:
        raise refuse("There is nothing to compare", expected="at least one group")
    controls_of = dict(list(controls.groupby(by, sort=False)))
    groups = [(key, rows, controls_of.get(key)) for key, rows in own.groupby(by, sort=False)]
    rows_of_table = []
    for measure in measures:
        cells = {key: _facts(key, rows, random, measure) for key, rows, random in groups}
        spreads = _spreads(cells, by.index(pool) if pool else None)
        for key, facts in cells.items():
            row = _row(facts, spreads[key], measure, len(cells), seed)
            rows_of_table.append(dict(zip(by, key, strict=True)) | {"measure": measure} | row)
    return judged(pd.DataFrame(rows_of_table))


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Add corrected p-values and verdicts to a table with `measure`, `p` and `effect`.

    P-values are corrected over all rows of a measure.
    """
    table = table.copy()
    for _, rows in table.groupby("measure", sort=False):
        p = rows["p"].to_numpy(dtype=float)
        table.loc[rows.index, "p_holm"] = adjust(p, "holm")
        table.loc[rows.index, "p_bh"] = adjust(p, "benjamini-hochberg")
    shown = table["p_holm"] < LEVEL
    table["verdict"] = np.select(
        [shown & (table["effect"] < 0), shown & (table["effect"] > 0)], [FALLS, RISES], NOT_SHOWN
    )
    return table


def _facts(key: object, own: pd.DataFrame, controls: pd.DataFrame | None, measure: str) -> Facts:
    unit, change = ["relation", "unit"], f"d_{measure}"
    means = own.groupby(unit, sort=False)[[f"clean_{measure}", change]].mean()
    if controls is None:
        changes = np.empty((len(means), 0))
    else:
        by_draw = controls.groupby([*unit, "draw"], sort=False)[change].mean().unstack("draw").reindex(means.index)
        changes = by_draw.to_numpy()
        if np.isnan(changes).any():
            raise refuse(f"The controls of {key} lack some of its facts", expected="the same facts")
    resolution = 1 / len(own) if measure == "correct" else LEAST_NATS
    return Facts(means[f"clean_{measure}"].to_numpy(), means[change].to_numpy(), changes, resolution)


def _spreads(cells: dict[tuple[object, ...], Facts], pool: int | None) -> dict[tuple[object, ...], tuple[float, float]]:
    """Standard deviation and degrees of freedom of each group's control sets."""
    sets = {key: facts.controls.mean(axis=0) for key, facts in cells.items()}
    if pool is None:
        least = max(facts.resolution for facts in cells.values())
        return dict(zip(sets, moderated_spreads(list(sets.values()), least=least), strict=True))
    groups_of: dict[object, list[ndarray]] = {}
    for key, draws in sets.items():
        groups_of.setdefault(key[pool], []).append(draws)
    pooled = {value: pooled_spread([draws for draws in groups if len(draws)]) for value, groups in groups_of.items()}
    return {key: pooled[key[pool]] for key in sets}


def _row(facts: Facts, spread: tuple[float, float], measure: str, family: int, seed: int) -> dict[str, object]:
    clean, effect = (mean_interval(values, seed=seed) for values in (facts.clean, facts.own))
    lost, gained = int((facts.own < 0).sum()), int((facts.own > 0).sum())
    row: dict[str, object] = {"n": effect.n}
    for name, interval in (("clean", clean), ("effect", effect)):
        row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    row |= {"lost": lost, "gained": gained} | _against_controls(facts, spread, seed)
    chance = mcnemar_test(lost, gained) if measure == "correct" else sign_flip_test(facts.own, seed=seed)
    random, difference = float(str(row["p_random"])), float(str(row["difference"]))
    p = float(np.maximum(chance, random)) if effect.mean * difference > 0 or np.isnan(random) else 1.0
    return row | {"p_chance": chance, "p": p, "minimum_effect": minimum_effect(facts.own, alpha=LEVEL / family)}


def _against_controls(facts: Facts, spread: tuple[float, float], seed: int) -> dict[str, object]:
    """Distribution of the control sets, difference from their mean, and p-value of the control test."""
    draws = facts.controls.mean(axis=0)
    if not len(draws):
        return {"n_controls": 0} | dict.fromkeys((*_DISTRIBUTION, *_DIFFERENCE), np.nan)
    between = mean_interval(facts.own - facts.controls.mean(axis=1), seed=seed)
    p = control_test(float(facts.own.mean()), draws, resolution=facts.resolution, spread=spread)
    summary = dict(zip(_DISTRIBUTION, (draws.mean(), spread[0], draws.min(), draws.max()), strict=True))
    paired = dict(zip(_DIFFERENCE, (between.mean, between.low, between.high, p), strict=True))
    return {"n_controls": len(draws)} | summary | paired


_DISTRIBUTION = ("random", "random_sd", "random_min", "random_max")
_DIFFERENCE = ("difference", "difference_low", "difference_high", "p_random")


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
