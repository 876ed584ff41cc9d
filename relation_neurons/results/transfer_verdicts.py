"""What the tables on transfer show, in sentences: to other languages, other templates, other kinds of neurons.

One function for each experiment, named as its module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from relation_neurons.results.sentences import by_group, by_measure, without
from relation_neurons.statistics.effects import FALLS
from relation_neurons.statistics.formatting import interval_text, name_list, range_text

Sentences = tuple[str, ...]
REPEATED = "objects that are answers of several facts in both halves"
SAMPLES = {
    "facts": "Two samples of the facts, drawn with replacement ({n} samples), have",
    "templates": "Two single templates have",
    "random parts": "Two random parts as large as those of the templates have",
    "negatives": "Two draws of the negatives ({n} seeds) have",
}
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


def carry_over(
    effects: pd.DataFrame, pooled: pd.DataFrame, shares: pd.DataFrame, other: pd.DataFrame, *, left_out: Sequence[str]
) -> Sentences:
    """Drops on seen and on unseen objects, the share that carries over, and what other relations lose."""
    cell, home = "scorer and objects", effects["tested"].iloc[0]
    here = (table[table["tested"] == home] for table in (effects, pooled))
    named = (table.assign(**{cell: table["scorer"] + ", " + table["objects"]}) for table in here)
    sentences = by_group(cell, *named)
    for what, rows in by_measure(shares[shares["ablated"] == "all"]):
        known = rows.dropna(subset="ratio")
        found = [f"{name} {_ratio(row)}" for name, row in _rows(known, ["scorer", "objects", "tested"])]
        without_drop = list(dict.fromkeys(rows.loc[rows["ratio"].isna(), "scorer"]))
        missing = f" No drop on seen objects, and so no share: {name_list(without_drop)}." if without_drop else ""
        sentences.append(
            f"{what}: the pooled change as a share of that on the same facts under neurons found with their objects, "
            f"in the study's templates: {name_list(found, most=16)}; n = {range_text(rows['n'])} facts. An interval "
            "below 1 says that some of the drop is the objects' (or the templates'), one above 0 that some is not."
            f"{missing}"
        )
    for what, rows in by_measure(other[other["ablated"] == "all"]):
        changed = [f"{name} {interval_text(row)}" for name, row in _rows(rows, ["scorer"])]
        sentences.append(
            f"{what} of other relations' facts under the same neurons, pooled: {name_list(changed, most=16)}; n = "
            f"{range_text(rows['n'])} facts."
        )
    return *sentences[:-1], sentences[-1] + without(REPEATED, left_out)


def stability(table: pd.DataFrame, *, n_samples: int) -> Sentences:
    """How many neurons two samples have in common, by kind of sample and scorer."""
    sentences = []
    for kind, rows in table.groupby("kind", sort=False):
        shares = [
            f"{row['scorer']} {_interval(row, 'coefficient')} (relations shuffled {row['shuffled']:.2f})"
            for row in rows.to_dict("records")
        ]
        sentences.append(
            f"{SAMPLES[str(kind)].format(n=n_samples)} this share of their neurons in common: "
            f"{name_list(shares, most=16)}; by chance {rows['expected'].iloc[0]:.3f}, in the same layers "
            f"{range_text(rows['expected_matched'].map('{:.3f}'.format))}; k = {rows['k'].iloc[0]:,}, n = "
            f"{range_text(rows['n'])} relations."
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


def _rows(table: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, dict[Any, Any]]]:
    """Rows with their names."""
    return [(", ".join(str(row[column]) for column in columns), row) for row in table.to_dict("records")]


def _ratio(row: Mapping[Any, Any]) -> str:
    return _interval(row, "ratio")


def _interval(row: Mapping[Any, Any], name: str) -> str:
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
