"""Necessity and sufficiency: what is left with a relation's neurons alone, without them alone, and with them on.

Faithfulness and its areas are those of MIB (Mueller et al. 2025, arXiv:2504.13151).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from relation_neurons.errors import refuse, require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.circuit_tables import averages, circuit_tables
from relation_neurons.experiments.induction import induction
from relation_neurons.experiments.k_sweep import PAPER_KS
from relation_neurons.experiments.reference_values import reference_values
from relation_neurons.experiments.study import Study
from relation_neurons.interventions.values import Mean, Scale, Value
from relation_neurons.models.sites import Neuron
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.results import faithfulness_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.scores.scoring import require_scorers
from relation_neurons.statistics.effects import compare
from relation_neurons.validation import validated

QUESTION = "Are a relation's neurons necessary for its answers, and are they sufficient?"
MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
BY = ["scorer", "relation"]


@validated
@dataclass(frozen=True)
class FaithfulnessConfig:
    """Keep only a relation's k best neurons, ablate only these, and set them to their usual values elsewhere."""

    scorers: tuple[str, ...] = ("average_precision", "attribution", "attribution_t")
    """What neurons are ranked by."""
    ks: tuple[int, ...] = PAPER_KS
    """How many neurons of Llama-2-7B; of a smaller model as large a share."""
    scale: bool = True
    """Whether ks are scaled to the size of the model."""
    shares: tuple[float, ...] = MIB_SHARES
    """Further numbers of neurons as shares of all; over these, by default MIB's, the areas are computed."""
    n_circuit_controls: int = 20
    """Control sets for each scorer, relation and k; those of smaller k are parts of those of larger k."""
    n_induction_controls: int = 20
    """Control sets for each scorer and relation that are set to their own usual values."""
    n_asked: int | None = None
    """Facts of each other relation that are asked meanwhile; by default all evaluation facts."""

    def __post_init__(self) -> None:
        require_at_least(self, n_circuit_controls=2, n_induction_controls=2, n_asked=1)
        require_scorers(self.scorers)
        if len(set(self.shares)) < 2 or not all(0 < share <= 1 for share in self.shares):
            raise refuse(f"shares is {self.shares}", expected="at least two different shares above 0 and up to 1")
        if self.ks and min(self.ks) < 1:
            raise refuse(f"ks is {self.ks}", expected="numbers of at least 1")


def faithfulness(study: Study, config: FaithfulnessConfig = FaithfulnessConfig()) -> ExperimentResult:
    """Keep or ablate each relation's neurons at every k, and induce its answers behind other relations' prompts.

    A neuron is ablated here by writing, at every position, its mean over the detection prompts of the other relations.
    A BOS token is left as it is unless the study pools it, since the means are not those of its activations.
    m(kept) is the mean log-probability of the objects of a relation's evaluation facts with all neurons of the site
    ablated but its k best, m(ablated) with these alone ablated, m(none) with all ablated; critical neurons are never
    among the k best.

    Returns:
        Tables `curves`, a row per `scorer`, `relation` and `k`: the `share` of neurons, and whether it is `in_area`;
        `n` facts; m in nats as `clean`, `none`, `kept` and `ablated`; `faithfulness`, (kept - none) / (clean - none),
        and `completeness`, (ablated - none) / (clean - none), of which 0 is complete, with `_low` and `_high` (95 %
        over facts); and the same of `n_controls` control sets, `random_faithfulness` and `random_completeness` (mean)
        with `_min` and `_max`. All ratios are NaN where the 95 % interval of clean - none is not above 0. `areas`: a
        row per scorer and relation with `cpr` and `cmd`, see `performance_ratio` and `model_distance`, likewise.
        `average`, a row per scorer and k, and `average_areas`, a row per scorer: means over the `n` relations of
        which the ratio is defined, with 95 % over relations, and `n_undefined`. `kept`, from `effects.compare` by
        scorer and relation at the study's k: m(kept) - m(none), against control sets that are kept; m(none) is in the
        column `clean`. `ablated`: m(ablated) - m(clean), likewise. `induction`, `pairs`, `ranges` and
        `stem`: see the function `induction`.
    """
    sizes, scorers, seed = grid(study, config), tuple(dict.fromkeys(config.scorers)), study.config.seed
    values = reference_values(study)
    _announce(study, scorers, config.n_circuit_controls)
    # First what is short and refuses k that leaves too few neurons for control sets.
    induced = induction(study, values.on, scorers, n_controls=config.n_induction_controls, n_asked=config.n_asked)
    answers = pd.concat(
        [
            _answers(study, values.off[name], scorer, name, sizes["k"].tolist(), config.n_circuit_controls)
            for scorer in scorers
            for name in study.names
        ],
        ignore_index=True,
    )
    curves, areas = circuit_tables(answers, sizes, seed)
    tested = answers[answers["k"] == study.k]
    tables = {
        "curves": curves,
        "areas": areas,
        "average": averages(curves, ["scorer", "k", "share"], ("faithfulness", "completeness"), seed),
        "average_areas": averages(areas, ["scorer"], ("cpr", "cmd"), seed),
        "kept": _compared(tested, "kept", "none", seed),
        "ablated": _compared(tested, "ablated", "clean", seed),
    }
    tables |= induced
    return ExperimentResult("faithfulness", QUESTION, tables, faithfulness_verdicts.faithfulness(tables, study.k))


def grid(study: Study, config: FaithfulnessConfig) -> pd.DataFrame:
    """Numbers of neurons on this study's model, ascending; the study's k is among them.

    Returns:
        Columns `k`; `share`, of the neurons that can be kept, which are all but critical ones; and `in_area`, whether
        it is one of the shares of the configuration.

    Raises:
        RelationNeuronsError: More neurons than there are, or shares that are the same number of neurons.
    """
    n = study.n_neurons
    of_shares = {max(1, int(share * n)) for share in config.shares}
    ks = {study.scaled(k) if config.scale else k for k in config.ks} | {study.k} | of_shares
    if max(ks) > n or len(of_shares) < 2:
        found = f"On this model ks are {sorted(ks)}, those of shares {sorted(of_shares)}"
        raise refuse(found, expected=f"numbers up to {n}, and at least two different ones of shares")
    return pd.DataFrame([(k, k / n, k in of_shares) for k in sorted(ks)], columns=["k", "share", "in_area"])


def _announce(study: Study, scorers: Sequence[str], n_controls: int) -> None:
    """Say what the tests of `kept` can show, and those of `ablated`, which are as many."""
    cases = [
        Case(study.target(name), study.evaluation(name), {"scorer": scorer, "relation": name})
        for scorer in scorers
        for name in study.names
    ]
    study.announce(cases, n_controls)


def _answers(study: Study, off: Mean, scorer: str, name: str, ks: Sequence[int], n_controls: int) -> pd.DataFrame:
    """A relation's own facts with its neurons, and with its control sets, kept and ablated.

    Returns:
        A row per k, draw and prompt: `scorer`, `k`, `draw`, which is -1 for the relation's own neurons, `relation` and
        `unit`; and the log-probabilities `clean`, `none`, `kept` and `ablated`.
    """
    selection, prompts = replace(study.selection, scorer=scorer), study.evaluation(name)
    whole = study.ranking(selection, max(ks)).top(name, max(ks))
    drawn = study.controls(whole, n=n_controls, selection=selection, disjoint=False)
    sets = [(k, draw, one.part(0, k)) for draw, one in enumerate([whole, *drawn], start=-1) for k in ks]
    everything = _everything(study)

    def case(state: str, k: int, draw: int, neurons: NeuronSet, value: Value = off) -> Case:
        return Case(neurons, prompts, {"state": state, "k": k, "draw": draw}, value=value, bos=study.config.include_bos)

    cases = [case("none", 0, -1, everything)]
    for k, draw, neurons in sets:
        cases.append(case("ablated", k, draw, neurons))
        cases.append(case("kept", k, draw, *_all_but(everything, neurons, off)))
    answers = study.changes(cases, measures=["logprob"])
    none, ablated, kept = (
        answers[answers["state"] == state].reset_index(drop=True) for state in ("none", "ablated", "kept")
    )
    return ablated[["k", "draw", "relation", "unit"]].assign(
        scorer=scorer,
        clean=ablated["clean_logprob"],
        none=np.tile(none["logprob"], len(sets)),
        kept=kept["logprob"],
        ablated=ablated["logprob"],
    )


def _everything(study: Study) -> NeuronSet:
    """All neurons of the site, critical ones included."""
    space = study.ranking().space
    sites, layers, indices = space.locate(np.arange(len(space)))
    return NeuronSet(tuple(map(Neuron, sites, layers.tolist(), indices.tolist())), "all neurons")


def _all_but(everything: NeuronSet, kept: NeuronSet, off: Value) -> tuple[NeuronSet, Value]:
    """What is written to keep some neurons: all others, or, where no other is left, all as they are."""
    if len(kept) == len(everything):
        return everything, Scale(1)
    return everything - kept, off


def _compared(answers: pd.DataFrame, state: str, base: str, seed: int) -> pd.DataFrame:
    """The effect of a state against another, beside that of the control sets."""
    changes = answers.assign(clean_logprob=answers[base], d_logprob=answers[state] - answers[base])
    own = changes["draw"] == -1
    return compare(changes[own], changes[~own], by=BY, measures=["logprob"], seed=seed)
