"""What the tables of `faithfulness` show, in sentences; never more than their corrected tests do."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from relation_neurons.results.sentences import cannot, estimates, untestable
from relation_neurons.statistics.effects import FALLS, RISES
from relation_neurons.statistics.formatting import interval_text, name_list, range_text

Sentences = tuple[str, ...]


def faithfulness(tables: Mapping[str, pd.DataFrame], k: int) -> Sentences:
    """Necessity, sufficiency, the areas, and induction.

    Args:
        tables: Of the experiment.
        k: The study's number of neurons, at which the tests are counted.
    """
    return (
        _tested(tables["kept"], k, "kept", "more is restored", RISES),
        _tested(tables["ablated"], k, "ablated", "more is lost", FALLS),
        _curves(tables["average"], tables["curves"], k),
        _areas(tables["average_areas"], tables["areas"]),
        _induced(tables["induction"], tables["ranges"]),
        _pairs(tables["pairs"]),
        _stem(tables["stem"]),
    )


def _tested(table: pd.DataFrame, k: int, state: str, claim: str, side: str) -> str:
    """In how many relations an effect is shown, by scorer."""
    if untestable(table):
        what = f"Change in nats with only a relation's neurons {state} at k = {k:,}"
        return estimates(what, table, "pairs of scorer and relation")
    parts = []
    for scorer, group in table.groupby("scorer", sort=False):
        shown = list(group.loc[group["verdict"] == side, "relation"])
        parts.append(
            f"{scorer} {len(shown)} of {len(group)} (mean {group['effect'].mean():+z.2f}, controls "
            f"{group['random'].mean():+z.2f} nats)"
        )
    return (
        f"With only a relation's neurons {state}, {claim} than with random ones, beyond chance and beyond matched "
        f"random controls at k = {k:,}, in this number of relations: {name_list(parts)}; "
        f"Holm-corrected over all {len(table)}, n = {range_text(table['n'])} facts and "
        f"{range_text(table['n_controls'])} control sets each.{cannot(table)}"
    )


def _curves(average: pd.DataFrame, curves: pd.DataFrame, k: int) -> str:
    rows = average[average["k"] == k].to_dict("records")
    parts = [
        f"{row['scorer']} faithfulness {interval_text(row, 'faithfulness')} (controls "
        f"{row['random_faithfulness']:+z.2f}), completeness {interval_text(row, 'completeness')} (controls "
        f"{row['random_completeness']:+z.2f})"
        for row in rows
        if row["n"]
    ]
    if not parts:
        n = range_text(curves["n"])
        return (
            "Faithfulness and completeness are undefined: with all neurons ablated no relation loses more than chance "
            f"over its n = {n} facts allows."
        )
    return f"Estimates at k = {k:,}, means over {rows[0]['n']} relations: {'; '.join(parts)}.{_undefined(rows[0])}"


def _areas(average: pd.DataFrame, areas: pd.DataFrame) -> str:
    rows = [row for row in average.to_dict("records") if row["n"]]
    parts = [
        f"{row['scorer']} CPR {interval_text(row, 'cpr')} (random order {row['random_cpr']:+z.2f}), CMD "
        f"{interval_text(row, 'cmd')} (random order {row['random_cmd']:+z.2f})"
        for row in rows
    ]
    if not parts:
        return "The areas under the curves are undefined."
    return (
        f"Areas over the shares of neurons, means over {rows[0]['n']} relations, with "
        f"{range_text(areas['n_controls'])} matched random orders: {'; '.join(parts)}. No difference between "
        "scorers is tested here."
    )


def _undefined(row: Mapping[object, object]) -> str:
    n = row["n_undefined"]
    return f" Undefined in {n}, which lose nothing beyond chance when all neurons are ablated." if n else ""


def _induced(table: pd.DataFrame, ranges: pd.DataFrame) -> str:
    if table.empty:
        return "Nothing was induced: no two relations differ in the first tokens of their objects."
    what = "The log-odds of a relation's first tokens behind other relations' prompts, with its neurons on"
    if untestable(table):
        return estimates(what, table.rename(columns={"induced": "relation"}), "pairs of scorer and relation")
    parts = []
    for scorer, rows in table.groupby("scorer", sort=False):
        shares = ranges[ranges["scorer"] == scorer]
        rises, falls = (int((rows["verdict"] == side).sum()) for side in (RISES, FALLS))
        own, clean, random = (f"{shares[name].mean():.0%}" for name in ("own", "clean", "random"))
        parts.append(
            f"{scorer} {rises} of {len(rows)}, fall in {falls} (mean {rows['effect'].mean():+z.2f}, controls "
            f"{rows['random'].mean():+z.2f} nats; more probable than the asked relation's in {own} of prompts, clean "
            f"{clean}, controls {random})"
        )
    return (
        f"{what}, rise beyond chance and beyond matched random controls in this number of relations: "
        f"{name_list(parts)}; Holm-corrected, n = {range_text(table['n'])} facts and {range_text(table['n_controls'])} "
        f"control sets each.{cannot(table)}"
    )


def _pairs(pairs: pd.DataFrame) -> str:
    if pairs.empty:
        return "There are no pairs of relations."
    what = "By ordered pair of relations the log-odds"
    if untestable(pairs):
        return estimates(what, pairs.rename(columns={"induced": "ablated", "asked": "relation"}), "scorers and pairs")
    parts = []
    for scorer, rows in pairs.groupby("scorer", sort=False):
        rises, falls = (int((rows["verdict"] == side).sum()) for side in (RISES, FALLS))
        parts.append(f"{scorer} rise in {rises} and fall in {falls} of {len(rows)}")
    return f"{what} {name_list(parts)}, Holm-corrected over all.{cannot(pairs)}"


def _stem(stem: pd.DataFrame) -> str:
    if stem.empty:
        return "Behind a sentence that asks for nothing there was nothing to measure."
    parts = [
        f"{scorer} {rows['effect'].mean():+z.2f} (controls {rows['random'].mean():+z.2f})"
        for scorer, rows in stem.groupby("scorer", sort=False)
    ]
    return (
        "Behind a sentence that asks for nothing, the log-odds against all other relations change by, in nats and mean "
        f"over {stem['induced'].nunique()} relations: {name_list(parts)}. This is one sentence, and no test."
    )
