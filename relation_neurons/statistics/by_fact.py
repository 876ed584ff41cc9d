"""Changes by fact: prompts averaged, control sets as columns, and the sets that a pooled group consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.errors import refuse

LEAST_NATS = 1e-3
"""Differences in log-probability below this are rounding errors."""


class Strata(NamedTuple):
    """Effects of the sets of neurons that a group pools, such as those of all relations.

    Attributes:
        own: Mean effect of each set over its facts.
        controls: Mean effects of its control sets.
    """

    own: list[float]
    controls: list[Float[ndarray, " draw"]]


class Facts(NamedTuple):
    """Values of one group and measure, averaged over the prompts of each fact.

    Attributes:
        clean: Of the model without ablation.
        own: Changes under the group's neurons.
        controls: Changes under each control set.
        resolution: Smallest step of an effect.
        n_planned: Control sets that there would be had a sequential rule not stopped.
        strata: The sets that the group pools; None where it has one.
    """

    clean: Float[ndarray, " fact"]
    own: Float[ndarray, " fact"]
    controls: Float[ndarray, "fact draw"]
    resolution: float
    n_planned: int
    strata: Strata | None = None


def changes_of(
    own: pd.DataFrame, controls: pd.DataFrame, *, by: Sequence[str], measure: str
) -> list[tuple[Float[ndarray, " fact"], Float[ndarray, "fact draw"]]]:
    """Each group's changes by fact, under its own set and under each control set, as `effects.compare` tests them.

    Args:
        own: As for `effects.compare`.
        controls: As for `effects.compare`.
        by: As for `effects.compare`.
        measure: One of `effects.MEASURES`.

    Raises:
        RelationNeuronsError: If controls lack some facts of their group.
    """
    controls_of = dict(list(controls.groupby(list(by), sort=False)))
    groups = own.groupby(list(by), sort=False)
    return [facts_of(key, rows, controls_of.get(key), measure)[1:3] for key, rows in groups]


def facts_of(key: object, own: pd.DataFrame, controls: pd.DataFrame | None, measure: str) -> Facts:
    """The values of a group, its prompts averaged by fact.

    Args:
        key: The group, for an error.
        own: Its rows, as for `effects.compare`.
        controls: Those of its control sets; None without any.
        measure: One of `effects.MEASURES`.

    Raises:
        RelationNeuronsError: If controls lack some facts.
    """
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
    planned = changes.shape[1] if controls is None or "planned" not in controls else int(controls["planned"].max())
    values = (means[f"clean_{measure}"].to_numpy(), means[change].to_numpy(), changes)
    return Facts(*values, resolution, planned, _strata(own, controls, change) if "set" in own else None)


def _strata(own: pd.DataFrame, controls: pd.DataFrame | None, change: str) -> Strata:
    """The mean effect over facts of each set that a group pools, and of its control sets, to whole `LEAST_NATS`."""
    fact = ["set", "relation", "unit"]
    means = own.groupby(fact, sort=False)[change].mean().groupby("set", sort=False).mean()
    if controls is None:
        return Strata(means.round(3).tolist(), [np.empty(0)] * len(means))
    drawn = controls.groupby([*fact, "draw"], sort=False)[change].mean().groupby(["set", "draw"], sort=False).mean()
    return Strata(means.round(3).tolist(), [drawn[name].round(3).to_numpy() for name in means.index])
