"""Neurons that relations share, each pair told from the other relations (paper, Figures 2 and 18).

In the paper the prompts of a relation are among the negatives of every other, so that a neuron which serves both of a
pair scores low for both. Here the relations of a pair are left out of each other's negatives; the paper's count stands
beside it. Two sets that are both told from the same relations overlap more than random ones even where relations are
labels without a meaning. So the test counts neurons of contrasts that have no negatives in common (`kept_apart`).

Neurons are correlated, which makes overlaps vary more than those of random sets. By how much is read off overlaps that
are chance in the direction that is tested: of the neurons that are highest on one relation and those that are lowest
on the other. See docs/decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.experiments.contrast_sets import Sets, contrast_sets
from relation_neurons.experiments.study import Study
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.pairwise import kept_apart, leaving_out
from relation_neurons.neurons.random_overlap import LEAST_P, against_matched, matched_overlap, moments
from relation_neurons.prompts.contrast import Contrast
from relation_neurons.results import sharing_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.clustering import average_linkage
from relation_neurons.statistics.effects import ABOVE, CANNOT_BE_SHOWN, LEVEL, NOT_SHOWN
from relation_neurons.statistics.hypothesis_tests import adjust
from relation_neurons.statistics.overdispersion import dispersed_tail, dispersion
from relation_neurons.validation import validated

QUESTION = "Do relations share more of their neurons than random sets in the same layers?"
MOST_TRIPLES = 30
MOST_LISTED = 50
"""Shared neurons of a group that are listed, the best ones."""
RELATIONS_NEEDED = 4
"""So that each relation of a pair has negatives of its own."""
Pair = tuple[str, str]


@validated
@dataclass(frozen=True)
class OverlapConfig:
    """Count the neurons that relations share, and compare with random sets of the same layers."""


def overlap(study: Study, config: OverlapConfig = OverlapConfig()) -> ExperimentResult:
    """The overlap of every pair of relations, by pairwise contrasts and as in the paper, and of groups of three.

    Returns:
        Tables `pairs`, from `pair_table`; `triples`, from `triple_table`; `shared`, from `shared_neurons`, of every
        pair and of these groups; and `tree`, from `average_linkage` of the pairs' shares. All are empty for two
        relations, which have no others to be told from.
    """
    if len(study.names) < 3:
        empty = {name: pd.DataFrame() for name in ("pairs", "triples", "shared", "tree")}
        return ExperimentResult("overlap", QUESTION, empty, (sharing_verdicts.TOO_FEW,))
    pairs = pair_table(study)
    triples, sets = triple_table(study, pairs)
    shared = shared_neurons(pair_sets(study, list(combinations(study.names, 2))) | sets)
    tables = {"pairs": pairs, "triples": triples, "shared": shared, "tree": average_linkage(pairs)}
    return ExperimentResult("overlap", QUESTION, tables, sharing_verdicts.overlap(pairs, triples, k=study.k))


def pair_table(study: Study) -> pd.DataFrame:
    """A row per pair of relations.

    Returns:
        Columns `first`, `second`; `count`, the neurons in common of the k best of each, by contrasts with all other
        relations; `share`, count / k; `expected`, `low` and `high` of random sets with as many in each site and layer
        (mean and 95 % range, exact); `count_as_negatives` and `expected_as_negatives`, the same where each is among
        the other's negatives, as in the paper; `common_subjects`, the subjects that both have in their detection
        prompts. The test: `count_apart` and `expected_apart`, of contrasts without negatives in common; `least_apart`,
        the smallest such count whose p is below 5 %, NaN if none is; `dispersion`, from `chance_dispersion`; `p`,
        P(X >= count_apart), from `tail_of_each_count`; `p_holm` and `p_bh`, corrected over all pairs; `verdict`: `above
        chance`, `not shown`, or `cannot be shown` with fewer than four relations, where p is NaN.
    """
    space, names = study.ranking().space, study.names
    pairs = list(combinations(names, 2))
    whole, rows = pair_sets(study, pairs), []
    subjects = {name: {one.columns["unit"] for one in study.detection() if one.relation == name} for name in names}
    for a, b in pairs:
        first, second = whole[a, b]
        count = first.overlap(second)
        row = {"first": a, "second": b, "count": count, "share": count / study.k}
        row |= against_matched(count, [first, second], space)
        as_negatives = [study.target(name) for name in (a, b)]
        row["count_as_negatives"] = as_negatives[0].overlap(as_negatives[1])
        row["expected_as_negatives"] = moments(matched_overlap(as_negatives, space))[0]
        rows.append(row | {"common_subjects": len(subjects[a] & subjects[b])})
    table = pd.DataFrame(rows).drop(columns="p")
    return pd.concat([table, _tested(study, pairs, space)], axis=1)


def pair_sets(study: Study, pairs: Sequence[Pair]) -> dict[tuple[str, ...], list[NeuronSet]]:
    """The neurons of both relations of each pair, told from all relations but these two."""
    if not pairs:
        return {}
    contrasts = {pair: leaving_out(study.names, pair) for pair in combinations(study.names, 2)}
    found = contrast_sets(study, [one for pair in contrasts.values() for one in pair])
    return {pair: [found[one] for one in contrasts[pair]] for pair in pairs}


def _tested(study: Study, pairs: Sequence[Pair], space: NeuronSpace) -> pd.DataFrame:
    """The columns of the test; see `pair_table`."""
    columns = ["count_apart", "expected_apart", "least_apart", "dispersion", "p", "p_holm", "p_bh"]
    if len(study.names) < RELATIONS_NEEDED:
        return pd.DataFrame(np.nan, index=range(len(pairs)), columns=columns).assign(verdict=CANNOT_BE_SHOWN)
    contrasts = [kept_apart(study.names, pair, seed=study.config.seed) for pair in pairs]
    wanted = [one for pair in contrasts for one in pair]
    highest, lowest = contrast_sets(study, wanted), contrast_sets(study, wanted, lowest=True)
    factor = chance_dispersion(contrasts, highest, lowest, space)
    rows = []
    for first, second in ((highest[one], highest[other]) for one, other in contrasts):
        count, matched = first.overlap(second), matched_overlap([first, second], space)
        tails = tail_of_each_count(matched, factor, most=study.k)
        shown = np.flatnonzero(tails < LEVEL)
        least = shown[0] if shown.size else np.nan
        rows.append((count, moments(matched)[0], least, factor, tails[count]))
    table = pd.DataFrame(rows, columns=columns[:5])
    uncorrected = table["p"].to_numpy()
    table["p_holm"], table["p_bh"] = (adjust(uncorrected, method) for method in ("holm", "benjamini-hochberg"))
    return table.assign(verdict=np.where(table["p_holm"] < LEVEL, ABOVE, NOT_SHOWN))


def tail_of_each_count(matched: Float[ndarray, " common"], factor: float, *, most: int) -> Float[ndarray, " count"]:
    """P(X >= count) of each count from 0: the larger of the exact one and that of a negative binomial.

    Args:
        matched: Distribution of the overlap of random sets, from `matched_overlap`.
        factor: How many times its variance the negative binomial has.
        most: The largest count.
    """
    mean, variance = moments(matched)
    exact = np.zeros(most + 1)
    exact[: len(matched)] = matched[::-1].cumsum()[::-1]
    counts = np.arange(most + 1)
    wide = dispersed_tail(counts, np.full(most + 1, mean), np.full(most + 1, factor * variance))
    return np.maximum(exact, wide).clip(LEAST_P, 1.0)


def chance_dispersion(
    contrasts: Sequence[tuple[Contrast, ...]], highest: Sets, lowest: Sets, space: NeuronSpace
) -> float:
    """How much more overlaps vary than those of random sets, from those of one relation's highest and one's lowest.

    If two relations have nothing to do with each other, the second's lowest neurons are to the first's highest what its
    highest are. Its lowest are also high on its negatives: where these are related to the first, the factor comes out
    too large, and the test has less power, the more so the fewer negatives there are.

    Args:
        contrasts: Of each pair, without negatives in common.
        highest: The best neurons of each contrast.
        lowest: Of the negated values.
        space: All neurons.
    """
    opposed = [
        one
        for first, second in contrasts
        for one in ((highest[first], lowest[second]), (lowest[first], highest[second]))
    ]
    expected = np.array([moments(matched_overlap(pair, space)) for pair in opposed])
    return dispersion(np.array([a.overlap(b) for a, b in opposed]), *expected.T)


def pairs_above(pairs: pd.DataFrame) -> list[Pair]:
    """The pairs that share more than chance, those with the largest share first."""
    above = pairs[pairs["verdict"] == ABOVE].sort_values("share", ascending=False, kind="stable")
    return list(zip(above["first"], above["second"], strict=True))


def triple_table(study: Study, pairs: pd.DataFrame) -> tuple[pd.DataFrame, dict[tuple[str, ...], list[NeuronSet]]]:
    """Neurons that three relations share, by contrasts that leave all three out of the negatives.

    Taken are relations of which every pair shares more than chance: the 30 with the largest least share of a pair. A
    fourth relation must be left.

    Returns:
        A row per group: `relations`, `count`, `share`, count / k, `expected`, `low`, `high` of three independent random
        sets with as many in each site and layer (exact), and `p` and `p_holm` against these; and the three sets of
        each. That three pairs share neurons makes it likely that all three do: the p-value says that there are such
        neurons, not that there are more than the pairs bring about.
    """
    columns = ["relations", "count", "share", "expected", "low", "high", "p", "p_holm"]
    above = pairs[pairs["verdict"] == ABOVE]
    shares = dict(zip(zip(above["first"], above["second"], strict=True), above["share"], strict=True))
    groups: list[tuple[str, ...]] = [
        group
        for group in combinations(study.names, 3)
        if len(study.names) > len(group) and all(pair in shares for pair in combinations(group, 2))
    ]
    groups.sort(key=lambda group: -min(shares[pair] for pair in combinations(group, 2)))
    contrasts = {group: leaving_out(study.names, group) for group in groups[:MOST_TRIPLES]}
    found = contrast_sets(study, [one for group in contrasts.values() for one in group])
    sets = {group: [found[one] for one in part] for group, part in contrasts.items()}
    rows = []
    for group, three in sets.items():
        count = len(set.intersection(*(set(one) for one in three)))
        row = {"relations": ", ".join(group), "count": count, "share": count / study.k}
        rows.append(row | against_matched(count, three, study.ranking().space))
    table = pd.DataFrame(rows, columns=columns[:-1])
    return table.assign(p_holm=adjust(table["p"].to_numpy(dtype=float), "holm")), sets


def shared_neurons(groups: dict[tuple[str, ...], list[NeuronSet]], most: int = MOST_LISTED) -> pd.DataFrame:
    """The neurons that all relations of a group have, the best first: by the worst of their ranks.

    Args:
        groups: The set of each relation of a group.
        most: Neurons listed of each group.

    Returns:
        Columns `relations`, `n_relations`, `site`, `layer`, `index` and `ranks`, one for each relation, from 1.
    """
    rows = []
    for names, sets in groups.items():
        ranks = [{neuron: rank for rank, neuron in enumerate(one, 1)} for one in sets]
        common = [(neuron, [of[neuron] for of in ranks]) for neuron in sets[0] if all(neuron in of for of in ranks)]
        common.sort(key=lambda one: max(one[1]))
        rows += [
            (", ".join(names), len(names), *neuron, ", ".join(map(str, places))) for neuron, places in common[:most]
        ]
    return pd.DataFrame(rows, columns=["relations", "n_relations", "site", "layer", "index", "ranks"])
