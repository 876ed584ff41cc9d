"""Dose and response: own and other facts as more and more neurons are ablated (paper, Figures 5, 14, 15, 20 to 22)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from relation_neurons.errors import TooFewNeuronsError, refuse, require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.results import property_verdicts, verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import MEASURES, compare
from relation_neurons.statistics.pooled_effects import pooled_effects
from relation_neurons.validation import validated

QUESTION = "Do a relation's facts suffer more, the more of its neurons are ablated, and when do others begin to?"
PAPER_KS = (10, 50, 200, 500, 1000, 3000, 10_000, 20_000, 50_000)


@validated
@dataclass(frozen=True)
class SweepConfig:
    """Ablate the k best neurons of each relation for every k, and test its own facts and others'."""

    ks: tuple[int, ...] = PAPER_KS
    """How many neurons of Llama-2-7B; of a smaller model as large a share."""
    scale: bool = True
    """Whether ks are scaled to the size of the model."""
    n_sweep_controls: int = 25
    """Control sets at each k; those of smaller k are parts of those of larger k."""
    n_other: int | None = None
    """Facts of each other relation; by default all evaluation facts, as in the paper."""

    def __post_init__(self) -> None:
        require_at_least(self, n_sweep_controls=2, n_other=1)
        check_ks(self.ks)


def check_ks(ks: Sequence[int]) -> None:
    """Refuse numbers of neurons that make no sweep."""
    if len(set(ks)) < 2 or min(ks) < 1:
        raise refuse(f"ks is {tuple(ks)}", expected="at least two different numbers of at least 1")


def doses(study: Study, ks: Sequence[int], scale: bool) -> tuple[int, ...]:
    """Numbers of neurons on this study's model, ascending; those that scale to the same number once.

    Raises:
        RelationNeuronsError: Fewer than two are left, or more neurons than were ranked.
    """
    found = tuple(sorted({study.scaled(k) if scale else k for k in ks}))
    deepest = len(study.ranking().best[study.names[0]])
    if len(found) < 2 or found[-1] > deepest:
        raise refuse(f"ks are {found} on this model", expected=f"at least two different numbers up to {deepest}")
    return found


def sweep(study: Study, config: SweepConfig = SweepConfig()) -> ExperimentResult:
    """The paper's k sweep with controls and a test of the trend.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated` and `k` on own facts; `others`, the same on the other
        relations' facts, with one control; `trend`, from `effects.compare` by `ablated` of each fact's slope over
        log10(k): nats, or share right, for each tenfold of k; `pooled_trend`, the same over all relations, from
        `pooled_effects`; and `answers` to own facts. In both, `difference` is the mean over facts of a fact's slope
        minus its mean slope under nested random sets.
    """
    ks = doses(study, config.ks, config.scale)
    trends = [Case(study.target(name), study.evaluation(name), {"ablated": name}) for name in study.names]
    study.announce(trends, config.n_sweep_controls, pooled=True)
    own = own_answers(study, ks)
    controls = control_answers(study, ks, config.n_sweep_controls)
    effects = compare(own, controls, by=["ablated", "k"], seed=study.config.seed)
    steep, random = slopes(own), slopes(controls)
    trend = compare(steep, random, by=["ablated"], seed=study.config.seed)
    pooled = pooled_effects(steep, random, seed=study.config.seed)
    others = _others(study, ks, config.n_other)
    tables = {"effects": effects, "trend": trend, "pooled_trend": pooled, "others": others, "answers": own}
    sentences = (*property_verdicts.dose_response(trend, pooled), *verdicts.k_sweep(effects, trend, others))
    return ExperimentResult("sweep", QUESTION, tables, sentences)


def own_answers(study: Study, ks: Sequence[int]) -> pd.DataFrame:
    """Each relation's own facts at every k, labelled `ablated` and `k`."""
    cases = [
        Case(study.target(name, k), study.evaluation(name), {"ablated": name, "k": k})
        for name in study.names
        for k in ks
    ]
    return study.changes(cases)


def nested_controls(study: Study, name: str, ks: Sequence[int], n: int) -> list[tuple[int, int, NeuronSet]]:
    """Control sets as (k, draw, set), of which the smaller are parts of the larger and match at every k.

    Where a layer has too few neurons left for a k, there are no controls for it.
    """
    for deepest in reversed(ks):
        try:
            drawn = study.controls(study.target(name, deepest), n=n)
        except TooFewNeuronsError:
            continue
        return [(k, draw, one.part(0, k)) for k in ks if k <= deepest for draw, one in enumerate(drawn)]
    return []


def slopes(answers: pd.DataFrame) -> pd.DataFrame:
    """Least-squares slope of each fact's measures over log10(k), in the columns of `Study.changes`."""
    keys = [key for key in ("ablated", "draw", "relation", "unit") if key in answers]
    averaged = answers.groupby([*keys, "k"], sort=False)[
        [f"{part}{measure}" for measure in MEASURES for part in ("clean_", "d_")]
    ].mean()
    dose = np.log10(averaged.index.get_level_values("k").to_numpy(dtype=float))
    centred = dose - pd.Series(dose, index=averaged.index).groupby(keys).transform("mean").to_numpy()
    for measure in MEASURES:
        averaged[f"d_{measure}"] = averaged[f"d_{measure}"] * centred
    spread = pd.Series(centred**2, index=averaged.index).groupby(keys, sort=False).sum()
    found = averaged.groupby(keys, sort=False).agg(
        {f"clean_{measure}": "mean" for measure in MEASURES} | {f"d_{measure}": "sum" for measure in MEASURES}
    )
    for measure in MEASURES:
        found[f"d_{measure}"] = found[f"d_{measure}"] / spread
    return found.reset_index()


def control_answers(study: Study, ks: Sequence[int], n: int) -> pd.DataFrame:
    """The same facts under nested control sets, labelled `draw` as well."""
    cases = [
        Case(control, study.evaluation(name), {"ablated": name, "k": k, "draw": draw})
        for name in study.names
        for k, draw, control in nested_controls(study, name, ks, n)
    ]
    return study.changes(cases)


def _others(study: Study, ks: Sequence[int], n_other: int | None) -> pd.DataFrame:
    """The other relations' facts at every k, beside those under one control set."""
    own, controls, every = [], [], first_facts(study.evaluation(), n_other)
    for name in study.names:
        others = tuple(prompt for prompt in every if prompt.relation != name)
        own += [Case(study.target(name, k), others, {"ablated": name, "k": k}) for k in ks]
        drawn = nested_controls(study, name, ks, 1)
        controls += [Case(one, others, {"ablated": name, "k": k, "draw": draw}) for k, draw, one in drawn]
    return compare(study.changes(own), study.changes(controls), by=["ablated", "k"], seed=study.config.seed)
