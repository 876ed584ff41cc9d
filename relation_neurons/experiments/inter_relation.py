"""The other relations under a relation's ablated neurons (paper, section 5.2, Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from relation_neurons.errors import refuse, require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.results import verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import compare
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
    """Pairs of relations, each as ablated->asked, that are asked and tested; by default all."""

    def __post_init__(self) -> None:
        require_at_least(self, n_cross_controls=0, n_tested=1)


def inter(study: Study, config: InterConfig = InterConfig()) -> ExperimentResult:
    """The paper's inter-relation experiment, every pair tested against chance and against random neurons.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated` and `relation` over all pairs of different relations,
        with `relative_drop`, the paper's (accuracy before - after) / before; `flips`, the facts that were lost and
        gained under other relations' neurons; and `answers`, the relation's own facts among them.
    """
    prompts = first_facts(study.evaluation(), config.n_tested)
    asked = named_pairs(study.names, config.pairs)
    cases = [
        Case(study.target(name), tuple(prompt for prompt in prompts if prompt.relation in others), {"ablated": name})
        for name, others in asked.items()
    ]
    answers, controls = study.with_controls(cases, n=config.n_cross_controls, by_relation=True, stop=True)
    other, other_controls = (table[table["ablated"] != table["relation"]] for table in (answers, controls))
    effects = compare(other, other_controls, by=["ablated", "relation"], seed=study.config.seed)
    accuracy = effects["measure"] == "correct"
    effects["relative_drop"] = (-effects["effect"] / effects["clean"]).where(accuracy & (effects["clean"] > 0))
    tables = {"effects": effects, "flips": flips(other), "answers": answers}
    return ExperimentResult("inter", QUESTION, tables, verdicts.inter(effects, tables["flips"]))


def named_pairs(names: Sequence[str], pairs: Sequence[str]) -> dict[str, set[str]]:
    """The relations that are asked under each relation's neurons: all of them, or those of the pairs.

    Raises:
        RelationNeuronsError: A pair that is not two of the relations.
    """
    if not pairs:
        return {name: set(names) for name in names}
    asked: dict[str, set[str]] = {}
    for pair in pairs:
        ablated, _, other = pair.partition("->")
        if ablated == other or not {ablated, other} <= set(names):
            raise refuse(f"'{pair}' is not a pair", expected=f"ablated->asked, two of {', '.join(names)}")
        asked.setdefault(ablated, set()).add(other)
    return asked


def flips(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers that were right before and wrong after, or the reverse.

    Returns:
        The rows of `answers` whose `correct` changed, with `flip`, `lost` or `gained`.
    """
    changed = answers[answers["d_correct"] != 0]
    columns = ["ablated", "relation", "subject", "object", "template", "fact", "unit", "clean_logprob", "logprob"]
    return changed[columns].assign(flip=(changed["d_correct"] > 0).map({True: "gained", False: "lost"}))
