"""What the model answers when a relation's neurons are ablated (paper, Tables 4 to 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.evaluation.answers import ERROR_KINDS
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.results import verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.intervals import accuracy_interval
from relation_neurons.validation import validated

QUESTION = "What does the model say instead when a relation's neurons are ablated?"
STATES = ("clean", "own", "random")
SHARE = ("share", "share_low", "share_high")


@validated
@dataclass(frozen=True)
class ErrorKindsConfig:
    """Answers of the clean model, with each relation's neurons ablated, and with one control set ablated."""

    n_top: int = 5
    """Most frequent answers per relation and state that are listed."""

    def __post_init__(self) -> None:
        require_at_least(self, n_top=1)


def error_kinds(study: Study, config: ErrorKindsConfig = ErrorKindsConfig()) -> ExperimentResult:
    """The paper's analysis of errors, beside a matched random set.

    States are `clean`, `own` and `random`, the first of the relation's control sets. Counts are of prompts; shares are
    means over facts, the answers to one fact averaged first, with intervals over facts.

    Returns:
        Tables `kinds`, per `relation`, `state` and `kind` of `answers.ERROR_KINDS` the `count` of `n` answers (of
        `facts` facts) and its `share`; `counts`, per `relation` and `state` but `clean`: of `n` answers those
        `right_before` by the study's rule, of these `newly_wrong` and their `share` (NaN where none was right), and
        `newly_right`; `newly_wrong`, each such prompt with the answers `before` and `after` and the `kind` of the
        latter; `top_answers`, per `relation` and `state` the most frequent answers; and `answers`.

        The kind `right` follows the rule `alias` whatever the study's rule, so that an answer that is newly wrong by a
        stricter rule can be of the kind `right`.
    """
    answers = _answers(study)
    counts, wrong = count_changes(answers), newly_wrong(answers)
    tables = {
        "kinds": count_kinds(answers),
        "counts": counts,
        "newly_wrong": wrong,
        "top_answers": top_answers(answers, config.n_top),
        "answers": answers,
    }
    return ExperimentResult("error_kinds", QUESTION, tables, verdicts.error_analysis(counts, wrong, study.config.rule))


def _answers(study: Study) -> pd.DataFrame:
    """Answers in every state, a row per prompt and state, with the clean model's answer and whether it was right."""
    evaluation = {name: study.evaluation(name) for name in study.names}
    clean = study.clean([prompt for prompts in evaluation.values() for prompt in prompts], generate=True)
    states = [clean.assign(state="clean", clean_correct=clean["correct"])]
    for state in STATES[1:]:
        cases = []
        for name, prompts in evaluation.items():
            target = study.target(name)
            neurons = target if state == "own" else study.controls(target, n=1)[0]
            cases.append(Case(neurons, prompts, {"state": state}))
        states.append(study.changes(cases, generate=True))
    whole = pd.concat([one.assign(before=clean["generated"].to_numpy()) for one in states], ignore_index=True)
    right = {name: whole[name].astype(bool) for name in ("correct", "clean_correct")}
    about = ["relation", "state", "subject", "object", "template", "language", "fact", "unit"]
    return whole.assign(**right)[[*about, "before", "generated", "error", "clean_correct", "correct", "logprob"]]


def _groups(answers: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Answers relation by relation and state by state."""
    for name, rows in answers.groupby("relation", sort=False):
        for state in STATES:
            yield str(name), state, rows[rows["state"] == state]


def count_kinds(answers: pd.DataFrame) -> pd.DataFrame:
    """The number of answers of each kind, kinds without any included."""
    rows = []
    for name, state, group in _groups(answers):
        for kind in ERROR_KINDS:
            of_kind = (group["error"] == kind).to_numpy(dtype=bool)
            share = accuracy_interval(of_kind, list(group["unit"]))
            rows.append((name, state, kind, int(of_kind.sum()), len(group), share.n, *share[:3]))
    return pd.DataFrame(rows, columns=["relation", "state", "kind", "count", "n", "facts", *SHARE])


def count_changes(answers: pd.DataFrame) -> pd.DataFrame:
    """How many answers that were right are wrong, and the reverse (the paper counts the former)."""
    rows = []
    for name, state, group in _groups(answers):
        if state != "clean":
            before, after = (group[column].to_numpy(dtype=bool) for column in ("clean_correct", "correct"))
            lost = ~after[before]
            units = list(group.loc[before, "unit"])
            share = accuracy_interval(lost, units)[:3] if len(lost) else (np.nan,) * 3
            sizes = (len(group), group["unit"].nunique(), len(lost))
            rows.append((name, state, *sizes, int(lost.sum()), *share, int((after & ~before).sum())))
    names = ["relation", "state", "n", "facts", "right_before", "newly_wrong", *SHARE, "newly_right"]
    return pd.DataFrame(rows, columns=names)


def newly_wrong(answers: pd.DataFrame) -> pd.DataFrame:
    """The prompts that turned from right to wrong, with both answers."""
    rows = answers[answers["clean_correct"] & ~answers["correct"]]
    named = rows.rename(columns={"generated": "after", "error": "kind"}).reset_index(drop=True)
    return named[["relation", "state", "subject", "object", "template", "fact", "unit", "before", "after", "kind"]]


def top_answers(answers: pd.DataFrame, n_top: int = 5) -> pd.DataFrame:
    """The most frequent answers of each relation and state; ties in alphabetical order."""
    rows = []
    for name, state, group in _groups(answers):
        counts = group["generated"].str.strip().value_counts().rename_axis("answer").reset_index(name="count")
        for one in counts.sort_values(["count", "answer"], ascending=[False, True]).head(n_top).to_dict("records"):
            rows.append((name, state, one["answer"], one["count"], len(group), one["count"] / len(group)))
    return pd.DataFrame(rows, columns=["relation", "state", "answer", "count", "n", "share"])
