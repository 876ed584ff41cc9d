"""Parts of sentences that several verdicts share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from relation_neurons.models.sites import Neuron
from relation_neurons.statistics.effects import CANNOT_BE_SHOWN, FALLS, RISES, WHAT
from relation_neurons.statistics.formatting import interval_text, name_list, range_text
from relation_neurons.statistics.power import Design


def without(what: str, names: Sequence[str], separator: str = ", ") -> str:
    """A sentence to append on what was left out for lack of something; empty if nothing was."""
    return f" Without {what} and left out: {separator.join(names)}." if names else ""


def critical(table: pd.DataFrame, site: str, *, kept: bool) -> str:
    """Which neurons of a site are critical, what ablating each alone costs, and whether targets and controls have them.

    Args:
        table: From `critical_neurons`.
        site: Where neurons are.
        kept: Whether critical neurons may be in targets and control sets.
    """
    rows = table.to_dict("records")
    if not rows:
        return (
            f"No neuron of {site} is critical: none that was screened breaks the model's language when ablated alone."
        )
    costs = [f"{Neuron(row['site'], row['layer'], row['index'])} {row['increase']:.1f}" for row in rows]
    many = "neuron of {} is" if len(rows) == 1 else "neurons of {} are"
    may = "may be in targets and control sets" if kept else "in no target and no control set"
    return (
        f"{len(rows)} {many.format(site)} critical ({may}). Nats per token that ablating each alone costs on neutral "
        f"sentences: {name_list(costs)}."
    )


def critical_cost(table: pd.DataFrame, neuron: Neuron) -> tuple[str, ...]:
    """That a neuron is critical, if it is; `table` is from `critical_neurons`."""
    own = table[(table["site"] == neuron.site) & (table["layer"] == neuron.layer) & (table["index"] == neuron.index)]
    return tuple(
        f"{neuron} is critical: ablating it alone costs {increase:.1f} nats per token on neutral sentences."
        for increase in own["increase"]
    )


def by_measure(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each measure that the table has, with what to call it."""
    for measure, what in WHAT.items():
        rows = table[table["measure"] == measure]
        if len(rows):
            yield what, rows


def falls_and_rises(what: str, rows: pd.DataFrame) -> str:
    """In how many relations a measure falls and rises by the corrected tests."""
    if untestable(rows):
        return estimates(what, rows, "relations")
    falls, rises = (list(rows.loc[rows["verdict"] == side, "ablated"]) for side in (FALLS, RISES))
    return (
        f"{what} falls beyond chance and beyond matched random controls in {len(falls)} of {len(rows)} relations "
        f"({name_list(falls)}) and rises in {len(rises)} ({name_list(rises)}), Holm-corrected, n = "
        f"{range_text(rows['n'])} facts and {range_text(rows['n_controls'])} control sets each.{cannot(rows)}"
    )


def missed(rows: pd.DataFrame) -> str:
    """A sentence to append on the effect that is shown with 80 % power; empty if none can be."""
    least = float(rows["minimum_effect"].median())
    return f" Effects below {least:.2f} (median) would be missed." if np.isfinite(least) else ""


def untestable(rows: pd.DataFrame) -> bool:
    """Whether no row can have a verdict, so that there is nothing to count."""
    return bool((rows["verdict"] == CANNOT_BE_SHOWN).all())


def estimates(what: str, rows: pd.DataFrame, groups: str) -> str:
    """What a table without any verdict holds: estimates, and what verdicts would need."""
    largest = rows.iloc[int(rows["effect"].abs().argmax())].to_dict()
    name = " -> ".join(str(largest[column]) for column in ("ablated", "relation") if column in largest)
    lower, higher = int((rows["effect"] < 0).sum()), int((rows["effect"] > 0).sum())
    return (
        f"{what}: estimates without verdicts.{cannot(rows)} It is lower in {lower} and higher in {higher} of "
        f"{len(rows)} {groups}; the largest change is {name} {interval_text(largest)}, n = {largest['n']} facts."
    )


def cannot(rows: pd.DataFrame) -> str:
    """That some groups cannot have a verdict, and what they would need, as a sentence to append."""
    without_verdict = rows[rows["verdict"] == CANNOT_BE_SHOWN]
    if without_verdict.empty:
        return ""
    size = without_verdict.sort_values("smallest_p").iloc[-1]
    design = Design(len(rows), int(size["n"]), int(size["n_controls"]))
    return (
        f" In {len(without_verdict)} of {len(rows)} no effect can be shown with {design.n_facts} facts and "
        f"{design.n_controls} control sets: {design.needs} are needed."
    )


def by_group(column: str, effects: pd.DataFrame, pooled: pd.DataFrame) -> list[str]:
    """For each measure, in how many relations it falls by a column, and the effect pooled over relations."""
    sentences = []
    for what, all_rows in by_measure(effects):
        parts = []
        for row in pooled[pooled["measure"] == all_rows["measure"].iloc[0]].to_dict("records"):
            rows = all_rows[all_rows[column] == row[column]]
            falls, rises = (int((rows["verdict"] == side).sum()) for side in (FALLS, RISES))
            size = f"k = {row['k']:,}; " if "k" in row else ""
            counted = "" if untestable(all_rows) else f" {falls} of {len(rows)}{f', rises in {rises}' if rises else ''}"
            parts.append(
                f"{row[column]}{counted} ({size}pooled {interval_text(row)}, controls {row['random']:+z.2f}, "
                f"{row['verdict']})"
            )
        if untestable(all_rows):
            sentences.append(
                f"{what}, by {column}: estimates without verdicts for single relations.{cannot(all_rows)} "
                f"All together: {name_list(parts, most=12)}."
            )
            continue
        sentences.append(
            f"{what} falls beyond chance and beyond matched random controls, by {column}, in this number of relations: "
            f"{name_list(parts, most=12)}; n = {range_text(all_rows['n'])} facts and "
            f"{range_text(all_rows['n_controls'])} control sets a relation, Holm-corrected over all.{cannot(all_rows)}"
        )
    return sentences
