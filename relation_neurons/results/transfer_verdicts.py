"""What the tables on transfer show, in sentences: to other languages, other templates, other kinds of neurons.

One function for each experiment, named as its module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from relation_neurons.results.sentences import by_group, by_measure, without
from relation_neurons.statistics.effects import FALLS
from relation_neurons.statistics.formatting import name_list

Sentences = tuple[str, ...]
TEMPLATE_SETS = {"main": "zs", "zs": "main"}


def languages(
    effects: pd.DataFrame, by_language: pd.DataFrame, transfer: pd.DataFrame, left_out: Mapping[str, Sequence[str]]
) -> Sentences:
    """Falls by language; `left_out` are the languages in which each relation has no translation."""
    sentences = by_group("language", effects, by_language)
    ratios = transfer.loc[transfer["measure"] == "logprob", "ratio"]
    known = ratios.dropna()
    median = f", with a median of {known.median():.2f}" if len(known) else ""
    return (
        *sentences,
        "The change elsewhere as a share of that in the relation's own language, in nats, is defined in "
        f"{len(known)} of {len(ratios)} pairs of relation and language, where the interval of the latter lies below "
        f"zero{median}.{_untranslated(left_out)}",
    )


def no_translation(left_out: Mapping[str, Sequence[str]]) -> str:
    """The only sentence of `languages` where no relation has any translation."""
    return f"Nothing was tested.{_untranslated(left_out)}"


def templates(
    effects: pd.DataFrame,
    pooled: pd.DataFrame,
    crossing: pd.DataFrame,
    overlap: pd.DataFrame,
    *,
    left_out: Sequence[str],
) -> Sentences:
    """Drops within and across template sets."""
    sets = "template set (found with -> tested with)"
    named = (table.assign(**{sets: table["detected"] + " -> " + table["tested"]}) for table in (effects, pooled))
    sentences = [crossed_templates(effects), *by_group(sets, *named)]
    for what, rows in by_measure(crossing[crossing["ablated"] == "all"].dropna(subset="ratio")):
        kept = [f"{row['tested']} {_ratio(row)}" for row in rows.to_dict("records")]
        sentences.append(
            f"{what}: the pooled change under neurons found with the other template set, as a share of that under "
            f"neurons found with the tested set, where the interval of the latter lies below zero: {name_list(kept)}."
        )
    coefficient, chance = overlap["coefficient"], (overlap["expected"] / overlap["k"]).median()
    sentences.append(
        f"The two sets of neurons share {coefficient.median():.0%} (median over relations, {coefficient.min():.0%} to "
        f"{coefficient.max():.0%}; by chance {chance:.1%}).{without('a second template set', left_out)}"
    )
    return tuple(sentences)


def crossed_templates(effects: pd.DataFrame) -> str:
    """In how many relations a drop that is shown with one template set is shown with the other as well."""
    parts = []
    for what, rows in by_measure(effects):
        falls = rows.loc[rows["verdict"] == FALLS, ["ablated", "detected", "tested"]]
        cells = set(falls.itertuples(index=False, name=None))
        same = [(name, detected) for name, detected, tested in cells if detected == tested]
        kept = [cell for cell in same if (*cell, TEMPLATE_SETS[cell[1]]) in cells]
        parts.append(f"{what[0].lower()}{what[1:]} {len(kept)} of {len(same)}")
    return (
        "Drops shown with neurons found and tested with one template set that are also shown when tested with the "
        f"other (pairs of relation and set): {', '.join(parts)}."
    )


def neuron_types(effects: pd.DataFrame, pooled: pd.DataFrame, left_out: Sequence[str]) -> Sentences:
    """Falls by site; `left_out` are the sites that the model does not have."""
    sentences = by_group("site", effects, pooled.sort_values("effect", kind="stable"))
    missing = [f"Left out, since the model does not have them: {name_list(left_out)}."] if left_out else []
    return (*sentences, *missing)


def _untranslated(left_out: Mapping[str, Sequence[str]]) -> str:
    return without("a translation", [f"{name} ({', '.join(codes)})" for name, codes in left_out.items()], "; ")


def _ratio(row: Mapping[Any, Any]) -> str:
    return f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
