"""Effects of ablation by group, with intervals, matched random controls, tests and corrections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from relation_neurons.errors import refuse
from relation_neurons.statistics.by_fact import Facts, Strata, facts_of
from relation_neurons.statistics.hypothesis_tests import (
    POWER,
    ControlTest,
    adjust,
    control_test,
    mcnemar_test,
    minimum_effect,
    sign_flip_test,
)
from relation_neurons.statistics.intervals import CHANGES, SHARES, mean_interval
from relation_neurons.statistics.power import LEVEL, Design
from relation_neurons.statistics.stratified_test import critical_shift, stratified_rank_test

MEASURES = ("logprob", "correct")
"""Measures of each answer: log-probability of the whole object in nats, and correctness."""
FIRST_BLOCK = 5
"""Control sets before a sequential rule looks at them for the first time."""
FALLS, RISES, NOT_SHOWN = "falls", "rises", "not shown"
CANNOT_BE_SHOWN = "cannot be shown"
"""The verdict where no effect, however large, could pass the tests with these facts, controls and groups."""
ABOVE = "above chance"
SHOWN = (FALLS, RISES, ABOVE)
"""Verdicts that an effect is significant."""
WHAT = {"correct": "Accuracy", "logprob": "Log-probability of the object (nats)"}
RATIO = ("ratio", "ratio_low", "ratio_high")


def pooled(own: pd.DataFrame, controls: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables for `compare` as one group over all relations: `ablated` is `all`, and `set` what it was.

    Where a sequential rule may have stopped the control sets, those of the first block are used, so
    that their number does not depend on what they showed.
    """
    if "planned" in controls:
        controls = controls[controls["draw"] < FIRST_BLOCK].drop(columns="planned")
    return own.assign(set=own["ablated"], ablated="all"), controls.assign(set=controls["ablated"], ablated="all")


def compare(
    own: pd.DataFrame,
    controls: pd.DataFrame,
    *,
    by: Sequence[str],
    measures: Sequence[str] = MEASURES,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the effects of ablated neurons with those of matched random controls.

    Prompts of one fact are averaged first, so that facts are the units; facts of one subject count
    as one. A group has the verdict `falls` or `rises` only if its effect differs both from zero, in
    a test over facts, and from its controls, in the same direction, each test corrected over all
    groups of the measure.

    Args:
        own: Table of `Study.changes` with the columns `by`. A group that pools several sets of neurons
            names them in a column `set`, as `pooled` does; it is tested against random controls by
            `stratified_test.stratified_rank_test`, with Holm's correction.
        controls: The same table for the control sets, numbered in the column `draw`, on the same
            prompts; with a column `planned` where a sequential rule may have stopped before so many.
        by: Columns that define a group, such as `["ablated"]`.
        measures: Some or all of `MEASURES`.
        seed: Seed of the bootstrap and of the sign flips.

    Returns:
        One row per group and measure. Columns: `by`; `measure`; `n`, the number of facts; `clean` and
        `effect` with `_low` and `_high` (95 % over facts); `lost` and `gained`, the numbers of facts
        whose measure fell and rose; `n_controls`; `random` (mean over control sets), `random_sd`,
        `random_min` and `random_max`; `difference` from the controls' mean with `_low` and `_high`,
        paired by fact; `p_chance`, of the exact McNemar test over facts for accuracy and of the
        sign-flip test otherwise; `p_random`, of the rank test against the control sets; `p`, the
        larger of both, and 1 where they disagree in direction; `p_holm`, the larger of both after
        Holm's correction of the former and the max-T correction of the latter; `p_bh`, Benjamini and
        Hochberg's correction of `p`; `smallest_p`, the least value that `p_holm` can have, see
        `power.Design`; `minimum_effect`, detectable with 80 % power by both tests, infinite where
        nothing is, and NaN where the control sets stopped early; `verdict` at the 5 % level by
        `p_holm`: `falls`, `rises`, `not shown`, or `cannot be shown` where `smallest_p` is not below
        the level.

    Raises:
        RelationNeuronsError: If there are no groups, or if controls lack some facts of their group.
    """
    by = list(by)
    if own.empty:
        raise refuse("There is nothing to compare", expected="at least one group")
    controls_of = dict(list(controls.groupby(by, sort=False)))
    groups = [(key, rows, controls_of.get(key)) for key, rows in own.groupby(by, sort=False)]
    parts = []
    for measure in measures:
        cells = {key: facts_of(key, rows, random, measure) for key, rows, random in groups}
        labels = pd.DataFrame([dict(zip(by, key, strict=True)) for key in cells])
        rows = pd.DataFrame([_row(facts, measure, seed) for facts in cells.values()])
        tests = decide(
            [facts.own for facts in cells.values()],
            [facts.controls for facts in cells.values()],
            [chance_p(facts.own, measure, seed) for facts in cells.values()],
            resolution=max(facts.resolution for facts in cells.values()),
            n_planned=[facts.n_planned for facts in cells.values()],
            strata=[facts.strata for facts in cells.values()],
        )
        parts.append(pd.concat([labels.assign(measure=measure), rows, tests], axis=1))
    return pd.concat(parts, ignore_index=True)


def decide(
    own: Sequence[Float[ndarray, " _"]],
    controls: Sequence[Float[ndarray, "_ _"]],
    p_chance: Sequence[float],
    *,
    resolution: float,
    n_planned: Sequence[int] | None = None,
    strata: Sequence[Strata | None] = (),
) -> pd.DataFrame:
    """Test a family of effects against chance over units and against matched random controls.

    Args:
        own: Changes of the units, such as facts or sentences, of each group.
        controls: The changes of the same units under each control set, a column per set.
        p_chance: P-value of each group's test over units.
        resolution: As for `hypothesis_tests.control_test`.
        n_planned: Control sets of each group that a sequential rule would have drawn at most; by default
            those there are.
        strata: Of groups that pool several sets; either all groups do, or none.

    Returns:
        One row per group with the columns `p_chance` to `verdict` of `compare`.
    """
    means, draws = [float(values.mean()) for values in own], [values.mean(axis=0) for values in controls]
    pools = [one for one in strata if one is not None]
    random = _pooled_test(pools) if pools else control_test(means, draws, resolution=resolution, level=LEVEL)
    chance = np.array(p_chance)
    effects = np.array(means)
    centres = np.array([values.mean() if len(values) else np.nan for values in draws])
    table = pd.DataFrame({"p_chance": chance, "p_random": random.p})
    table["p"] = larger_p(effects, centres, chance, random.p)
    table["p_holm"] = larger_p(effects, centres, adjust(chance, "holm"), random.p_family)
    table["p_bh"] = adjust(table["p"].to_numpy(), "benjamini-hochberg")
    n_planned = n_planned or [values.shape[1] for values in controls]
    n_sets = [len(one.own) for one in pools] or [1] * len(own)
    designs = [Design(len(own), len(values), *size) for values, *size in zip(own, n_planned, n_sets, strict=True)]
    table["smallest_p"] = [design.smallest_p for design in designs]
    table["minimum_effect"] = [
        np.nan if draws.shape[1] < design.n_controls else _minimum_effect(values, design, critical)
        for values, draws, design, critical in zip(own, controls, designs, random.critical, strict=True)
    ]
    otherwise = np.where(table["smallest_p"] >= LEVEL, CANNOT_BE_SHOWN, NOT_SHOWN)
    return table.assign(verdict=_verdicts(table["p_holm"].to_numpy(), effects, otherwise))


def _pooled_test(groups: Sequence[Strata]) -> ControlTest:
    """Whether the sets of each group are like their control sets, relation by relation."""
    p = np.array([stratified_rank_test(group.own, group.controls) for group in groups])
    critical = np.array([critical_shift(group.controls, LEVEL / len(groups)) for group in groups])
    return ControlTest(p, adjust(p, "holm"), critical)


def larger_p(
    effects: Float[ndarray, "*group"],
    centres: Float[ndarray, "*group"],
    p_chance: Float[ndarray, "*group"],
    p_random: Float[ndarray, "*group"],
) -> Float[ndarray, "*group"]:
    """The larger p-value of both tests, and 1 where the effect and its difference from the controls disagree in sign.

    Args:
        effects: Effect of each group.
        centres: Mean effect of its control sets; NaN without controls, where the result is NaN.
        p_chance: P-values of the test over units.
        p_random: P-values of the control test.
    """
    opposed = effects * (effects - centres) <= 0
    return np.where(opposed, 1.0, np.maximum(p_chance, p_random))


def _verdicts(p_holm: Float[ndarray, " group"], effects: Float[ndarray, " group"], otherwise: str | ndarray) -> ndarray:
    """`falls` or `rises` where the corrected p-value is below the level."""
    shown = p_holm < LEVEL
    return np.select([shown & (effects < 0), shown & (effects > 0)], [FALLS, RISES], otherwise)


def _minimum_effect(own: Float[ndarray, " unit"], design: Design, critical: float) -> float:
    """The effect that both tests detect with 80 % power; infinite where one of them cannot."""
    if not design.can_show:
        return float("inf")
    error = float(np.std(own, ddof=1)) * np.sqrt(2 / len(own))  # the critical distance is as uncertain as the effect
    beyond_controls = critical + float(stats.norm.ppf(POWER)) * error
    return max(minimum_effect(own, alpha=LEVEL / design.n_tests), beyond_controls)


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Add corrected p-values and verdicts to a table with `measure`, `p` and `effect`.

    P-values are corrected over all rows of a measure.
    """
    table = table.assign(p_holm=np.nan, p_bh=np.nan)  # a table without rows has the columns, too
    for _, rows in table.groupby("measure", sort=False):
        p = rows["p"].to_numpy(dtype=float)
        table.loc[rows.index, "p_holm"] = adjust(p, "holm")
        table.loc[rows.index, "p_bh"] = adjust(p, "benjamini-hochberg")
    p_holm, effects = (table[name].to_numpy(dtype=float) for name in ("p_holm", "effect"))
    return table.assign(verdict=_verdicts(p_holm, effects, NOT_SHOWN))


def chance_p(changes: Float[ndarray, " fact"], measure: str, seed: int) -> float:
    """The p-value of no effect over facts: exact McNemar for correctness, sign flips otherwise."""
    if measure == "correct":
        return mcnemar_test(int((changes < 0).sum()), int((changes > 0).sum()))
    return sign_flip_test(changes, seed=seed)


def _row(facts: Facts, measure: str, seed: int) -> dict[str, object]:
    shares, changes = (SHARES, CHANGES) if measure == "correct" else (None, None)
    clean = mean_interval(facts.clean, bounds=shares, seed=seed)
    effect = mean_interval(facts.own, bounds=changes, seed=seed)
    lost, gained = int((facts.own < 0).sum()), int((facts.own > 0).sum())
    row: dict[str, object] = {"n": effect.n}
    for name, interval in (("clean", clean), ("effect", effect)):
        row |= interval.columns(name)
    return row | {"lost": lost, "gained": gained} | _against_controls(facts, changes, seed)


def _against_controls(facts: Facts, bounds: tuple[float, float] | None, seed: int) -> dict[str, object]:
    """Distribution of the control sets, and the difference from their mean."""
    draws = facts.controls.mean(axis=0)
    if not len(draws):
        return {"n_controls": 0} | dict.fromkeys((*_DISTRIBUTION, *_DIFFERENCE), np.nan)
    between = mean_interval(facts.own - facts.controls.mean(axis=1), bounds=bounds, seed=seed)
    spread = float(draws.std(ddof=1)) if len(draws) > 1 else np.nan
    summary = dict(zip(_DISTRIBUTION, (draws.mean(), spread, draws.min(), draws.max()), strict=True))
    return {"n_controls": len(draws)} | summary | dict(zip(_DIFFERENCE, between[:3], strict=True))


_DISTRIBUTION = ("random", "random_sd", "random_min", "random_max")
_DIFFERENCE = ("difference", "difference_low", "difference_high")
