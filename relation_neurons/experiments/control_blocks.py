"""The control sets of a family of tests: all at once, or block by block until no effect can be shown any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from relation_neurons.experiments.case import Case
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.statistics.sequential import Futility, blocks

Changes = Callable[[Sequence[Case]], pd.DataFrame]
"""Such as `Study.changes`."""


def control_changes(
    changes: Changes,
    cases: Sequence[Case],
    drawn: Sequence[Sequence[NeuronSet]],
    start: int = 0,
    stop: int | None = None,
) -> pd.DataFrame:
    """The changes under some of the control sets of every case, with their number as the label `draw`."""
    return changes(
        [
            replace(case, neurons=control, labels={**case.labels, "draw": start + number})
            for case, sets in zip(cases, drawn, strict=True)
            for number, control in enumerate(sets[start:stop])
        ]
    )


def until_futile(
    changes: Changes,
    cases: Sequence[Case],
    drawn: Sequence[Sequence[NeuronSet]],
    own: pd.DataFrame,
    *,
    by_relation: bool,
    seed: int,
) -> tuple[pd.DataFrame, str]:
    """The control sets' changes, block by block, until no case can be shown to have an effect.

    Args:
        changes: Answers cases.
        cases: A family of tests.
        drawn: Their control sets, as many for each.
        own: The changes of the cases themselves.
        by_relation: Whether the facts of each relation are tested apart.
        seed: Of the sign flips.

    Returns:
        The changes, with a column `planned`, and a sentence if they stopped early.
    """
    by, n = [*cases[0].labels, *(["relation"] if by_relation else [])], len(drawn[0])
    rule = Futility(_tested(own, by_relation), by=by, n_planned=n, seed=seed)
    parts: list[pd.DataFrame] = []
    said = ""
    for start, stop in blocks(n):
        parts.append(control_changes(changes, cases, drawn, start, stop))
        if stop < n and rule.reached(pd.concat([_tested(part, by_relation) for part in parts])):
            said = f"Stopped after {stop} of {n} control sets: no more of them could let an effect be shown."
            break
    return pd.concat(parts, ignore_index=True).assign(planned=n), said


def _tested(answers: pd.DataFrame, by_relation: bool) -> pd.DataFrame:
    """All answers, or those to facts of relations other than the one whose neurons are ablated."""
    return answers[answers["ablated"] != answers["relation"]] if by_relation else answers
