"""A relation's own facts under its ablated neurons (paper, section 5.1, Figures 3 and 16)."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.results import verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import compare, pooled
from relation_neurons.validation import validated

QUESTION = "Do a relation's own facts suffer when its neurons are ablated, more than under matched random neurons?"


@validated
@dataclass(frozen=True)
class IntraConfig:
    """Ablate each relation's neurons and its control sets, and test its own facts."""

    n_detection_tested: int | None = None
    """Detection facts per relation that are tested as well; by default all, as in the paper; 0 for none."""

    def __post_init__(self) -> None:
        require_at_least(self, n_detection_tested=0)


def intra(study: Study, config: IntraConfig = IntraConfig()) -> ExperimentResult:
    """The paper's intra-relation experiment with controls as a distribution.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated` and `facts` (`evaluation` or `detection`); `pooled`, the
        same over all relations (`ablated` is `all`), which few control sets of each relation suffice for; `accuracy`,
        per relation, facts and state (`clean`, `own`, `random`) the accuracy, the balanced accuracy (mean over
        distinct objects) and the share of the most frequent object; and `answers`.
    """
    answers = [study.with_controls(cases, stop=True, pooled=True) for cases in _families(study, config)]
    by, seed = ["ablated", "facts"], study.config.seed
    table = pd.concat([compare(*family, by=by, seed=seed) for family in answers], ignore_index=True)
    over_all = pd.concat([compare(*pooled(*family), by=by, seed=seed) for family in answers], ignore_index=True)
    own, controls = (pd.concat(tables, ignore_index=True) for tables in zip(*answers, strict=True))
    tables = {
        "effects": table,
        "pooled": over_all,
        "accuracy": _accuracies(own, controls),
        "answers": pd.concat([own.assign(draw=-1), controls], ignore_index=True),
    }
    return ExperimentResult("intra", QUESTION, tables, verdicts.intra(table, over_all))


def _families(study: Study, config: IntraConfig) -> list[list[Case]]:
    """The cases of each family of tests: evaluation facts and, unless left out, detection facts."""
    evaluation = {name: study.evaluation(name) for name in study.names}
    families = {"evaluation": evaluation}
    if config.n_detection_tested != 0:
        every = first_facts(study.detection(), config.n_detection_tested)
        families["detection"] = {
            name: tuple(prompt for prompt in every if prompt.relation == name) for name in study.names
        }
    return [
        [Case(study.target(name), tested, {"ablated": name, "facts": facts}) for name, tested in prompts.items()]
        for facts, prompts in families.items()
    ]


def _accuracies(own: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """Accuracy beside balanced accuracy, which naming the most frequent object every time does not raise."""
    states = {"clean": (own, "clean_correct"), "own": (own, "correct"), "random": (controls, "correct")}
    rows = []
    for state, (answers, column) in states.items():
        for (name, facts), group in answers.groupby(["ablated", "facts"], sort=False):
            by_object = group.groupby("object")[column].mean()
            most = group["object"].value_counts(normalize=True).max()
            rows.append((name, facts, state, group[column].mean(), by_object.mean(), most, len(by_object)))
    names = ["relation", "facts", "state", "accuracy", "balanced_accuracy", "majority_share", "n_objects"]
    return pd.DataFrame(rows, columns=names)
