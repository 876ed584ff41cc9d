"""Find each relation's neurons, ablate them, and compare recall with matched random controls.

The paper's intra- and inter-relation experiments (sections 5.1 and 5.2, Figures 3 and 4) with intervals and controls
matched by site and layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from relation_neurons.activations.collection import Activations
from relation_neurons.errors import refuse
from relation_neurons.evaluation.recall import Condition, recall_under
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.ranking import rank_neurons
from relation_neurons.prompts.prompts import Prompt, relation_names
from relation_neurons.statistics.intervals import Interval, mean_interval, proportion_interval

CLEAN = "clean"
PART_ROWS = 1000
"""Prompts after which what was measured is kept."""
MEASURES = ("logprob", "correct_prefix", "correct_string")


@dataclass(frozen=True)
class Selection:
    """RelSpec neurons and their controls.

    Attributes:
        targets: For each relation its top-k neurons by average precision.
        controls: For each relation random sets matched to the target by site and layer.
        counts: A row per relation: positives, negatives, the lowest AP that made the cut, the share of all neurons with
            AP 1, and the largest difference from scikit-learn's AP in a random sample.
    """

    targets: Mapping[str, NeuronSet]
    controls: Mapping[str, Sequence[NeuronSet]]
    counts: pd.DataFrame


def select_neurons(activations: Activations, *, k: int, n_controls: int, seed: int) -> Selection:
    """Score every neuron for every relation and take the best (paper, section 3).

    Args:
        activations: Of the detection prompts of at least two relations.
        k: Neurons per relation.
        n_controls: Random sets per relation.
        seed: Chooses negatives and controls.
    """
    ranking = rank_neurons(activations, depth=k, seed=seed)
    if k > len(ranking.space):
        raise refuse(f"k is {k}", expected=f"1 to {len(ranking.space)}, the number of neurons")
    targets = {name: ranking.top(name, k) for name in ranking.best}
    controls = {name: ranking.controls(target, n=n_controls, seed=seed) for name, target in targets.items()}
    counts = ranking.counts
    counts.insert(3, "lowest_ap", [min(targets[name].scores or ()) for name in counts["relation"]])
    return Selection(targets, controls, counts)


def conditions(
    prompts: Sequence[Prompt], targets: Mapping[str, NeuronSet], controls: Mapping[str, Sequence[NeuronSet]]
) -> list[Condition]:
    """Clean and each relation's neurons on all prompts; each relation's controls on its own prompts.

    Raises:
        RelationNeuronsError: A relation whose name is that of another condition.
    """
    for name in targets:
        if name == CLEAN or control_of(name):
            raise refuse(f"A relation is named '{name}', which is a condition's name", do="give it another name")
    everything = tuple(prompts)
    found = [Condition(CLEAN, everything)]
    found += [Condition(name, everything, (Intervention(target),)) for name, target in targets.items()]
    for name, own_controls in controls.items():
        own = tuple(prompt for prompt in prompts if prompt.relation == name)
        found += [Condition(control.name, own, (Intervention(control),)) for control in own_controls]
    return found


def parts(asked: Sequence[Condition]) -> list[list[Condition]]:
    """Conditions in parts of some `PART_ROWS` prompts, each to be measured and kept as a whole."""
    found: list[list[Condition]] = [[]]
    for condition in asked:
        if sum(len(one.prompts) for one in found[-1]) >= PART_ROWS:
            found.append([])
        found[-1].append(condition)
    return found


def measure(
    model: Any,
    asked: Sequence[Condition],
    *,
    keep: Callable[[int, Callable[[], pd.DataFrame]], pd.DataFrame] = lambda number, make: make(),
    **options: Any,
) -> pd.DataFrame:
    """Recall under every condition.

    Args:
        model: A model from `load_model`.
        asked: From `conditions`.
        keep: Called with the number of each of the `parts` and a function that measures it; may return a stored table
            instead.
        options: Passed on to `recall_under`.

    Returns:
        The table of `recall_under` with `kind`, which is `clean`, `own`, `other` or `random`, and `ablated`, the
        relation whose neurons (or whose controls) were ablated.
    """
    tables = [keep(number, partial(recall_under, model, part, **options)) for number, part in enumerate(parts(asked))]
    return _labelled(pd.concat(tables, ignore_index=True))


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """Change of each prompt against the clean model.

    Returns:
        The rows of `table` that are not clean, with `d_<measure>` for each measure: the value minus the clean value
        of the same prompt (nats for `d_logprob`, shares for the others).
    """
    keys = ["relation", "subject", "object", "template"]
    clean = table[table["kind"] == CLEAN].set_index(keys)[list(MEASURES)].astype(float)
    changed = table[table["kind"] != CLEAN].copy()
    before = clean.loc[pd.MultiIndex.from_frame(changed[keys])].to_numpy()
    changed[[f"d_{measure}" for measure in MEASURES]] = changed[list(MEASURES)].to_numpy(dtype=float) - before
    return changed.reset_index(drop=True)


def summarise(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """One row per relation and measure: clean value and changes, each with n and a 95 % interval over facts.

    Args:
        table: From `measure`.
        seed: Of the resampling.

    Returns:
        Columns `relation`, `measure`, and `<part>_mean`, `_low`, `_high`, `_n` for the parts `clean`; `own`, the
        relation's neurons on its facts; `other`, its neurons on the other relations' facts; `random`, its controls on
        its facts, averaged over control sets for each fact; and `own_minus_random`, paired by fact.
    """
    changed = effects(table)
    clean = table[table["kind"] == CLEAN]
    rows = []
    for relation in clean["relation"].unique():
        kinds = dict(list(changed[changed["ablated"] == relation].groupby("kind")))
        for name in MEASURES:
            parts = {"clean": _clean_interval(clean[clean["relation"] == relation], name, seed)}
            parts |= _change_intervals(kinds, f"d_{name}", seed)
            row: dict[str, object] = {"relation": relation, "measure": name}
            for part, interval in parts.items():
                row |= {f"{part}_{field}": value for field, value in interval._asdict().items()}
            rows.append(row)
    return pd.DataFrame(rows)


def verdict(summary: pd.DataFrame, measure: str = "logprob") -> dict[str, list[str]]:
    """Relations by where the interval of own minus random lies: `below` zero, `above` it or `across`."""
    chosen = summary[summary["measure"] == measure]
    sides: dict[str, list[str]] = {"below": [], "across": [], "above": []}
    for row in chosen.to_dict("records"):
        interval = Interval(*(row[f"own_minus_random_{field}"] for field in Interval._fields))
        sides[interval.side].append(str(row["relation"]))
    return sides


def effect_matrix(table: pd.DataFrame, measure: str = "logprob") -> pd.DataFrame:
    """Mean change for every pair: row, whose neurons are ablated; column, whose facts are asked (Figure 4)."""
    changed = effects(table)
    changed = changed[changed["kind"].isin(["own", "other"])]
    order = list(table["relation"].unique())
    return changed.pivot_table(index="ablated", columns="relation", values=f"d_{measure}").loc[order, order]


def keep_right(prompts: Sequence[Prompt], answers: pd.DataFrame, rule: str, *, at_least: int) -> tuple[Prompt, ...]:
    """The detection prompts that the model answers rightly (the paper's validation, section 3).

    Args:
        prompts: Detection prompts.
        answers: Their clean recall table, in the same order.
        rule: `prefix` or `string`.
        at_least: Fewest prompts a relation needs.

    Raises:
        RelationNeuronsError: A relation keeps too few.
    """
    kept = tuple(prompt for prompt, right in zip(prompts, answers[f"correct_{rule}"], strict=True) if right)
    short = {}
    for name in relation_names(prompts):
        n_kept = sum(prompt.relation == name for prompt in kept)
        if n_kept < at_least:
            short[name] = n_kept
    if short:
        raise refuse(
            "The model answers too few detection prompts: " + ", ".join(f"{name} {n}" for name, n in short.items()),
            expected=f"at least {at_least} right by the rule '{rule}' for each relation",
            do="leave these relations out, or run with validation 'none'",
        )
    return kept


def control_of(condition: str) -> str | None:
    """The relation whose control a condition ablates, none for other conditions."""
    match = re.fullmatch(r"(.+) random \d+", condition)
    return match[1] if match else None


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Say of each row what was ablated and how that relates to what was asked."""
    condition = table["condition"]
    control = condition.map(control_of)
    ablated = control.fillna(condition).where(condition != CLEAN, "")
    kind = np.select(
        [condition == CLEAN, control.notna(), table["relation"] == ablated], [CLEAN, "random", "own"], "other"
    )
    table = table.copy()
    table.insert(1, "kind", kind)
    table.insert(2, "ablated", ablated)
    return table


def _clean_interval(rows: pd.DataFrame, name: str, seed: int) -> Interval:
    if name == "logprob":
        return mean_interval(rows[name].to_numpy(), list(rows["subject"]), seed=seed)
    return proportion_interval(rows[name].to_numpy())


def _change_intervals(kinds: Mapping[str, pd.DataFrame], column: str, seed: int) -> dict[str, Interval]:
    """Intervals of one column for own, other, random, and own minus random."""
    found = {
        kind: mean_interval(rows[column].to_numpy(), list(rows["relation"] + "\x1f" + rows["subject"]), seed=seed)
        for kind, rows in kinds.items()
    }
    own, random = (kinds[kind].groupby("subject")[column].mean() for kind in ("own", "random"))
    found["own_minus_random"] = mean_interval((own - random).to_numpy(), seed=seed)
    return found
