"""The claims of the paper, each with what reads its estimate from a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from relation_neurons.results.claim_estimates import NAN, Estimate
from relation_neurons.results.claim_readings import (
    concepts_shared,
    falls_with_k,
    frequent_facts,
    improves_under_others,
    in_other_languages,
    in_other_templates,
    kind_of_neurons,
    kinds_of_errors,
    language_model,
    layers_in_the_middle,
    micro_cumulativity,
    newly_wrong,
    one_way,
    others_hold,
    overlap_of,
    own_facts,
    random_neurons,
    shared_serve_both,
    synergy,
    transfer,
)
from relation_neurons.results.run import Run


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

    @property
    def largest(self) -> float:
        """The largest effect that there can be: of shares of a whole, and of accuracy, 1."""
        return 1.0 if self.unit.startswith(("accuracy", "share")) else float("inf")


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
