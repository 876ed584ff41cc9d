"""What ablating does, group by group: effects with intervals, matched controls, tests and corrections."""

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
"""What is said of every answer: log-probability of the whole object in nats, and whether the answer is right."""
LEVEL = 0.05
LEAST_NATS = 1e-3
"""Differences in log-probability below this are rounding."""
FALLS, RISES, NOT_SHOWN = "falls", "rises", "not shown"
ABOVE = "above chance"
WHAT = {"correct": "Accuracy", "logprob": "Log-probability of the object (nats)"}
RATIO = ("ratio", "ratio_low", "ratio_high")


class Facts(NamedTuple):
    """One group and measure, prompts of a fact averaged."""

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
    """Effects of ablated neurons beside what matched random neurons do to the same facts, a row per group and measure.

    Prompts of one fact are averaged first, so that facts are the units. A group falls or rises only if it differs from
    zero by chance over facts *and* from its controls by the choice of neurons, in the same direction; its `p` is the
    larger of both, corrected over all groups of the measure.

    Args:
        own: From `Study.changes`, with the columns `by` among its labels.
        controls: The same for control sets, told apart by the label `draw`, on the same prompts.
        by: What makes a group, such as `["ablated"]`.
        pool: A column of `by` whose groups vary alike: the spread of controls is then estimated over all groups that
            share it, each about its own mean. By default each group has its own spread, drawn towards the others' as
            far as they are alike (`significance.moderated_spreads`).
        measures: Which of `MEASURES`.
        seed: Of resamples.

    Returns:
        Columns `by`; `measure`; `n`, facts; `clean` and `effect` with `_low` and `_high` (95 % over facts); `lost` and
        `gained`, facts whose measure fell and rose; `n_controls`, `random` (mean over control sets), `random_sd`,
        `random_min`, `random_max`; `difference` from the controls' mean with `_low` and `_high`, paired by fact;
        `p_chance`, exact McNemar over facts for accuracy, else sign flips; `p_random`, the control test; `p`, `p_holm`
        and `p_bh`; `minimum_effect` that so many facts show with 80 % power at the level of Holm's first step;
        `verdict` at 5 % by `p_holm`: `falls`, `rises` or `not shown`.

    Raises:
        RelationNeuronsError: No groups, or controls that were asked other facts.
    """
    by = list(by)
    if own.empty:
        raise refuse("There is nothing to compare", expected="at least one case")
    drawn = dict(list(controls.groupby(by, sort=False)))
    groups = [(key, rows, drawn.get(key)) for key, rows in own.groupby(by, sort=False)]
    found = []
    for measure in measures:
        cells = {key: _facts(key, rows, random, measure) for key, rows, random in groups}
        spreads = _spreads(cells, by.index(pool) if pool else None)
        for key, facts in cells.items():
            row = _row(facts, spreads[key], measure, len(cells), seed)
            found.append(dict(zip(by, key, strict=True)) | {"measure": measure} | row)
    return judged(pd.DataFrame(found))


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Correct `p` over the rows of each measure and say what is shown; needs `measure`, `p` and `effect`."""
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
    unit, change = ["relation", "fact"], f"d_{measure}"
    mine = own.groupby(unit, sort=False)[[f"clean_{measure}", change]].mean()
    if controls is None:
        drawn = np.empty((len(mine), 0))
    else:
        by_draw = controls.groupby([*unit, "draw"], sort=False)[change].mean().unstack("draw").reindex(mine.index)
        drawn = by_draw.to_numpy()
        if np.isnan(drawn).any():
            raise refuse(
                f"Controls of {key} were not asked every fact that its neurons were", expected="the same facts"
            )
    resolution = 1 / len(own) if measure == "correct" else LEAST_NATS
    return Facts(mine[f"clean_{measure}"].to_numpy(), mine[change].to_numpy(), drawn, resolution)


def _spreads(cells: dict[tuple[object, ...], Facts], pool: int | None) -> dict[tuple[object, ...], tuple[float, float]]:
    """Standard deviation and degrees of freedom of each group's control sets."""
    sets = {key: facts.controls.mean(axis=0) for key, facts in cells.items()}
    if pool is None:
        least = max(facts.resolution for facts in cells.values())
        return dict(zip(sets, moderated_spreads(list(sets.values()), least=least), strict=True))
    alike: dict[object, list[ndarray]] = {}
    for key, draws in sets.items():
        alike.setdefault(key[pool], []).append(draws)
    pooled = {value: pooled_spread([draws for draws in groups if len(draws)]) for value, groups in alike.items()}
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
    """The distribution of control sets, the difference from their mean, and whether the set could be one of them."""
    draws = facts.controls.mean(axis=0)
    if not len(draws):
        nothing = dict.fromkeys(("random", "random_sd", "random_min", "random_max"), np.nan)
        return {"n_controls": 0, **nothing, **dict.fromkeys(_DIFFERENCE, np.nan)}
    between = mean_interval(facts.own - facts.controls.mean(axis=1), seed=seed)
    p = control_test(float(facts.own.mean()), draws, resolution=facts.resolution, spread=spread)
    summary = (len(draws), draws.mean(), spread[0], draws.min(), draws.max())
    named = dict(zip(("n_controls", "random", "random_sd", "random_min", "random_max"), summary, strict=True))
    return named | dict(zip(_DIFFERENCE, (between.mean, between.low, between.high, p), strict=True))


_DIFFERENCE = ("difference", "difference_low", "difference_high", "p_random")


def share_of_drop(effect: Num[ndarray, " fact"], reference: Num[ndarray, " fact"], *, seed: int = 0) -> Interval:
    """A mean effect as a share of the mean drop in a reference, both on the same facts.

    Returns:
        The ratio with a percentile bootstrap interval over facts; NaN where the reference's own interval does not lie
        below zero, since a share of nothing means nothing.

    Example:
        >>> share_of_drop(np.array([-1.0, -2.0, -3.0]), np.array([-2.0, -4.0, -6.0]))
        Interval(mean=0.5, low=0.5, high=0.5, n=3)
    """
    if len(reference) < 2 or mean_interval(reference, seed=seed).side != "below":
        return Interval(np.nan, np.nan, np.nan, len(reference))

    def ratio(over: ndarray, under: ndarray, axis: int = -1) -> ndarray:
        # A resample whose reference does not drop counts as an immense share, which widens the interval.
        return np.asarray(over.mean(axis=axis) / np.minimum(under.mean(axis=axis), -1e-9))

    found = stats.bootstrap(
        (effect, reference),
        ratio,
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        n_resamples=N_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(ratio(effect, reference)), float(found.low), float(found.high), len(reference))
