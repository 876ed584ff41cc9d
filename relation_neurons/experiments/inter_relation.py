"""The other relations under a relation's ablated neurons (paper, section 5.2, Figure 4)."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.study import Case, Study
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import FALLS, RISES, compare
from relation_neurons.statistics.formatting import interval_text, name_list

QUESTION = "Which other relations suffer, and which improve, when a relation's neurons are ablated?"


@dataclass(frozen=True)
class InterConfig:
    """Ablate each relation's neurons and a few of its control sets, and ask every relation's facts."""

    n_cross_controls: int = 2
    """Control sets of each relation; their spread on each relation's facts is estimated over all ablated ones."""

    n_asked: int | None = None
    """Evaluation prompts of each relation that are asked; by default all, as in the paper."""

    def __post_init__(self) -> None:
        require_at_least(self, n_cross_controls=2, n_asked=1)


def inter(study: Study, config: InterConfig = InterConfig()) -> ExperimentResult:
    """The paper's inter-relation experiment, every pair tested against chance and against random neurons.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated` and `relation` over all pairs of different relations,
        with `relative_drop`, the paper's (accuracy before - after) / before; `flips`, the facts that were lost and
        gained under other relations' neurons; and `answers`, the relation's own facts among them.
    """
    asked = tuple(prompt for name in study.names for prompt in study.evaluation(name)[: config.n_asked])
    answers = study.changes([Case(study.target(name), asked, {"ablated": name}) for name in study.names])
    controls = study.changes(
        [
            Case(control, asked, {"ablated": name, "draw": draw})
            for name in study.names
            for draw, control in enumerate(study.controls(study.target(name), n=config.n_cross_controls))
        ]
    )
    other, other_controls = (table[table["ablated"] != table["relation"]] for table in (answers, controls))
    effects = compare(other, other_controls, by=["ablated", "relation"], pool="relation", seed=study.config.seed)
    accuracy = effects["measure"] == "correct"
    effects["relative_drop"] = (-effects["effect"] / effects["clean"]).where(accuracy & (effects["clean"] > 0))
    tables = {"effects": effects, "flips": flips(other), "answers": answers}
    return ExperimentResult("inter", QUESTION, tables, (_versatility(effects), _interference(effects, tables["flips"])))


def flips(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers that were right before and wrong after, or the reverse.

    Returns:
        The rows of `answers` whose `correct` changed, with `flip`, `lost` or `gained`.
    """
    changed = answers[answers["d_correct"] != 0]
    columns = ["ablated", "relation", "subject", "object", "template", "fact", "clean_logprob", "logprob"]
    return changed[columns].assign(flip=(changed["d_correct"] > 0).map({True: "gained", False: "lost"}))


def _pairs(rows: pd.DataFrame) -> str:
    pairs = [f"{row['ablated']} -> {row['relation']} {interval_text(row)}" for row in rows.to_dict("records")]
    return name_list(pairs, most=5)


def _versatility(effects: pd.DataFrame) -> str:
    sentences = []
    for measure, what in (("correct", "accuracy"), ("logprob", "log-probability")):
        rows = effects[effects["measure"] == measure]
        falls = rows[rows["verdict"] == FALLS].sort_values("effect")
        sentences.append(
            f"In {len(falls)} of {len(rows)} pairs another relation's {what} falls beyond chance and random neurons: "
            f"{_pairs(falls)} (Holm-corrected over all pairs)."
        )
    return " ".join(sentences)


def _interference(effects: pd.DataFrame, changed: pd.DataFrame) -> str:
    sentences = []
    for measure, what in (("correct", "accuracy"), ("logprob", "log-probability")):
        rows = effects[effects["measure"] == measure]
        rises = rows[rows["verdict"] == RISES].sort_values("effect", ascending=False)
        higher = int((rows["effect"] > 0).sum())
        by_bh = int(((rows["p_bh"] < 0.05) & (rows["effect"] > 0)).sum())
        sentences.append(
            f"Another relation's {what} is higher with the neurons ablated in {higher} of {len(rows)} pairs; beyond "
            f"chance and random neurons in {len(rises)} after Holm's correction, {by_bh} after Benjamini and "
            f"Hochberg's: {_pairs(rises)}."
        )
    counts = changed["flip"].value_counts()
    sentences.append(f"Over all pairs {counts.get('lost', 0)} answers were lost and {counts.get('gained', 0)} gained.")
    return " ".join(sentences)
