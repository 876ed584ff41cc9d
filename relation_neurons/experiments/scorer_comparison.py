"""Selectivity curves: by each scorer, what the k best neurons take from own facts against what they take from others.

Scorers give sets of unlike strength, so that the same k is not a fair comparison: the number for a scorer is the drop
of own facts where others' facts have lost a given amount.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from relation_neurons.errors import refuse, require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.results import scorer_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.scores.scoring import require_scorers, scorer_names
from relation_neurons.statistics.effects import CANNOT_BE_SHOWN, compare, judged
from relation_neurons.statistics.hypothesis_tests import minimum_effect, sign_flip_test
from relation_neurons.statistics.intervals import UNKNOWN, mean_interval
from relation_neurons.statistics.power import LEVEL, Design
from relation_neurons.statistics.selectivity import drops_at_equal_cost
from relation_neurons.validation import validated

QUESTION = "Which scorer finds the neurons whose loss hurts their own relation most and others least?"
FIRST = "average_precision"
PARTS_OF_K = (8, 4, 2, 1)
"""By default an eighth, a quarter, half and all of the study's k."""
NO_CONTROL_TEST = 10**9
"""As many control sets do not limit a p-value."""


@validated
@dataclass(frozen=True)
class MethodsConfig:
    """Rank neurons by every scorer, ablate the k best of each, and test own and other facts."""

    scorers: tuple[str, ...] = scorer_names()
    """Which scorers; average_precision, with which the others are compared, always takes part."""
    ks: tuple[int, ...] | None = None
    """How many neurons; by default an eighth, a quarter, half and all of the study's k."""
    cost: float = 0.1
    """Nats that others' facts lose where scorers are compared."""
    n_other: int | None = 3
    """Facts of each other relation; None takes all evaluation facts."""
    n_method_controls: int = 20
    """Control sets for each scorer, k and relation; 0 for none, where time is short."""

    def __post_init__(self) -> None:
        require_at_least(self, n_other=1, n_method_controls=0)
        if not 0 < self.cost < np.inf:
            raise refuse(f"cost is {self.cost}", expected="nats above 0")
        if self.ks and min(self.ks) < 1:
            raise refuse(f"ks is {self.ks}", expected="numbers of at least 1")
        require_scorers(self.scorers)


def methods(study: Study, config: MethodsConfig = MethodsConfig()) -> ExperimentResult:
    """The same facts, the same numbers of neurons, another scorer.

    Returns:
        Tables `equal_cost`, from `statistics.selectivity.drops_at_equal_cost`; `methods`, the curves, a row per scorer,
        k and measure: `own`, the mean change of own facts, `random`, that of own facts under matched random sets,
        `other`, of the other relations' facts, and `specific`, own minus other, each with `_low` and `_high` (95 % over
        relations) and `n` relations; `against_first`, `specific` of each scorer minus that of average precision, paired
        by relation, with sign flips, Holm's correction, and `smallest_p`, the least that `p_holm` can be; `own`, from
        `effects.compare` by `scorer`, `k` and `ablated`; and `other`, the mean change of all other relations' facts by
        the same.

    Raises:
        RelationNeuronsError: More neurons than can be ranked.
    """
    scorers, seed = tuple(dict.fromkeys((FIRST, *config.scorers))), study.config.seed
    ks = _doses(study, config.ks)
    own, other = _cases(study, scorers, ks, config.n_other)
    on_own = compare(*study.with_controls(own, n=config.n_method_controls), by=["scorer", "k", "ablated"], seed=seed)
    on_other = _changes_of_others(study.changes(other))
    changes = _both(on_own, on_other)
    table, against = _averages(changes, seed), _against_first(changes, seed)
    equal = drops_at_equal_cost(changes, cost=config.cost, first=FIRST, seed=seed)
    tables = {"equal_cost": equal, "methods": table, "against_first": against, "own": on_own, "other": on_other}
    return ExperimentResult("methods", QUESTION, tables, scorer_verdicts.scorer_comparison(equal, table, against))


def _doses(study: Study, ks: tuple[int, ...] | None) -> tuple[int, ...]:
    """Numbers of neurons, ascending."""
    found = sorted(set(ks or (max(1, study.k // part) for part in PARTS_OF_K)))
    if found[-1] > study.n_neurons:
        raise refuse(f"ks is {tuple(found)}", expected=f"numbers up to {study.n_neurons}, the neurons to rank")
    return tuple(found)


def _cases(
    study: Study, scorers: tuple[str, ...], ks: tuple[int, ...], n_other: int | None
) -> tuple[list[Case], list[Case]]:
    """Each scorer's neurons with own facts, and with those of the other relations."""
    own, other, every = [], [], first_facts(study.evaluation(), n_other)
    for scorer in scorers:
        selection = replace(study.selection, scorer=scorer)
        ranking = study.ranking(selection, max(ks))
        for k in ks:
            for name in study.names:
                target, labels = ranking.top(name, k), {"scorer": scorer, "k": k, "ablated": name}
                own.append(Case(target, study.evaluation(name), labels, selection))
                others = tuple(prompt for prompt in every if prompt.relation != name)
                other.append(Case(target, others, labels))
    return own, other


def _changes_of_others(answers: pd.DataFrame) -> pd.DataFrame:
    """Mean change of all other relations' facts, each fact counting once, by scorer, k and ablated relation."""
    columns = {"logprob": "d_logprob", "correct": "d_correct"}
    facts = answers.groupby(["scorer", "k", "ablated", "relation", "unit"], sort=False)[list(columns.values())].mean()
    groups = facts.groupby(["scorer", "k", "ablated"], sort=False)
    parts = [
        groups[column].agg(effect="mean", n="size").assign(measure=measure).reset_index()
        for measure, column in columns.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _both(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The changes of own and of others' facts side by side, by scorer, k, relation and measure."""
    keys = ["scorer", "k", "ablated", "measure"]
    table = own[[*keys, "effect", "random"]].rename(columns={"effect": "own"})
    table = table.merge(other[[*keys, "effect"]].rename(columns={"effect": "other"}), on=keys, validate="1:1")
    return table.assign(specific=table["own"] - table["other"])


def _averages(changes: pd.DataFrame, seed: int) -> pd.DataFrame:
    rows = []
    for (scorer, k, measure), group in changes.groupby(["scorer", "k", "measure"], sort=False):
        row: dict[str, object] = {"scorer": scorer, "k": k, "measure": measure, "n": len(group)}
        for part in ("own", "random", "other", "specific"):
            known = group[part].notna().all()  # without control sets there is no random change
            interval = mean_interval(group[part].to_numpy(), seed=seed) if known else UNKNOWN
            row |= interval.columns(part)
        rows.append(row)
    return pd.DataFrame(rows)


def _against_first(changes: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Each scorer's specific drop minus that of average precision, relation by relation.

    Where even equal signs in all relations would not pass the corrected test, the verdict says so.
    """
    wide = changes.pivot_table(index=["k", "measure", "ablated"], columns="scorer", values="specific", sort=False)
    rows = []
    for (k, measure), group in wide.groupby(level=["k", "measure"], sort=False):
        for scorer in wide.columns.drop(FIRST):
            difference = (group[scorer] - group[FIRST]).to_numpy()
            interval = mean_interval(difference, seed=seed)
            row = {"scorer": scorer, "k": k, "measure": measure, "n": interval.n} | interval.columns("effect")
            rows.append(
                row | {"p": sign_flip_test(difference, seed=seed), "minimum_effect": minimum_effect(difference)}
            )
    columns = ["scorer", "k", "measure", "n", "effect", "effect_low", "effect_high", "p", "minimum_effect"]
    table = judged(pd.DataFrame(rows, columns=columns))
    n_tests = len(table) // max(1, table["measure"].nunique())
    smallest = [Design(n_tests, n, NO_CONTROL_TEST).smallest_p for n in table["n"]]
    table["smallest_p"] = smallest
    table.loc[table["smallest_p"] >= LEVEL, "verdict"] = CANNOT_BE_SHOWN
    return table
