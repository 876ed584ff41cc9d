"""Effects pooled over relations, with intervals that resample relations and, within them, facts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from relation_neurons.statistics.cluster_bootstrap import two_stage_interval
from relation_neurons.statistics.effects import MEASURES, compare, pooled

ALL = "all"
"""The value of `ablated` where the sets of all relations are pooled."""


def pooled_effects(
    own: pd.DataFrame,
    controls: pd.DataFrame,
    *,
    by: Sequence[str] = ("ablated",),
    measures: Sequence[str] = MEASURES,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the effects of all relations' neurons together with those of their matched random controls.

    The verdict is that of `compare`, to which the pooled rows name their sets in a column `set`. Each control draw
    pools one control set of each relation.

    Args:
        own: As for `compare`, with a column `ablated`.
        controls: As for `compare`.
        by: Columns that define a group there; `ablated`, one of them, becomes `all`.
        measures: As for `compare`.
        seed: Seed of the bootstrap and of the sign flips.

    Returns:
        The table of `compare`, a row per group and measure; the intervals of `effect` and of `difference` are those of
        `cluster_bootstrap.two_stage_interval` over relations and facts.
    """
    one, random = pooled(own, controls)
    table = compare(one, random, by=by, measures=measures, seed=seed)
    intervals: list[dict[str, float]] = []
    for row in table.to_dict("records"):
        here, there = one, random
        for name in by:
            here, there = (part[part[name] == row[name]] for part in (here, there))
        columns = _by_set(here, there, f"d_{row['measure']}")
        found = [two_stage_interval(values, seed=seed).columns(name) for name, values in columns.items()]
        intervals.append({name: value for each in found for name, value in each.items()})
    return table.assign(**pd.DataFrame(intervals, table.index))


def _by_set(own: pd.DataFrame, controls: pd.DataFrame, change: str) -> dict[str, list[np.ndarray]]:
    """Each fact's change, and its difference from the mean under control sets, in a list over sets."""
    fact = ["set", "relation", "unit"]
    changes = own.groupby(fact, sort=False)[change].mean()
    columns = {"effect": changes}
    if len(controls):
        columns["difference"] = changes - controls.groupby(fact, sort=False)[change].mean().reindex(changes.index)
    return {
        name: [values.to_numpy() for _, values in column.groupby("set", sort=False)] for name, column in columns.items()
    }
