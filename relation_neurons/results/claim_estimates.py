"""Estimates that a claim of the paper is judged by, each read from the tables of experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from relation_neurons.results.run import Run
from relation_neurons.statistics.hypothesis_tests import minimum_effect, sign_flip_test
from relation_neurons.statistics.intervals import Interval, mean_interval, proportion_interval
from relation_neurons.statistics.power import LEVEL

NAN = float("nan")


class NotMeasuredError(LookupError):
    """What a claim is judged by is not in the folder; the message says what would put it there."""


@dataclass(frozen=True)
class Estimate:
    """What was measured of a claim.

    Attributes:
        interval: The estimate with its 95 % interval and number of units.
        units: What the units are, such as facts.
        side: 1 where the claim is shown, -1 where its contrary is, 0 where neither is.
        random: The same of matched random neurons, or by chance.
        p: Of this claim alone.
        least: The least effect that would have been shown with 80 % power, infinite where none would.
        margin: Of a claim that something hardly changes: how far from zero its interval may reach.
        tested: What is tested, where that is another number than the estimate.
    """

    interval: Interval
    units: str
    side: int
    random: float = NAN
    p: float = NAN
    least: float = NAN
    margin: float = NAN
    tested: float = NAN


def table(run: Run, experiment: str, name: str, **values: object) -> pd.DataFrame:
    """The rows of a table that have these values, at least one.

    Raises:
        NotMeasuredError: The experiment was not run, or has no such row.
    """
    full = f"{experiment}/{name}"
    if full not in run.tables:
        raise NotMeasuredError(f"reproduce {experiment}")
    rows = run.table(full)
    for column, value in values.items():
        rows = rows[rows[column] == value] if column in rows else rows.iloc[:0]
    if rows.empty:
        asked = ", ".join(f"{column} {value}" for column, value in values.items())
        raise NotMeasuredError(f"{experiment} has no rows{f' of {asked}' if asked else ''}")
    return rows


def only(run: Run, experiment: str, name: str, **values: object) -> dict[str, Any]:
    """The first row of a table that has these values.

    Raises:
        NotMeasuredError: As of `table`.
    """
    return {str(column): value for column, value in table(run, experiment, name, **values).iloc[0].items()}


def neurons_per_relation(run: Run) -> int:
    """The k of the run.

    Raises:
        NotMeasuredError: The run has not chosen neurons.
    """
    if "neurons" not in run.tables:
        raise NotMeasuredError("the run has no table of neurons")
    return int(run.table("neurons")["rank"].max())


def interval_of(row: Mapping[str, Any], name: str = "effect") -> Interval:
    """The estimate of a row with its interval and n."""
    return Interval(row[name], row[f"{name}_low"], row[f"{name}_high"], int(row["n"]))


def of_effect(row: Mapping[str, Any], sign: int, units: str = "facts") -> Estimate:
    """A row of `effects.compare`, by its uncorrected p: the claim was named before anything was measured."""
    side = sign * int(np.sign(row["effect"])) if row["p"] < LEVEL else 0
    return Estimate(interval_of(row), units, side, row["random"], row["p"], row["minimum_effect"])


def over_relations(values: pd.Series | np.ndarray, sign: int, *, random: float = NAN, seed: int = 0) -> Estimate:
    """The mean over relations of one number of each, tested by sign flips.

    Raises:
        NotMeasuredError: There are no such numbers.
    """
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        raise NotMeasuredError("it is defined for no relation")
    interval, p = mean_interval(numbers, seed=seed), sign_flip_test(numbers, seed=seed)
    side = sign * int(np.sign(interval.mean)) if p < LEVEL else 0
    return Estimate(interval, "relations", side, random, p, minimum_effect(numbers))


def within(interval: Interval, margin: float, units: str, *, random: float = NAN) -> Estimate:
    """A claim that something hardly changes: its interval lies within a margin on both sides of zero, or beyond."""
    inside, beyond = abs(interval.low) < margin > abs(interval.high), interval.low > margin or interval.high < -margin
    return Estimate(interval, units, 1 if inside else -1 if beyond else 0, random, margin=margin)


def at_least(interval: Interval, bound: float, units: str) -> Estimate:
    """A claim that something is above a bound."""
    return Estimate(interval, units, 1 if interval.low > bound else -1 if interval.high < bound else 0)


def at_most(interval: Interval, bound: float, units: str) -> Estimate:
    """A claim that something is below a bound."""
    return Estimate(interval, units, 1 if interval.high < bound else -1 if interval.low > bound else 0)


def share(count: int, total: int) -> Interval:
    """A share with Wilson's interval.

    Raises:
        NotMeasuredError: There is nothing to count.
    """
    if not total:
        raise NotMeasuredError("there is nothing to count")
    return proportion_interval(np.arange(total) < count)
