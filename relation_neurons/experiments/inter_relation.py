"""The other relations under a relation's ablated neurons (paper, section 5.2, Figure 4)."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.gained_facts import choose_gained, gained_facts
from relation_neurons.experiments.gains import gain_table, parse_pairs
from relation_neurons.experiments.study import Study
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.results import property_verdicts, verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import compare, pooled
from relation_neurons.validation import validated

QUESTION = "Which other relations suffer, and which improve, when a relation's neurons are ablated?"


@validated
@dataclass(frozen=True)
class InterConfig:
    """Ablate each relation's neurons and a few of its control sets, and test every relation's facts."""

    n_cross_controls: int = 25
    """Control sets of each relation, tested on all others; without them there are estimates and no verdicts."""

    n_tested: int | None = None
    """Evaluation facts per relation; by default all, as in the paper."""

    pairs: tuple[str, ...] = ()
    """Pairs to test, each as "ablated->asked", named before looking; by default all. Fewer tests have more power."""

    n_mechanism_controls: int = 5
    """Control sets whose direct contributions to the facts that gained are computed."""

    def __post_init__(self) -> None:
        require_at_least(self, n_cross_controls=0, n_tested=1, n_mechanism_controls=0)


def inter(study: Study, config: InterConfig = InterConfig()) -> ExperimentResult:
    """The paper's inter-relation experiment, every pair tested against chance and against random neurons.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated` and `relation` over all pairs of different relations,
        with `relative_drop`, the paper's (accuracy before - after) / before; `pooled`, one row for all of them;
        `gains`, from `gains.gain_table`, the same pairs in the direction of a gain only; `gained` and `mechanism`, from
        `gained_facts`, single facts that gained; `flips`, the facts that were lost and gained under other relations'
        neurons; and `answers`, where all pairs are tested the relation's own facts among them.

    Raises:
        RelationNeuronsError: A pair of relations that the study does not have.
    """
    cases = _cases(study, config)
    answers, controls = study.with_controls(cases, n=config.n_cross_controls, by_relation=True, stop=True, pooled=True)
    other, other_controls = (table[table["ablated"] != table["relation"]] for table in (answers, controls))
    effects = compare(other, other_controls, by=["ablated", "relation"], seed=study.config.seed)
    accuracy = effects["measure"] == "correct"
    effects["relative_drop"] = (-effects["effect"] / effects["clean"]).where(accuracy & (effects["clean"] > 0))
    over_all = compare(*pooled(other, other_controls), by=["ablated"], seed=study.config.seed)
    gains = gain_table(other, other_controls, seed=study.config.seed)
    chosen = choose_gained(other, other_controls, gains)
    prompts = [prompt for case in cases for prompt in case.prompts]
    gained, mechanism = gained_facts(study, chosen, [prompts[row] for row in chosen.index], config.n_mechanism_controls)
    tables = {"effects": effects, "pooled": over_all, "gains": gains, "gained": gained, "mechanism": mechanism}
    tables |= {"flips": flips(other), "answers": answers}
    sentences = (
        *verdicts.inter(effects, over_all, tables["flips"]),
        *property_verdicts.gains(gains, gained, mechanism),
    )
    return ExperimentResult("inter", QUESTION, tables, sentences)


def _cases(study: Study, config: InterConfig) -> list[Case]:
    """Each relation's neurons with all prompts, or with those of the pairs that are named."""
    prompts, pairs = first_facts(study.evaluation(), config.n_tested), parse_pairs(config.pairs, study.names)
    cases = []
    for name in study.names:
        asked = {relation for ablated, relation in pairs if ablated == name} | (set() if config.pairs else {name})
        if asked:
            own = tuple(prompt for prompt in prompts if prompt.relation in asked)
            cases.append(Case(study.target(name), own, {"ablated": name}))
    return cases


def flips(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers that were right before and wrong after, or the reverse.

    Returns:
        The rows of `answers` whose `correct` changed, with `flip`, `lost` or `gained`.
    """
    changed = answers[answers["d_correct"] != 0]
    columns = ["ablated", "relation", "subject", "object", "template", "fact", "unit", "clean_logprob", "logprob"]
    return changed[columns].assign(flip=(changed["d_correct"] > 0).map({True: "gained", False: "lost"}))
