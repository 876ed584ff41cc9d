"""Neurons that relations share, against random sets (paper, Figures 2 and 18).

Relations whose neurons sit in the same layers share some of them for that reason alone. Two nulls are given: sets drawn
from all neurons, and sets with as many neurons in each site and layer as these have. Both are exact. The prompts of a
relation are among the negatives of the others, which by itself keeps their neurons apart, the more so the fewer
other relations: a large overlap is stronger evidence than a small one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import stats

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.study import Study
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.results import neuron_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import ABOVE, LEVEL, NOT_SHOWN
from relation_neurons.statistics.hypothesis_tests import adjust
from relation_neurons.validation import validated

QUESTION = "Do relations share more of their neurons than random sets in the same layers?"
SEVERAL = 3
"""Relations among whose best a neuron must be to be listed as shared."""


@validated
@dataclass(frozen=True)
class OverlapConfig:
    """Count the neurons that relations share, and compare with random sets of the same layers."""

    n_permutations_multiplicity: int = 200
    """Random draws of all sets, for how many neurons are in exactly this number of sets."""

    def __post_init__(self) -> None:
        require_at_least(self, n_permutations_multiplicity=1)


def overlap(study: Study, config: OverlapConfig = OverlapConfig()) -> ExperimentResult:
    """The paper's overlap between relations, every pair tested against two nulls.

    Returns:
        Tables `pairs`, from `overlap_table` by `first` and `second`; `multiplicity`, from the function of that name;
        and `shared`, from `shared_neurons`.
    """
    targets = {name: study.target(name) for name in study.names}
    space = study.ranking().space
    pairs = overlap_table(
        [({"first": a, "second": b}, targets[a], targets[b]) for a, b in combinations(study.names, 2)], space
    )
    drawn = multiplicity(targets, space, n=config.n_permutations_multiplicity, seed=study.config.seed)
    tables = {"pairs": pairs, "multiplicity": drawn, "shared": shared_neurons(targets)}
    n_draws = config.n_permutations_multiplicity
    sentences = neuron_verdicts.overlap(pairs, drawn, k=study.k, several=SEVERAL, n_draws=n_draws)
    return ExperimentResult("overlap", QUESTION, tables, sentences)


def overlap_table(
    pairs: Iterable[tuple[Mapping[str, object], NeuronSet, NeuronSet]], space: NeuronSpace
) -> pd.DataFrame:
    """How many neurons two sets share, beside what random sets would, a row per pair.

    Args:
        pairs: Labels of the row, and the two sets.
        space: All neurons.

    Returns:
        The labels; `count`; `jaccard`, count / neurons in either; `coefficient`, count / size of the smaller set;
        `expected_uniform` and `p_uniform`, P(X >= count) for sets drawn from all neurons; `expected`, the 95 % range
        `low` to `high` and `p`, the same for sets with as many neurons in each site and layer, exactly; `p_holm`,
        `p_bh`, `p_uniform_holm`, `p_uniform_bh`, corrected over all rows; `verdict` at 5 % by `p_holm`: `above chance`
        or `not shown`.
    """
    table = pd.DataFrame([dict(labels) | _overlap(first, second, space) for labels, first, second in pairs])
    for name in ("p", "p_uniform"):
        p = table[name].to_numpy(dtype=float)
        table[f"{name}_holm"], table[f"{name}_bh"] = adjust(p, "holm"), adjust(p, "benjamini-hochberg")
    table["verdict"] = np.where(table["p_holm"] < LEVEL, ABOVE, NOT_SHOWN)
    return table


def matched_overlap(first: NeuronSet, second: NeuronSet, space: NeuronSpace) -> Float[ndarray, " count"]:
    """Probability of each overlap of random sets with as many neurons in each site and layer as these have.

    In each site and layer the overlap is hypergeometric, and the places are independent, so that their distributions
    convolve. This gives tail probabilities far below what random draws can: Holm's correction over 120 pairs needs
    p < 0.0004, and 9,999 draws give no p below 0.0001.
    """
    there, also = ({place: len(indices) for place, indices in one.by_place().items()} for one in (first, second))
    widths = dict(space.widths)
    places = sorted(there.keys() & also.keys())
    found = np.ones(1)
    if not places:
        return found
    sizes = np.array([(widths[place[0]], there[place], also[place]) for place in places])
    most = sizes[:, 1:].min(axis=1)
    here = stats.hypergeom.pmf(np.arange(most.max() + 1), *(column[:, None] for column in sizes.T))
    for last, probabilities in zip(most, here, strict=True):
        found = np.convolve(found, probabilities[: last + 1])
    return found


def _overlap(first: NeuronSet, second: NeuronSet, space: NeuronSpace) -> dict[str, float | int]:
    shared = first.overlap(second)
    uniform = stats.hypergeom(len(space), len(first), len(second))
    matched = matched_overlap(first, second, space)
    low, high = np.searchsorted(matched.cumsum(), [0.025, 0.975])
    least = float(np.finfo(float).tiny)  # where the tail is too small for a float
    return {
        "count": shared,
        "jaccard": shared / (len(first) + len(second) - shared),
        "coefficient": shared / min(len(first), len(second)),
        "expected_uniform": float(uniform.mean()),
        "p_uniform": max(float(uniform.sf(shared - 1)), least),
        "expected": float(matched @ np.arange(len(matched))),
        "low": int(low),
        "high": int(high),
        "p": min(max(float(matched[shared:].sum()), least), 1.0),
    }


def shared_neurons(targets: Mapping[str, NeuronSet], least: int = SEVERAL) -> pd.DataFrame:
    """The neurons that are in at least this number of sets, those in most sets first.

    Returns:
        Columns `site`, `layer`, `index`, `n_relations`, `relations` and the `ranks` in them, from 1, both as text.
    """
    rows = pd.concat([target.to_frame() for target in targets.values()], ignore_index=True)
    rows["rank"] = rows["rank"].astype(str)
    grouped = rows.groupby(["site", "layer", "index"], sort=True)
    found = grouped.agg(n_relations=("name", "size"), relations=("name", ", ".join), ranks=("rank", ", ".join))
    found = found[found["n_relations"] >= least].reset_index()
    return found.sort_values("n_relations", ascending=False, kind="stable", ignore_index=True)


def multiplicity(targets: Mapping[str, NeuronSet], space: NeuronSpace, *, n: int, seed: int = 0) -> pd.DataFrame:
    """How many neurons are in exactly m sets, and in random sets with as many in each site and layer.

    Args:
        targets: The sets.
        space: All neurons.
        n: Random draws of all sets.
        seed: Of the draws.

    Returns:
        A row per m from 1: `n_relations`, `count`, and of the draws `expected`, their mean, `low` and `high`, their
        95 % range; the same for m or more as `at_least`, `at_least_expected`, `at_least_low`, `at_least_high`, with
        `p` = (1 + draws with as many) / (1 + draws).
    """
    places = [(site, layer) for site, layer, _ in space.slices()]
    widths = np.array([dict(space.widths)[site] for site, _ in places])
    held = [one.by_place() for one in targets.values()]
    counts = np.array([[len(one.get(place, ())) for place in places] for one in held])
    drawn = _draw_multiplicities(counts, widths, n, np.random.default_rng(seed))[:, 1:]
    sets_of = pd.Series([neuron for target in targets.values() for neuron in target]).value_counts()
    observed = np.bincount(sets_of.to_numpy(), minlength=len(targets) + 1)[1:]
    table = pd.DataFrame({"n_relations": np.arange(1, len(targets) + 1)})
    at_least, drawn_at_least = observed[::-1].cumsum()[::-1], drawn[:, ::-1].cumsum(axis=1)[:, ::-1]
    for name, prefix, own, random in (
        ("count", "", observed, drawn),
        ("at_least", "at_least_", at_least, drawn_at_least),
    ):
        table[name], table[f"{prefix}expected"] = own, random.mean(axis=0)
        table[f"{prefix}low"], table[f"{prefix}high"] = np.quantile(random, [0.025, 0.975], axis=0)
    return table.assign(p=(1 + (drawn_at_least >= at_least).sum(axis=0)) / (1 + n))


def _draw_multiplicities(
    counts: Int[ndarray, "set place"], widths: Int[ndarray, " place"], n: int, generator: np.random.Generator
) -> Int[ndarray, "draw multiplicity"]:
    """Neurons in exactly 0, 1, ... of random sets, drawn without drawing the neurons themselves.

    A further set takes its neurons of a place from those that are in 0, 1, ... sets so far: a multivariate
    hypergeometric draw, made class by class.
    """
    classes = np.zeros((len(counts) + 1, n, len(widths)), dtype=np.int64)
    classes[0] = widths
    for number, taken in enumerate(counts):
        left, others = np.tile(taken, (n, 1)), np.tile(widths, (n, 1))
        moved = np.zeros_like(classes)
        for group in range(number + 1):
            others = others - classes[group]
            moved[group] = generator.hypergeometric(classes[group], others, left)
            left = left - moved[group]
        classes -= moved
        classes[1:] += moved[:-1]
    return classes.sum(axis=2).T
