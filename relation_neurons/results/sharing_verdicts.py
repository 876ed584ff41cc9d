"""What the tables on shared neurons show, in sentences.

One function for each experiment, named as its module.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from relation_neurons.results.sentences import by_measure, cannot
from relation_neurons.statistics.effects import ABOVE, CANNOT_BE_SHOWN, FALLS, LEVEL
from relation_neurons.statistics.formatting import interval_text, name_list, range_text

Sentences = tuple[str, ...]
KINDS = {"shared": "shared neurons", "its own": "a relation's own neurons"}
TOO_FEW = "With two relations there is no third to tell them from: nothing is said of what they share."


def overlap(pairs: pd.DataFrame, triples: pd.DataFrame, *, k: int) -> Sentences:
    """How many pairs share more neurons than chance, what the paper's negatives make of it, and groups of three."""
    return shared_pairs(pairs, k), shared_as_negatives(pairs), shared_by_three(triples)


def shared_pairs(pairs: pd.DataFrame, k: int) -> str:
    """How many pairs of relations share more neurons than matched random sets."""
    above = pairs[pairs["verdict"] == ABOVE]
    largest = [
        f"{row['first']} and {row['second']} {row['count']} ({row['share']:.0%}; expected {row['expected']:.1f}, 95 % "
        f"range {row['low']} to {row['high']}; {row['verdict']})"
        for row in pairs.sort_values("count", ascending=False, kind="stable").head(3).to_dict("records")
    ]
    counted = f"{len(above)} of {len(pairs)} pairs of relations share more of their {k} neurons than chance"
    if (pairs["verdict"] == CANNOT_BE_SHOWN).all():
        counted = f"Whether {len(pairs)} pairs share more of their {k} neurons than chance cannot be shown: "
        counted += "four relations are needed"
    return (
        f"{counted}, each told from the other relations, without negatives in common (exact null by site and layer, "
        f"widened for correlated neurons, Holm-corrected). Largest overlaps: {name_list(largest)}."
    )


def shared_as_negatives(pairs: pd.DataFrame) -> str:
    """What the pairs share where each is among the other's negatives."""
    return (
        f"Told from all relations but the other of the pair, a pair shares {pairs['count'].mean():.1f} neurons in the "
        f"mean (expected {pairs['expected'].mean():.1f}); with each among the other's negatives, as in the paper, "
        f"{pairs['count_as_negatives'].mean():.1f} (expected {pairs['expected_as_negatives'].mean():.1f}), where "
        f"what both have in common counts against both."
    )


def shared_by_three(triples: pd.DataFrame) -> str:
    """How many neurons three relations share."""
    if triples.empty:
        return "There are no three relations of which every pair shares more than chance."
    largest = [
        f"{row['relations']} {row['count']} (expected {row['expected']:.2f})"
        for row in triples.sort_values("count", ascending=False, kind="stable").head(3).to_dict("records")
    ]
    above = int((triples["p_holm"] < LEVEL).sum())
    return (
        f"Of {len(triples)} groups of three relations whose pairs all share more than chance, {above} have more "
        f"neurons in common than three independent random sets (Holm-corrected). Largest: {name_list(largest)}."
    )


def sharing(tables: Mapping[str, pd.DataFrame], *, n_above: int) -> Sentences:
    """Whether shared neurons harm both relations of a pair, and those of one relation only that one.

    Args:
        tables: Of the experiment.
        n_above: Pairs that share more neurons than chance.
    """
    differences, sets = tables["differences"], tables["sets"]
    if differences.empty:
        if not n_above:
            return ("No pair shares more neurons than chance, so that nothing was ablated.",)
        return (f"None of the {n_above} pairs above chance has enough neurons both shared and not shared to ablate.",)
    sentences = [
        f"Ablated are {range_text(sets['n_ablated'])} neurons of each kind in {len(sets)} of {n_above} pairs that "
        "share more neurons than chance."
    ]
    for what, rows in by_measure(differences):
        for kind, part in rows.groupby("neurons", sort=False):
            falls = part[part["verdict"] == FALLS].sort_values("effect")
            named = [f"{row['facts']} {interval_text(row)}" for row in falls.to_dict("records")]
            sentences.append(
                f"{what} falls more under {KINDS[str(kind)]} than under "
                f"those that only the other relation has on the facts of {len(falls)} of {len(part)} relations and "
                f"pairs ({name_list(named)}), beyond the same difference of matched random controls, Holm-corrected, n "
                f"= {range_text(part['n'])} facts and {range_text(part['n_controls'])} control sets each."
                f"{cannot(part)}"
            )
    both = served_by_shared(differences)
    return (*sentences, f"By log-probability both relations are harmed more by what they share in: {name_list(both)}.")


def served_by_shared(differences: pd.DataFrame) -> list[str]:
    """The pairs of which both relations lose log-probability under shared neurons beyond the other's, corrected."""
    if differences.empty:
        return []
    rows = differences[(differences["measure"] == "logprob") & (differences["neurons"] == "shared")]
    groups = rows.groupby(["first", "second"], sort=False)["verdict"]
    return [" and ".join(map(str, pair)) for pair, found in groups if (found == FALLS).all()]
