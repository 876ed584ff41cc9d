"""What the tables of ablation experiments show, in sentences; never more than their corrected tests do.

One function for each experiment, named as its module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from relation_neurons.evaluation.answers import ERROR_KINDS, RULES
from relation_neurons.results.sentences import (
    by_measure,
    cannot,
    estimates,
    falls_and_rises,
    missed,
    untestable,
    without,
)
from relation_neurons.statistics.effects import FALLS, LEVEL, RISES
from relation_neurons.statistics.formatting import interval_text, name_list, range_text

Sentences = tuple[str, ...]
UNITS = {"correct": "share right", "logprob": "nats"}


def intra(effects: pd.DataFrame, over_all: pd.DataFrame) -> Sentences:
    """Own facts under own neurons; `over_all` is pooled over relations."""
    sentences = [over_relations(over_all[over_all["facts"] == "evaluation"])]
    for what, rows in by_measure(effects[effects["facts"] == "evaluation"]):
        strongest = rows[rows["verdict"] == FALLS].sort_values("effect").head(1).to_dict("records")
        example = "".join(
            f" Strongest: {row['ablated']} {interval_text(row)}, controls {row['random']:+z.2f}." for row in strongest
        )
        sentences.append(falls_and_rises(what, rows) + example + missed(rows))
    return tuple(sentences)


def over_relations(rows: pd.DataFrame) -> str:
    """The effect of each measure, pooled over relations, with its verdict."""
    parts = []
    for what, group in by_measure(rows):
        for row in group.to_dict("records"):
            controls = "no controls" if np.isnan(row["random"]) else f"controls {row['random']:+z.2f}"
            p = "" if np.isnan(row["p_holm"]) else f"p = {row['p_holm']:.2g}, "
            effect = f"{what[0].lower()}{what[1:]} {interval_text(row)}, {controls}"
            parts.append(f"{effect}, {row['verdict']} ({p}n = {row['n']} facts)")
    return f"All relations together: {'; '.join(parts)}."


def inter(effects: pd.DataFrame, over_all: pd.DataFrame, flips: pd.DataFrame) -> Sentences:
    """Other relations' facts: where they fall, where they rise; `over_all` is pooled over pairs."""
    falls, rises = [over_relations(over_all)], []
    for what, rows in by_measure(effects):
        if untestable(rows):
            falls.append(estimates(f"{what} of another relation", rows, "pairs"))
            continue
        down, up = (rows[rows["verdict"] == side].sort_values("effect") for side in (FALLS, RISES))
        n_higher, n_bh = int((rows["effect"] > 0).sum()), int(((rows["p_bh"] < LEVEL) & (rows["effect"] > 0)).sum())
        falls.append(
            f"{what} of another relation falls beyond chance and beyond matched random controls in {len(down)} of "
            f"{len(rows)} pairs, Holm-corrected: {_pairs(down)}.{cannot(rows)}{missed(rows)}"
        )
        rises.append(
            f"{what} of another relation is higher under ablation in {n_higher} of {len(rows)} pairs, beyond chance "
            f"and beyond matched random controls in {len(up)} after Holm's correction and in {n_bh} after Benjamini "
            f"and Hochberg's: {_pairs(up[::-1])}."
        )
    counts = flips["flip"].value_counts()
    rises.append(f"Over all pairs {counts.get('lost', 0)} answers were lost and {counts.get('gained', 0)} gained.")
    return " ".join(falls), " ".join(rises)


def k_sweep(effects: pd.DataFrame, trend: pd.DataFrame, others: pd.DataFrame) -> Sentences:
    """Whether own facts fall with k, and what other facts do meanwhile."""
    sentences = []
    for what, rows in by_measure(trend):
        if untestable(rows):
            sentences.append(estimates(f"{what} of own facts, by tenfold of k", rows, "relations"))
            continue
        falls = rows[rows["verdict"] == FALLS].sort_values("effect")
        steepest = rows.sort_values("effect").to_dict("records")[0]
        sentences.append(
            f"{what} of own facts falls with k, more than under nested random sets, in {len(falls)} of {len(rows)} "
            f"relations ({name_list(list(falls['ablated']))}; Holm-corrected). Steepest: {steepest['ablated']} "
            f"{interval_text(steepest)} {UNITS[steepest['measure']]} for each tenfold of k, controls "
            f"{steepest['random']:+z.2f}, n = {steepest['n']} facts.{cannot(rows)}"
        )
    mean = pd.concat([effects.assign(facts="own"), others.assign(facts="other")])
    mean = mean[mean["measure"] == "logprob"].groupby(["k", "facts"])["effect"].mean().unstack("facts")
    by_k = "; ".join(f"k = {k}: {row['own']:+z.2f}, {row['other']:+z.2f}" for k, row in mean.iterrows())
    return (*sentences, f"Mean change in log-probability of own and of other facts over relations, in nats: {by_k}.")


def cumulativity(steps: pd.DataFrame, slices: pd.DataFrame, facts: pd.DataFrame) -> Sentences:
    """Table 3, slices of the ranking, and facts that return."""
    slices = slices[slices["measure"] == "logprob"]
    falls = slices[slices["verdict"] == FALLS]
    n_slices = falls.groupby("ablated")["slice"].nunique()
    several = list(n_slices.index[n_slices > 1])
    lost, returned = facts["lost_at"].notna().sum(), (facts["back"] > 0).sum()
    return (
        _steps(steps[steps["relation"] == "all"]),
        f"More than one of the disjoint slices of the ranking lowers the log-probability on its own in "
        f"{len(several)} of {slices['ablated'].nunique()} relations ({name_list(several)}).{cannot(slices)}",
        f"Over the sweep {lost} prompts were lost at some k; {returned} of them turned right again at a larger k.",
    )


def perplexity(table: pd.DataFrame, left_out: Sequence[str] = ()) -> Sentences:
    """Perplexity of neutral sentences before and after; a rise is damage."""
    damage, gain = (table[table["verdict"] == side] for side in (RISES, FALLS))
    up, down = int((table["own"] > table["clean"]).sum()), int((table["own"] < table["clean"]).sum())
    worst = damage.sort_values("effect", ascending=False).head(1).to_dict("records")
    example = "".join(f" Worst: {row['ablated']} {interval_text(row, decimals=3)} nats per token." for row in worst)
    return (
        f"The perplexity of neutral sentences is {_geometric(table['clean']):.2f} in the clean model, "
        f"{_geometric(table['own']):.2f} with the relation's neurons ablated and {_geometric(table['random']):.2f} "
        f"with random ones (geometric means over {len(table)} relations). It is higher in {up} and lower in {down} "
        f"relations with their own neurons ablated, and higher in {int((table['random'] > table['clean']).sum())} "
        "with random ones.",
        f"Damage, a rise beyond chance over sentences and beyond matched random controls, is shown in {len(damage)} "
        f"of {len(table)} relations ({name_list(list(damage['ablated']))}), improvement in {len(gain)} "
        f"({name_list(list(gain['ablated']))}), Holm-corrected, n = {range_text(table['n'])} sentences and "
        f"{range_text(table['n_controls'])} control sets each.{example}{cannot(table)}"
        f"{without('neutral sentences', left_out)}",
    )


def frequency(table: pd.DataFrame, tests: pd.DataFrame, facts: pd.DataFrame) -> Sentences:
    """Co-occurrence counts of facts that stay right against those that are lost."""
    if table.empty:
        return ("No fact that was right has a count, so there is nothing to compare.",)
    own = tests[tests["draw"] == -1].to_dict("records")[0]
    random = tests[(tests["draw"] >= 0) & tests["p"].notna()]
    return (
        f"{int(facts['resilient'].sum())} facts stay right and {int((~facts['resilient']).sum())} are lost. Over "
        f"{own['n']} relations with both, resilient facts occur in {own['median_relative_difference']:+z.0%} documents "
        f"relative to sensitive ones (median); Wilcoxon's signed-rank p = {own['p']:.2f}.",
        f"Of {len(random)} control sets, {int((random['p'] <= own['p']).sum())} divide the facts as unevenly "
        "(p as low).",
    )


def confounds(selections: pd.DataFrame, controls: pd.DataFrame, impossible: Mapping[str, str]) -> Sentences:
    """Whether drops depend on how neurons were detected and controls matched."""
    sentences = []
    for column, label, table in (
        ("selection", "Log-probability by method of detection", selections),
        ("match", "Log-probability by what controls are matched by", controls),
    ):
        parts = []
        for value, rows in table[table["measure"] == "logprob"].groupby(column, sort=False):
            shared = f", {rows['shared'].mean():.0%} of the configured neurons" if "shared" in rows else ""
            parts.append(
                f"{value}: falls in {(rows['verdict'] == FALLS).sum()} of {len(rows)}, mean "
                f"{rows['effect'].mean():+z.2f}, controls {rows['random'].mean():+z.2f} nats{shared}"
            )
        sentences.append(f"{label} (Holm-corrected over all of them): {'; '.join(parts)}.")
    if impossible:
        sentences.append(f"Not possible here: {name_list([f'{way} ({why})' for way, why in impossible.items()])}.")
    return tuple(sentences)


def error_analysis(counts: pd.DataFrame, wrong: pd.DataFrame, rule: str) -> Sentences:
    """What the model answers instead; counts only, since one control set shows no spread."""
    own, random = (counts[counts["state"] == state] for state in ("own", "random"))
    pairs = zip(own["relation"], own["newly_wrong"], random["newly_wrong"], strict=True)
    each = [f"{name} {lost} against {lost_at_random}" for name, lost, lost_at_random in pairs]
    first = (
        f"Of {own['right_before'].sum()} answers that were right (rule {rule}: {RULES[rule].meaning}), "
        f"{own['newly_wrong'].sum()} are wrong with the relation's own neurons ablated and "
        f"{random['newly_wrong'].sum()} with one matched random set: {name_list(each, most=16)}. "
        f"{own['newly_right'].sum()} and {random['newly_right'].sum()} that were wrong are right. These are counts of "
        "prompts under one control set; the experiment intra tests whether more is lost than by chance."
    )
    kinds = wrong.loc[wrong["state"] == "own", "kind"].value_counts()
    if kinds.empty:
        return first, "With the relation's own neurons ablated no answer became wrong, so there is no kind of error."
    named = [f"'{kind}' {count}" for kind, count in kinds.items()]
    also = f" '{ERROR_KINDS[0]}' are right by the rule alias, though not by {rule}." if ERROR_KINDS[0] in kinds else ""
    return first, f"The newly wrong answers are, by kind, most frequent first: {name_list(named)}.{also}"


def _geometric(perplexities: pd.Series) -> float:
    """The mean of log-perplexities, as a perplexity: a single broken model does not rule it."""
    return float(np.exp(np.log(perplexities).mean()))


def _pairs(rows: pd.DataFrame) -> str:
    pairs = [f"{row['ablated']} -> {row['relation']} {interval_text(row)}" for row in rows.to_dict("records")]
    return name_list(pairs, most=5)


def _steps(steps: pd.DataFrame) -> str:
    *single, every = steps.sort_values("k").to_dict("records")[1:] + steps[steps["k"] == 0].to_dict("records")
    if not every["total"]:
        return "No right answer turned wrong at any k, so Table 3 is empty."
    by_step = [
        f"{row['k_small']} to {row['k']}: {row['cumulativity']:.2f} of {row['total']}" for row in single if row["total"]
    ]
    return (
        f"Of {every['total']} answers that a larger k turned wrong, {every['affected']} are also wrong with only the "
        f"added neurons ablated: cumulativity {every['cumulativity']:.2f} [{every['low']:.2f}, {every['high']:.2f}] "
        f"(micro, n = {every['n']} facts), macro {every['macro']:.2f}. By step: {'; '.join(by_step)}."
    )
