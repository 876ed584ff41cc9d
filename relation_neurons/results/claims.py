"""The claims of the paper, and how each is read from the tables of experiments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from relation_neurons.statistics.effects import FALLS, RISES, share_of_drop
from relation_neurons.statistics.intervals import mean_interval
from relation_neurons.statistics.power import LEVEL

SMALL = 0.25
"""At most this share of what own neurons cost own facts counts as hardly any change."""
HALF = 0.5
"""Neurons of a kind resemble the paper's where they take more than this share of the drop, and do little below it."""
NATS_PER_TOKEN = 0.05
"""A change of a perplexity by about 5 % counts as hardly any."""
REPORTED_ERRORS = ("repeats the prompt", "the", "a")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: Short name, by which scorecards of several models are joined.
        place: Where the paper makes it.
        says: The claim in a sentence.
        unit: What the number is and in which unit.
        read: Reads the estimate from a run.
        paper: What the paper reports for Llama-2-7B, as text; empty where its text gives no number.
        value: The same as a number, where ours can be compared with it.
    """

    name: str
    place: str
    says: str
    unit: str
    read: Callable[[Run], Estimate]
    paper: str = ""
    value: float = NAN


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
    row = either.iloc[0]
    least, side = (row["high"] + 1) / k, 1 if row["p"] < LEVEL else 0
    return Estimate(share(int(row["count"]), k), "neurons", side, row["expected"] / k, row["p"], least)


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


NAMED = (
    ("person_pro_sport", "person_sport_position", -1),
    ("person_father", "person_mother", -1),
    ("star_constellation", "landmark_continent", -1),
    ("company_ceo", "company_hq", 1),
)
"""Pairs that the paper names: the relation whose neurons are ablated, the one that is asked, and the sign."""
ONE_WAY = ("person_pro_sport", "person_sport_position")
"""The pair of which it says that the reverse does nothing."""
NAMED_PAIRS = (*(f"{ablated}->{asked}" for ablated, asked, _ in NAMED), "->".join(reversed(ONE_WAY)))
"""All pairs that its claims are about."""


def _pair_claims() -> list[Claim]:
    """The transfers and gains that the paper names."""
    return [
        Claim(
            f"{ablated} -> {asked}",
            "Figure 4",
            f"Ablating {ablated} {'lowers' if sign < 0 else 'raises'} {asked}.",
            unit,
            partial(transfer, ablated=ablated, asked=asked, measure=measure, sign=sign),
        )
        for ablated, asked, sign in NAMED
        for measure, unit in MEASURED.items()
    ]


MEASURED = {"correct": "accuracy", "logprob": "nats"}


def _in_both(name: str, place: str, says: str, read: Callable[..., Estimate]) -> list[Claim]:
    """A claim in accuracy, as the paper has it, and in nats, which smaller effects move."""
    return [Claim(name, place, says, unit, partial(read, measure=measure)) for measure, unit in MEASURED.items()]


def _overlap(first: str, second: str, count: int) -> Claim:
    says = f"{first} and {second} share more neurons than chance."
    read = partial(overlap_of, first=first, second=second)
    paper = f"{count:,} of 3,000 ({count / 3000:.0%})"
    return Claim(f"{first} and {second}", "Figure 2", says, "share of k", read, paper, count / 3000)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "layers",
        "Figure 1",
        "The neurons are mostly in middle layers.",
        "share in the middle third, less shuffled labels",
        layers_in_the_middle,
    ),
    _overlap("person_father", "person_mother", 2053),
    _overlap("person_occupation", "person_sport_position", 297),
    *_in_both("own facts", "Figure 3", "Ablating a relation's neurons lowers its own facts.", own_facts),
    *_in_both("random neurons", "Figure 3", "Random neurons leave them about unchanged.", random_neurons),
    *_in_both("k sweep, own", "Figure 5", "Own facts fall steadily with k.", falls_with_k),
    *_in_both("k sweep, others", "Figure 5", "Others hold until k = 3,000 to 10,000.", others_hold),
    Claim(
        "cumulativity",
        "Table 3",
        "Facts that a larger k loses are not all lost to the added neurons alone.",
        "micro cumulativity, all steps",
        micro_cumulativity,
        ".29 to .85 by step of k",
    ),
    Claim(
        "synergy",
        "Section 5.3",
        "The neurons do more together than their parts do alone.",
        "log-odds beyond the sum of four parts",
        synergy,
    ),
    Claim(
        "shared neurons",
        "Section 5.2",
        "Neurons that two relations share serve both.",
        "nats, less the other's own neurons",
        shared_serve_both,
    ),
    *_pair_claims(),
    *_in_both(
        "person_sport_position -> person_pro_sport",
        "Figure 4",
        "Ablating person_sport_position does not lower person_pro_sport in return.",
        partial(one_way, ablated=ONE_WAY[0], asked=ONE_WAY[1]),
    ),
    *(
        Claim(
            "person_mother under others",
            "Section 5.2",
            "person_mother improves under the neurons of other relations.",
            f"share of relations, {unit}",
            partial(improves_under_others, asked="person_mother", measure=measure),
            "5 of 11",
        )
        for measure, unit in MEASURED.items()
    ),
    *_in_both("languages", "Figure 7", "The neurons matter in other languages as well.", in_other_languages),
    *_in_both("templates", "Figure 8", "The drop holds in a second set of templates.", in_other_templates),
    Claim(
        "concepts",
        "Figure 9",
        "A relation shares neurons with the concept of its subjects.",
        "share of k beyond chance, own less other concepts",
        concepts_shared,
    ),
    Claim(
        "perplexity",
        "Table 2",
        "Neutral sentences hardly change.",
        "nats per token",
        language_model,
        "79.09 to 80.77 (+0.02)",
    ),
    Claim(
        "frequency",
        "Figure 23",
        "Facts that survive are more frequent in the corpus.",
        "relative difference in documents",
        frequent_facts,
        "p = 0.11 (7B), 0.03 (13B)",
    ),
    Claim(
        "gate neurons",
        "Figures 24 to 29",
        "Gate neurons alone do as much as the MLP's.",
        "share of the drop in nats",
        partial(kind_of_neurons, site="gate", much=True),
    ),
    Claim(
        "all neurons",
        "Figures 24 to 29",
        "All neurons, attention's included, do as much as the MLP's.",
        "share of the drop in nats",
        partial(kind_of_neurons, site="all", much=True),
    ),
    Claim(
        "up neurons",
        "Figures 24 to 29",
        "Up neurons alone do little.",
        "share of the drop in nats",
        partial(kind_of_neurons, site="up", much=False),
    ),
    Claim(
        "kinds of errors",
        "Table 4",
        "Newly wrong answers repeat the prompt or begin with an article.",
        "share of newly wrong answers",
        kinds_of_errors,
    ),
    Claim(
        "newly wrong",
        "Tables 4 to 7",
        "Answers that were right turn wrong.",
        "share of right answers",
        newly_wrong,
        "10 to 43 prompts a relation",
    ),
)
