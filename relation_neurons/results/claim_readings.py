"""How the estimate of each claim of the paper is read from the tables of experiments."""

from __future__ import annotations

from typing import Any

import numpy as np

from relation_neurons.results.claim_estimates import (
    NAN,
    Estimate,
    NotMeasuredError,
    at_least,
    at_most,
    interval_of,
    neurons_per_relation,
    of_effect,
    only,
    over_relations,
    share,
    table,
    within,
)
from relation_neurons.results.run import Run
from relation_neurons.statistics.effects import FALLS, RISES
from relation_neurons.statistics.intervals import mean_interval, share_of_drop
from relation_neurons.statistics.power import LEVEL

SMALL = 0.25
"""At most this share of what own neurons cost own facts counts as hardly any change."""
HALF = 0.5
"""Neurons of a kind resemble the paper's where they take more than this share of the drop, and do little below it."""
NATS_PER_TOKEN = 0.05
"""A change of a perplexity by about 5 % counts as hardly any."""
REPORTED_ERRORS = ("repeats the prompt", "the", "a")


def layers_in_the_middle(run: Run) -> Estimate:
    """Share of neurons in the middle third, less that under shuffled labels."""
    rows = table(run, "layers", "thirds", measure="middle")
    return over_relations(rows["observed"] - rows["null_mean"], 1)


def overlap_of(run: Run, first: str, second: str) -> Estimate:
    """Share of the k neurons that two relations have in common."""
    rows, k = table(run, "overlap", "pairs"), neurons_per_relation(run)
    either = rows[rows["first"].isin([first, second]) & rows["second"].isin([first, second])]
    if either.empty:
        raise NotMeasuredError(f"overlap has no rows of {first} and {second}")
    if "least_apart" not in either:
        raise NotMeasuredError("reproduce overlap: its table is of an older version")
    row = either.iloc[0]
    least = row["least_apart"] / k
    return Estimate(
        share(int(row["count"]), k),
        "neurons",
        1 if row["p"] < LEVEL else 0,
        row["expected"] / k,
        row["p"],
        np.inf if np.isnan(least) else least,
        tested=row["count_apart"] / k,
    )


def own_facts(run: Run, measure: str) -> Estimate:
    """The pooled change of own facts."""
    return of_effect(only(run, "intra", "pooled", facts="evaluation", measure=measure), -1)


def random_neurons(run: Run, measure: str) -> Estimate:
    """The change of own facts under matched random neurons, against a share of the drop under own ones."""
    row = only(run, "intra", "pooled", facts="evaluation", measure=measure)
    answers = table(run, "intra", "answers", facts="evaluation")
    by_fact = answers[answers["draw"] >= 0].groupby(["relation", "unit"])[f"d_{measure}"].mean().to_numpy()
    return within(mean_interval(by_fact), SMALL * abs(row["effect"]), "facts")


def falls_with_k(run: Run, measure: str) -> Estimate:
    """Slope of own facts over the logarithm of k, pooled over relations."""
    return of_effect(only(run, "sweep", "pooled_trend", measure=measure), -1)


def others_hold(run: Run, measure: str) -> Estimate:
    """The change of others' facts at the study's k, against a share of the drop of own facts there."""
    k = neurons_per_relation(run)
    own, others = (table(run, "sweep", name, measure=measure) for name in ("effects", "others"))
    nearest = min(others["k"].unique(), key=lambda one: abs(np.log(one / k)))
    own, others = (rows[rows["k"] == nearest] for rows in (own, others))
    return within(mean_interval(others["effect"].to_numpy(dtype=float)), SMALL * abs(own["effect"].mean()), "relations")


def micro_cumulativity(run: Run) -> Estimate:
    """One minus the share of lost facts that are lost to the added neurons alone, over all steps of k."""
    row = only(run, "cumulativity", "steps", relation="all", k=0)
    if not row["total"]:
        raise NotMeasuredError("no answer turned wrong")
    row |= {"cumulativity_low": row["low"], "cumulativity_high": row["high"]}
    return at_least(interval_of(row, "cumulativity"), 0.0, "facts")


def pair(run: Run, ablated: str, asked: str, measure: str) -> dict[str, Any]:
    """The effect of one relation's neurons on another, of the pairs tested by name or of all pairs."""
    experiment = "pairs" if "pairs/effects" in run.tables else "inter"
    return only(run, experiment, "effects", ablated=ablated, relation=asked, measure=measure)


def transfer(run: Run, ablated: str, asked: str, measure: str, sign: int) -> Estimate:
    """The change of one relation's facts under another's neurons."""
    return of_effect(pair(run, ablated, asked, measure), sign)


def one_way(run: Run, ablated: str, asked: str, measure: str) -> Estimate:
    """That the reverse of a transfer hardly changes the facts, against a share of the forward drop."""
    there, back = pair(run, ablated, asked, measure), pair(run, asked, ablated, measure)
    return within(interval_of(back), SMALL * abs(there["effect"]), "facts", random=back["random"])


def improves_under_others(run: Run, asked: str, measure: str) -> Estimate:
    """The share of other relations under whose ablated neurons a relation improves, tested by its mean change."""
    rows = table(run, "inter", "effects", relation=asked, measure=measure)
    changes = over_relations(rows["effect"] - rows["random"], 1)
    return Estimate(share(int((rows["effect"] > 0).sum()), len(rows)), "other relations", changes.side, p=changes.p)


def in_other_languages(run: Run, measure: str) -> Estimate:
    """The change in languages other than the relation's own, less that under random neurons, relation by relation."""
    rows = table(run, "languages", "effects", measure=measure)
    means = (
        rows[rows["language"] != rows["own_language"]].groupby("ablated", sort=False)[["difference", "random"]].mean()
    )
    return over_relations(means["difference"], -1, random=float(means["random"].mean()))


def in_other_templates(run: Run, measure: str) -> Estimate:
    """The pooled change in the second template set, of neurons found with the first."""
    return of_effect(only(run, "templates", "pooled", detected="main", tested="zs", measure=measure), -1)


def concepts_shared(run: Run) -> Estimate:
    """Share of neurons in common with the concept of a relation's subjects, less that with other concepts."""
    row = only(run, "concepts", "summary", measure="excess")
    side = int(np.sign(row["difference"])) if row["p"] < LEVEL else 0
    return Estimate(interval_of(row, "difference"), "relations", side, p=row["p"])


def language_model(run: Run) -> Estimate:
    """The change of neutral sentences, in nats per token, as the mean over relations."""
    rows = table(run, "perplexity", "perplexity")
    changes = mean_interval(rows["effect"].to_numpy(dtype=float))
    return within(changes, NATS_PER_TOKEN, "relations", random=float(rows["random_effect"].mean()))


def frequent_facts(run: Run) -> Estimate:
    """How many more documents name facts that survive than facts that are lost, relative to the latter."""
    rows = table(run, "frequency", "frequency")
    return over_relations(rows["relative_difference"], 1)


def kind_of_neurons(run: Run, site: str, *, much: bool) -> Estimate:
    """The drop under one kind of neurons as a share of that under the MLP's, over relations."""
    rows = table(run, "neuron-types", "effects", measure="logprob")
    wide = rows.pivot_table(index="ablated", columns="site", values="effect")
    if not {site, "ffn"} <= {*wide.columns}:
        raise NotMeasuredError(f"site {site} or ffn was not asked")
    ratio = share_of_drop(wide[site].to_numpy(), wide["ffn"].to_numpy())
    if np.isnan(ratio.mean):
        raise NotMeasuredError("ffn neurons cost own facts nothing")
    return at_least(ratio, HALF, "relations") if much else at_most(ratio, HALF, "relations")


def kinds_of_errors(run: Run) -> Estimate:
    """The share of newly wrong answers that repeat the prompt or begin with an article."""
    rows = table(run, "errors", "newly_wrong", state="own")
    return at_least(share(int(rows["kind"].isin(REPORTED_ERRORS).sum()), len(rows)), HALF, "answers")


def newly_wrong(run: Run) -> Estimate:
    """Answers that turn wrong, as a share of those that were right, less that under random neurons."""
    rows = table(run, "errors", "counts")
    wide = rows.pivot_table(index="relation", columns="state", values="share", sort=False)
    both = over_relations(wide["own"] - wide["random"], 1, random=float(wide["random"].mean()))
    own = rows[rows["state"] == "own"]
    counted = share(int(own["newly_wrong"].sum()), int(own["right_before"].sum()))
    return Estimate(counted, "answers", both.side, both.random, both.p, both.least)


def synergy(run: Run) -> Estimate:
    """What the neurons do together beyond the sum of what disjoint parts, alike in rank, do alone."""
    row = only(run, "cumulativity", "pooled_synergy", split="interleaved", measure="log_odds")
    return of_effect(row, -1)


def shared_serve_both(run: Run) -> Estimate:
    """What neurons that two relations share take from each, less what as many of the other's own take there."""
    rows = table(run, "sharing", "differences", neurons="shared", measure="logprob")
    side = int((rows["verdict"] == FALLS).any()) - int((rows["verdict"] == RISES).any())
    interval = mean_interval(rows["effect"].to_numpy(dtype=float))
    least = float(rows["minimum_effect"].median())
    return Estimate(interval, "relations in pairs", side, float(rows["random"].mean()), NAN, least)
