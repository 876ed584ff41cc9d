"""A relation's own facts under its ablated neurons (paper, section 5.1, Figures 3 and 16)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.study import Case, Study
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.results import verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import LEAST_NATS, MEASURES, compare
from relation_neurons.statistics.hypothesis_tests import control_test, moderated_spreads
from relation_neurons.validation import validated

QUESTION = "Do a relation's own facts suffer when its neurons are ablated, more than under matched random neurons?"


@validated
@dataclass(frozen=True)
class IntraConfig:
    """Ablate each relation's neurons and its control sets, and test its own facts."""

    n_detection_tested: int | None = None
    """Detection prompts per relation that are tested as well; by default all, as in the paper; 0 for none."""

    def __post_init__(self) -> None:
        require_at_least(self, n_detection_tested=0)


def intra(study: Study, config: IntraConfig = IntraConfig()) -> ExperimentResult:
    """The paper's intra-relation experiment with controls as a distribution.

    Returns:
        Tables `effects`, from `effects.compare` by `relation` and `facts` (`evaluation` or `detection`); `accuracy`,
        per relation, facts and state (`clean`, `own`, `random`) the accuracy, the balanced accuracy (mean over
        distinct objects) and the share of the most frequent object; `calibration`, the control test applied to each
        control set against the others, whose p-values should be evenly spread; and `answers`.
    """
    tested, seed = _tested(study, config), study.config.seed
    own, controls = study.with_controls(
        [Case(study.target(name), prompts, {"ablated": name, "facts": facts}) for name, facts, prompts in tested]
    )
    parts = [
        compare(own[own["facts"] == facts], controls[controls["facts"] == facts], by=["ablated", "facts"], seed=seed)
        for facts in own["facts"].unique()  # a family of tests each
    ]
    table = pd.concat(parts, ignore_index=True)
    calibration = _calibration(controls)
    tables = {
        "effects": table,
        "accuracy": _accuracies(own, controls),
        "calibration": calibration,
        "answers": pd.concat([own.assign(draw=-1), controls], ignore_index=True),
    }
    return ExperimentResult("intra", QUESTION, tables, verdicts.intra(table, calibration))


def _tested(study: Study, config: IntraConfig) -> list[tuple[str, str, tuple[Prompt, ...]]]:
    tested = [(name, "evaluation", study.evaluation(name)) for name in study.names]
    if config.n_detection_tested != 0:
        for name in study.names:
            own = tuple(prompt for prompt in study.detection() if prompt.relation == name)
            tested.append((name, "detection", own[: config.n_detection_tested]))
    return tested


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


def _calibration(controls: pd.DataFrame) -> pd.DataFrame:
    """Each control set tested against the others of its relation, as if it were the relation's own."""
    chosen = controls[controls["facts"] == "evaluation"]
    rows = []
    for measure in MEASURES:
        means = chosen.groupby(["ablated", "draw"], sort=False)[f"d_{measure}"].mean().unstack("draw").to_numpy()
        least = LEAST_NATS if measure == "logprob" else 1 / int(chosen.groupby("ablated")["unit"].nunique().min())
        for draw in range(means.shape[1]):
            others = np.delete(means, draw, axis=1)
            spreads = moderated_spreads(list(others), least=least)
            for name, own, rest, spread in zip(
                chosen["ablated"].unique(), means[:, draw], others, spreads, strict=True
            ):
                rows.append((name, draw, measure, control_test(float(own), rest, resolution=least, spread=spread)))
    return pd.DataFrame(rows, columns=["relation", "draw", "measure", "p"])
