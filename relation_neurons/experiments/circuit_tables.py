"""Faithfulness and completeness by k, the areas under their curves, and means over relations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.statistics.faithfulness import Restored, interval, model_distance, performance_ratio, restored
from relation_neurons.statistics.intervals import UNKNOWN, mean_interval

STATES = {"faithfulness": "kept", "completeness": "ablated"}
AREAS = {"cpr": performance_ratio, "cmd": model_distance}
ENDS = ("", "_low", "_high")


class Facts(NamedTuple):
    """A relation's answers under one scorer, averaged over the prompts of each fact.

    Attributes:
        clean: Of the clean model.
        none: With all neurons ablated.
        states: For each of `STATES` the own neurons' values, then those of each control set.
    """

    clean: Float[ndarray, " fact"]
    none: Float[ndarray, " fact"]
    states: dict[str, list[Float[ndarray, "fact k"]]]


def circuit_tables(answers: pd.DataFrame, sizes: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `curves` and `areas` of `faithfulness`.

    Args:
        answers: A row per `scorer`, `relation`, `k`, `draw` (-1 for the relation's own neurons) and prompt of a `unit`,
            with the log-probabilities `clean`, `none`, `kept` and `ablated`.
        sizes: Columns `k`, `share` and `in_area`, ascending.
        seed: Of the resampling.
    """
    curves, areas = [], []
    for (scorer, relation), group in answers.groupby(["scorer", "relation"], sort=False):
        facts, labels = _facts(group, sizes["k"].tolist()), {"scorer": scorer, "relation": relation}
        ratios = {
            name: [restored(values, facts.none, facts.clean, seed=seed) for values in sets]
            for name, sets in facts.states.items()
        }
        curves.append(_curve(facts, ratios, sizes).assign(scorer=str(scorer), relation=str(relation)))
        areas.append(labels | _areas(ratios["faithfulness"], sizes))
    table = pd.concat(curves, ignore_index=True)
    order = ["scorer", "relation", *table.columns.drop(["scorer", "relation"])]
    return table[order], pd.DataFrame(areas)


def averages(table: pd.DataFrame, by: list[str], columns: Sequence[str], seed: int) -> pd.DataFrame:
    """Means over relations, with 95 % intervals over those where a ratio is defined, and the means of the controls."""
    rows = []
    for key, group in table.groupby(by, sort=False):
        row: dict[str, object] = dict(zip(by, key, strict=True))
        for name in columns:
            defined = group.dropna(subset=[name])
            found = mean_interval(defined[name].to_numpy(), seed=seed) if len(defined) else UNKNOWN
            row |= found.columns(name)
            row |= {f"random_{name}": defined[f"random_{name}"].mean()}
            row |= {"n": len(defined), "n_undefined": len(group) - len(defined)}
        rows.append(row)
    return pd.DataFrame(rows)


def _facts(group: pd.DataFrame, ks: Sequence[int]) -> Facts:
    """Average each fact's prompts; a fact is a row everywhere."""
    by_fact = group.groupby(["unit", "draw", "k"], sort=False)[["clean", "none", *STATES.values()]].mean()
    first = by_fact.xs((-1, ks[0]), level=("draw", "k"))
    draws = sorted(group["draw"].unique())
    states = {
        name: [by_fact[state].xs(draw, level="draw").unstack("k").loc[first.index, ks].to_numpy() for draw in draws]
        for name, state in STATES.items()
    }
    return Facts(first["clean"].to_numpy(), first["none"].to_numpy(), states)


def _curve(facts: Facts, ratios: dict[str, list[Restored]], sizes: pd.DataFrame) -> pd.DataFrame:
    """A row per k."""
    rows = sizes.assign(n=len(facts.clean), clean=facts.clean.mean(), none=facts.none.mean())
    for name, state in STATES.items():
        rows[state] = facts.states[name][0].mean(axis=0)
    for name, (own, *controls) in ratios.items():
        intervals = [own.interval(point) for point in range(len(sizes))]
        for end, values in zip(ENDS, list(zip(*intervals, strict=True))[:3], strict=True):
            rows[f"{name}{end}"] = values
        drawn = np.stack([one.shares for one in controls])
        rows = rows.assign(**_random(name, drawn))
    return rows.assign(n_controls=len(controls))


def _areas(ratios: Sequence[Restored], sizes: pd.DataFrame) -> dict[str, object]:
    """CPR and CMD of the own neurons and of the control sets."""
    chosen = sizes["in_area"].to_numpy()
    shares = sizes["share"].to_numpy()[chosen]
    own, *controls = ratios
    row: dict[str, object] = {"n": own.n}
    for name, area in AREAS.items():
        value, resampled = (area(values[..., chosen], shares) for values in (own.shares, own.resampled))
        row |= interval(float(value), resampled, own.n).columns(name)
        row |= _random(name, np.array([area(one.shares[chosen], shares) for one in controls]))
    return row | {"n_controls": len(controls)}


def _random(name: str, drawn: ndarray) -> dict[str, Any]:
    """Mean, least and most of control sets, which are the first axis."""
    found = {"": drawn.mean(axis=0), "_min": drawn.min(axis=0), "_max": drawn.max(axis=0)}
    return {f"random_{name}{end}": values for end, values in found.items()}
