"""What the tests of cumulativity and interference show, in sentences that say first what they can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from relation_neurons.results.sentences import cannot, untestable
from relation_neurons.statistics.effects import CANNOT_BE_SHOWN, FALLS, RISES
from relation_neurons.statistics.formatting import interval_text, name_list, range_text

Sentences = tuple[str, ...]
SCALES = {"logprob": "log-probability", "log_odds": "log-odds"}


def reach(rows: pd.DataFrame) -> str:
    """What a family of tests can show, as the beginning of a sentence."""
    size = f"n = {range_text(rows['n'])} facts and {range_text(rows['n_controls'])} control sets"
    least = float(rows["smallest_p"].max())
    return f"{size} (smallest p {least:.2g}{', so that nothing can be shown' if untestable(rows) else ''})"


def dose_response(trend: pd.DataFrame, pooled: pd.DataFrame) -> Sentences:
    """Whether own facts fall more steeply with the number of neurons than under nested random sets."""
    rows = trend[trend["measure"] == "logprob"]
    (row,) = pooled[pooled["measure"] == "logprob"].to_dict("records")
    steeper = int((rows["difference"] < 0).sum())
    return (
        f"Over all {len(rows)} relations together, {_of_all(row)}: log-probability of own facts changes by "
        f"{interval_text(row)} nats for each tenfold of k, under nested random sets by {row['random']:+z.2f}; the "
        f"difference on the same facts is {interval_text(row, 'difference')} (relations and facts resampled): "
        f"{row['verdict']}. The slope is steeper than "
        f"under random sets in {steeper} of {len(rows)} relations.",
    )


def synergy(table: pd.DataFrame, pooled: pd.DataFrame) -> Sentences:
    """What the whole set does beyond the sum of its parts, on either scale and for either way of splitting."""
    sentences = []
    for scale, what in SCALES.items():
        parts = []
        for row in pooled[pooled["measure"] == scale].to_dict("records"):
            rows = table[(table["measure"] == scale) & (table["split"] == row["split"])]
            falls = list(rows.loc[rows["verdict"] == FALLS, "ablated"])
            each = "" if untestable(rows) else f", shown alone in {len(falls)} of {len(rows)} ({name_list(falls)})"
            share = "" if pd.isna(row["ratio"]) else f", {row['ratio']:.0%} of the whole effect"
            parts.append(
                f"{row['split']} {interval_text(row)}{share}, {interval_text(row, 'difference')} beyond random sets "
                f"({row['verdict']} over all relations{each})"
            )
        rows = table[table["measure"] == scale]
        sentences.append(
            f"Synergy in {what}, with {reach(rows)} for each relation: whole minus the sum of disjoint parts, in nats, "
            f"below 0 where the whole does more: {'; '.join(parts)}."
        )
    return (
        *sentences,
        "In log-odds contributions to logits add up; synergy in log-probability alone is that of the threshold which "
        "an answer crosses.",
    )


def gains(table: pd.DataFrame, gained: pd.DataFrame, mechanism: pd.DataFrame) -> Sentences:
    """Facts that improve under another relation's ablation, and whether the ablated set promoted a rival."""
    if table.empty:
        return ()
    shown = table[table["verdict"] == RISES].sort_values("gain", ascending=False)
    strongest = table.sort_values("gain", ascending=False).to_dict("records")[0]
    testable = int((table["verdict"] != CANNOT_BE_SHOWN).sum())
    n_bh = int(((table["p_bh"] < 0.05) & (table["gain"] > 0)).sum())
    named = name_list([f"{_pair(row)} {interval_text(row, 'gain')}" for row in shown.to_dict("records")], most=5)
    found = (
        f"shown in {len(shown)} of {testable} (max-T; {n_bh} after Benjamini and Hochberg's correction): {named}"
        if testable
        else "estimates only"
    )
    first = (
        f"Gains of {len(table)} pairs in one direction, with {reach(table)} each: {found}.{cannot(table)} The largest "
        f"is {_pair(strongest)} {interval_text(strongest, 'gain')} nats beyond random sets, "
        f"{strongest['turned_right']} of {strongest['n']} facts turned right."
    )
    return (first, *_mechanism(mechanism), *_examples(gained))


def _examples(gained: pd.DataFrame) -> Sentences:
    rows = gained.sort_values("gain", ascending=False).head(3).to_dict("records")
    texts = []
    for row in rows:
        before, after = (str(row[f"answer_{when}"]).strip() for when in ("before", "after"))
        words = f"'{before}' stayed" if before == after else f"'{before}' became '{after}'"
        place = f"{row['subject']} ({row['relation']}, without {row['ablated']})"
        texts.append(f"{place}: {words} ({row['gain']:+z.1f} nats for '{row['object']}')")
    return (f"Facts that gained most: {'; '.join(texts)}.",) if texts else ()


def _mechanism(mechanism: pd.DataFrame) -> Sentences:
    several = mechanism[mechanism["n"] > 1]  # one fact has no interval
    if several.empty:
        return ()
    promoting = int((several["contribution_high"] < 0).sum())
    row = several.sort_values("contribution").iloc[0].to_dict()
    return (
        f"Directly, the ablated sets write against the right object and for its strongest rival (interval below 0) in "
        f"{promoting} of the {len(several)} pairs with several listed facts. Most: {_pair(row)} "
        f"{interval_text(row, 'contribution')} logits, random sets {row['random']:+z.2f}, n = {row['n']} facts. These "
        "facts were chosen for their gain, so that this describes them and tests nothing.",
    )


def _pair(row: Mapping[Any, Any]) -> str:
    return f"{row['ablated']} -> {row['relation']}"


def _of_all(row: Mapping[Any, Any]) -> str:
    beyond = ", so that nothing can be shown" if row["verdict"] == CANNOT_BE_SHOWN else ""
    return (
        f"n = {row['n']} facts and {row['n_controls']} control sets of each relation (smallest p "
        f"{row['smallest_p']:.2g}{beyond})"
    )
