"""What the tables of `methods` show, in sentences; never more than relations and corrected tests do."""

from __future__ import annotations

import pandas as pd

from relation_neurons.results.sentences import untestable
from relation_neurons.statistics.effects import FALLS, LEVEL, NOT_SHOWN
from relation_neurons.statistics.formatting import interval_text, name_list

Sentences = tuple[str, ...]


def scorer_comparison(equal: pd.DataFrame, table: pd.DataFrame, against: pd.DataFrame) -> Sentences:
    """Scorers at equal cost to others, by how specific their neurons are at each k, and against average precision."""
    sentences = [_equal_cost(equal[equal["measure"] == "logprob"])]
    for k, rows in table[table["measure"] == "logprob"].groupby("k"):
        order = rows.sort_values("specific").to_dict("records")
        values = "; ".join(f"{row['scorer']} {interval_text(row, 'specific')}" for row in order)
        sentences.append(
            f"k = {k}: change in log-probability of own minus other facts, in nats, mean over {order[0]['n']} "
            f"relations, most specific first: {values}."
        )
    rows = against[against["measure"] == "logprob"]
    if rows.empty:
        return tuple(sentences)
    if untestable(rows):
        return (
            *sentences,
            f"Against average precision no difference can be shown with {rows['n'].max()} relations and {len(rows)} "
            f"tests: the smallest corrected p is {rows['smallest_p'].max():.2g}.",
        )
    differing = [
        f"{row['scorer']} at k = {row['k']} {'more' if row['verdict'] == FALLS else 'less'} specific, "
        f"{interval_text(row)}"
        for row in rows[rows["verdict"] != NOT_SHOWN].to_dict("records")
    ]
    n_unclear = int((rows["verdict"] == NOT_SHOWN).sum())
    shown = "; ".join(differing) or "none differs"
    return (*sentences, f"Against average precision, Holm-corrected: {shown}; not shown in {n_unclear}.")


def _equal_cost(rows: pd.DataFrame) -> str:
    """Own drops where others' facts have lost the same."""
    parts, first = [], rows.iloc[0]
    for row in rows.sort_values("own").to_dict("records"):
        at_least = "" if row["reached"] else " (others never lose so much; value at the largest k)"
        parts.append(f"{row['scorer']} {interval_text(row, 'own')}{at_least}")
    return (
        f"Change in log-probability of own facts at the k where others' facts have lost {first['cost']:g} nats, mean "
        f"over {first['n']} relations: {'; '.join(parts)}. {_more_than_first(rows)}"
    )


def _more_than_first(rows: pd.DataFrame) -> str:
    """Which scorers take more from own facts than the first one at the same cost, if that can be told."""
    first = rows.iloc[0]
    if 2 / 2 ** first["n"] >= LEVEL:  # the smallest p of a test of signs
        return "So few relations show no difference between scorers."
    if not first["reached"]:
        return f"None is shown to take more than {first['scorer']}, which could take more at that cost."
    better = rows[rows["difference_high"] < 0]
    named = [f"{row['scorer']} {interval_text(row, 'difference')}" for row in better.to_dict("records")]
    return (
        f"More than {first['scorer']}, by 95 % intervals over relations that are not corrected for the number of "
        f"scorers: {name_list(named)}."
    )
