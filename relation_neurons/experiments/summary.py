"""Each relation's neurons ablated: its own facts, other relations' facts, and matched random controls side by side.

The paper's intra- and inter-relation experiments (sections 5.1 and 5.2, Figures 3 and 4) in one table with intervals.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.evaluation.examples import example_generations
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.results.sentences import critical
from relation_neurons.statistics.formatting import name_list
from relation_neurons.statistics.intervals import CHANGES, Interval, accuracy_interval, mean_interval
from relation_neurons.validation import validated

QUESTION = "Do a relation's own facts suffer when its neurons are ablated, more than under matched random neurons?"
MEASURES = {"logprob": "log-probability of the right object", "correct": "accuracy", "correct_prefix": "accuracy"}
"""The measures of the table; `correct_prefix`, the paper's rule, only beside another rule."""
PARTS = ("clean", "own", "other", "random", "own_minus_random")


@validated
@dataclass(frozen=True)
class SummaryConfig:
    """Ablate each relation's neurons and test all facts; ablate its control sets and test its own."""

    n_worst: int = 5
    """Answers of each relation that are shown, of those that were right and became wrong: the objects that lost most
    log-probability."""
    n_examples: int = 2
    """Prompts of each relation that the model continues with and without the neurons, and half as many of others."""

    def __post_init__(self) -> None:
        require_at_least(self, n_worst=0, n_examples=0)


def summary(study: Study, config: SummaryConfig = SummaryConfig()) -> ExperimentResult:
    """Own, other and random facts of every relation in one table.

    Returns:
        Tables `summary`, from `summarise`; `controls`, the mean change under each control set by `relation` and `draw`;
        and `became_wrong`, the answers before and after of own facts that were right and became wrong;
        and `generations`, from `example_generations`, about the first facts that were right.
    """
    measures = [name for name in MEASURES if study.config.rule != "prefix" or name != "correct_prefix"]
    targets = {name: study.target(name) for name in study.names}
    every = study.evaluation()
    cases = [Case(target, every, {"ablated": name}) for name, target in targets.items()]
    answers = study.changes(cases, measures=measures)
    drawn = [
        Case(control, study.evaluation(name), {"ablated": name, "draw": draw})
        for name, target in targets.items()
        for draw, control in enumerate(study.controls(target))
    ]
    controls = study.changes(drawn, measures=measures)
    table = summarise(answers, controls, measures=measures, seed=study.config.seed)
    by_set = controls.groupby(["ablated", "draw"], sort=False)[[f"d_{name}" for name in measures]].mean()
    tables = {"summary": table, "controls": by_set.reset_index(names=["relation", "draw"])}
    tables["became_wrong"] = _became_wrong(study, answers, config.n_worst)
    tables["generations"] = _generations(study, answers, targets, config.n_examples)
    sentences = [sentence(table, name) for name in measures if name != "correct_prefix"]
    sentences.append(losses(answers, controls))
    sentences.append(critical(study.critical.at(study.config.site), study.config.site, kept=study.config.keep_critical))
    return ExperimentResult("summary", QUESTION, tables, tuple(sentences))


def summarise(
    answers: pd.DataFrame,
    controls: pd.DataFrame,
    *,
    measures: list[str] | tuple[str, ...] = ("logprob",),
    seed: int = 0,
) -> pd.DataFrame:
    """One row per relation and measure: clean value and changes, each with n and a 95 % interval over facts.

    Args:
        answers: From `Study.changes`, labelled `ablated`: every relation's facts under every relation's neurons.
        controls: From `Study.changes`, labelled `ablated`: its own facts under its control sets.
        measures: Which of `MEASURES`.
        seed: Of the resampling.

    Returns:
        Columns `relation`, `measure`, and `<part>`, `<part>_low`, `<part>_high` and `<part>_n` for the parts `clean`;
        `own`, the relation's neurons on its facts; `other`, its neurons on the other relations' facts; `random`, its
        controls on its facts, averaged over control sets for each fact; `own_minus_random`, paired by fact.
    """
    rows = []
    for name in answers["ablated"].unique():
        mine = answers[answers["ablated"] == name]
        kinds = {
            "own": mine[mine["relation"] == name],
            "other": mine[mine["relation"] != name],
            "random": controls[controls["ablated"] == name],
        }
        for measure in measures:
            parts = {"clean": _clean(kinds["own"], measure, seed)} | _changes(kinds, f"d_{measure}", seed)
            row: dict[str, object] = {"relation": name, "measure": measure}
            for part, interval in parts.items():
                row |= interval.columns(part)
                row[f"{part}_n"] = interval.n
            rows.append(row)
    return pd.DataFrame(rows)


def sides(table: pd.DataFrame, measure: str = "logprob") -> dict[str, list[str]]:
    """Relations by where the interval of own minus random lies: `below` zero, `above` it or `across`."""
    found: dict[str, list[str]] = {"below": [], "across": [], "above": []}
    for row in table[table["measure"] == measure].to_dict("records"):
        interval = Interval(*(row[f"own_minus_random{end}"] for end in ("", "_low", "_high", "_n")))
        found[interval.side].append(str(row["relation"]))
    return found


def sentence(table: pd.DataFrame, measure: str = "logprob") -> str:
    """For how many relations the interval of own minus random lies below, across and above zero."""
    found = sides(table, measure)
    n = sum(map(len, found.values()))
    named = {side: f" ({name_list(names, most=n)})" if names else "" for side, names in found.items()}
    return (
        f"The {MEASURES[measure]} falls more than under matched random neurons, its 95 % interval below zero, in "
        f"{len(found['below'])} of {n} relations{named['below']}; the interval crosses zero in "
        f"{len(found['across'])}{named['across']} and lies above it in {len(found['above'])}{named['above']}."
    )


def _clean(rows: pd.DataFrame, measure: str, seed: int) -> Interval:
    values = rows[f"clean_{measure}"].to_numpy()
    if measure == "logprob":
        return mean_interval(values, list(rows["unit"]), seed=seed)
    return accuracy_interval(values.astype(bool), list(rows["unit"]), seed=seed)


def _changes(kinds: Mapping[str, pd.DataFrame], column: str, seed: int) -> dict[str, Interval]:
    """Intervals of one column for own, other, random, and own minus random."""
    bounds = None if column == "d_logprob" else CHANGES
    units = {kind: list(rows["relation"] + "\x1f" + rows["unit"]) for kind, rows in kinds.items()}
    found = {
        kind: mean_interval(rows[column].to_numpy(), units[kind], bounds=bounds, seed=seed)
        for kind, rows in kinds.items()
        if len(rows)
    }
    own, random = (kinds[kind].groupby("unit")[column].mean() for kind in ("own", "random"))
    found["own_minus_random"] = mean_interval((own - random).to_numpy(), bounds=bounds, seed=seed)
    nothing = Interval(np.nan, np.nan, np.nan, 0)
    return {part: found.get(part, nothing) for part in PARTS if part != "clean"}


def losses(answers: pd.DataFrame, controls: pd.DataFrame) -> str:
    """How many own answers that were right became wrong, by relation, and under a control set.

    Args:
        answers: As of `summarise`.
        controls: As of `summarise`, with `draw`.
    """
    own = answers[answers["ablated"] == answers["relation"]]
    right, lost = (own[rows].groupby("relation").size() for rows in (own["clean_correct"] > 0, own["d_correct"] < 0))
    if not len(lost):
        return f"No own answer of {int(right.sum())} that were right became wrong."
    by_set = controls[controls["d_correct"] < 0].groupby(["ablated", "draw"]).size()
    by_chance = by_set.sum() / controls.groupby(["ablated", "draw"]).ngroups * own["relation"].nunique()
    parts = ", ".join(f"{name} {n} of {right[str(name)]}" for name, n in lost.items())
    found = f"{lost.sum()} of {right.sum()} own answers that were right became wrong ({parts})"
    return f"{found}; under random controls {by_chance:.1f}."


def _generations(study: Study, answers: pd.DataFrame, targets: Mapping[str, NeuronSet], n: int) -> pd.DataFrame:
    """Prompts continued with and without each relation's neurons; those with right answers come first."""
    own = answers[answers["ablated"] == answers["relation"]].reset_index(drop=True)
    asked, order = study.evaluation(), own.sort_values("clean_correct", ascending=False, kind="stable").index
    prompts = list({(one.relation, one.unit): one for one in reversed([asked[row] for row in order])}.values())[::-1]
    controls = {name: study.controls(target)[0] for name, target in targets.items()}
    n_other = (n + 1) // 2

    def make() -> pd.DataFrame:
        with study.show("continuing prompts", 3 * len(targets) * (n + n_other)) as progress:
            work = functools.partial(
                example_generations, prompts=prompts, targets=targets, controls=controls, n_own=n, n_other=n_other
            )
            return study.pool.call(work, progress)

    return study.table("answers/examples", make, prompts, targets, controls, n, n_other)


def _became_wrong(study: Study, answers: pd.DataFrame, n: int) -> pd.DataFrame:
    """Own facts answered rightly before and wrongly after, those whose object lost most log-probability first."""
    columns = ["relation", "subject", "object", "d_logprob"]
    own = answers[answers["ablated"] == answers["relation"]].reset_index(drop=True)
    if "generated" in own:
        clean = study.clean(study.evaluation(), generate=True)
        own = own.assign(before=clean["generated"].to_numpy(), after=own["generated"])
        columns[3:3] = ["before", "after"]
    ordered = own[own["d_correct"] < 0].sort_values("d_logprob", kind="stable")
    parts = [ordered[ordered["relation"] == name].head(n) for name in study.names]
    return pd.concat(parts)[columns].reset_index(drop=True)
