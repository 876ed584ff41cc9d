"""Scorers at equal cost: what own facts lose where others' facts have lost a given amount.

Each scorer traces a curve over k, from nothing lost at k = 0. Curves are averaged over relations; between two k they
are straight.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from relation_neurons.statistics.faithfulness import interval
from relation_neurons.statistics.intervals import N_RESAMPLES, UNKNOWN

COST_MEASURE = "logprob"


def drops_at_equal_cost(changes: pd.DataFrame, *, cost: float, first: str, seed: int = 0) -> pd.DataFrame:
    """The change of own facts at the k where others' facts have lost `cost` nats on average.

    Args:
        changes: A row per `scorer`, `k`, `ablated` relation and `measure`, with the changes `own` and `other`.
        cost: Nats that others' facts lose.
        first: The scorer with which the others are compared.
        seed: Of the bootstrap.

    Returns:
        A row per scorer and measure: `cost`; `n` relations; `own`, the change of own facts, with `_low` and `_high`
        (95 %, relations resampled together for all scorers); `reached`, whether others lose so much at some k - where
        they do not, `own` is that of the largest k, and the scorer could take more at that cost; `share_reached` of the
        resamples; `difference` from the first scorer and `ratio` to it, each with `_low` and `_high`.
    """
    relations = list(dict.fromkeys(changes["ablated"]))
    scorers = list(dict.fromkeys(changes["scorer"]))
    draws = np.random.default_rng(seed).integers(len(relations), size=(N_RESAMPLES, len(relations)))
    samples = np.concatenate([np.arange(len(relations))[None], draws])  # the first is all of them, once
    rows = []
    for measure in dict.fromkeys(changes["measure"]):
        found = {}
        for scorer in scorers:
            part = changes[changes["scorer"] == scorer]
            others = -_curves(part[part["measure"] == COST_MEASURE], "other", relations)
            own = _curves(part[part["measure"] == measure], "own", relations)
            found[scorer] = _at_cost(own, others, samples, cost)
        for scorer, (values, reached) in found.items():
            row = {"scorer": scorer, "measure": measure, "cost": cost, "n": len(relations)}
            row |= _with_interval("own", values)
            row |= {"reached": bool(reached[0]), "share_reached": float(reached[1:].mean())}
            row |= _with_interval("difference", values - found[first][0])
            with np.errstate(divide="ignore", invalid="ignore"):
                row |= _with_interval("ratio", values / found[first][0])
            rows.append(row)
    return pd.DataFrame(rows)


def _curves(rows: pd.DataFrame, column: str, relations: list[str]) -> Float[ndarray, "relation dose"]:
    """Each relation's curve over k, with k = 0 in front."""
    wide = rows.pivot(index="ablated", columns="k", values=column).loc[relations].sort_index(axis=1)
    return np.concatenate([np.zeros((len(wide), 1)), wide.to_numpy(dtype=float)], axis=1)


def _at_cost(
    own: Float[ndarray, "relation dose"],
    others: Float[ndarray, "relation dose"],
    samples: Int[ndarray, "sample relation"],
    cost: float,
) -> tuple[Float[ndarray, " sample"], ndarray]:
    """Mean own change where the mean loss of others first reaches the cost, else at the largest k; and whether."""
    gained, lost = own[samples].mean(axis=1), others[samples].mean(axis=1)
    beyond = lost >= cost
    reached = beyond.any(axis=1)
    rows, after = np.arange(len(samples)), beyond.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # where the cost is not reached, before is after
        way = (cost - lost[rows, before]) / (lost[rows, after] - lost[rows, before])
        crossing = gained[rows, before] + way * (gained[rows, after] - gained[rows, before])
    return np.where(reached, crossing, gained[:, -1]), reached


def _with_interval(name: str, values: Float[ndarray, " sample"]) -> dict[str, float]:
    """What all relations give, and percentiles of what resamples of them give."""
    whole, resampled = float(values[0]), values[1:][np.isfinite(values[1:])]
    found = interval(whole, resampled, 0) if len(resampled) else UNKNOWN._replace(mean=whole)
    return found.columns(name)
