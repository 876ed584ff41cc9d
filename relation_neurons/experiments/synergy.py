"""What a relation's neurons do together beyond the sum of what disjoint parts of them do alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.statistics.effects import RATIO, compare
from relation_neurons.statistics.intervals import share_of_drop
from relation_neurons.statistics.pooled_effects import ALL, pooled_effects

WHOLE = "whole"
SPLITS = ("blocks", "interleaved")
"""Consecutive ranks, or every n-th neuron, so that parts are alike in rank."""
SCALES = ("logprob", "log_odds")
"""Scales of synergy: log-probability of the object, and log of its probability over that of everything else."""
LEAST_DOUBT = 1e-7
"""Probabilities are taken to be at least this far from 1, about what 32 bits resolve."""


def synergy(study: Study, n_parts: int, n_controls: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """For each fact, the change under the whole set minus the sum of the changes under its parts.

    Accuracy is left out: a right answer can be lost once only, so that parts lose more than the whole by arithmetic.
    A log-probability has a ceiling, too, at 0: where an answer is near certain, small losses do not show and large ones
    do, so that even neurons whose contributions to logits simply add up do more together. Log-odds have no ceiling.
    On both scales control sets are split in the same way; they show what the arithmetic does to random sets.

    Args:
        study: Its k neurons are split, into fewer parts where k is less than `n_parts`.
        n_parts: Disjoint parts of equal size (to within one neuron).
        n_controls: Control sets of each relation.

    Returns:
        Two tables of `effects.compare`, by `ablated` and `split`, and pooled over relations; `effect` is the synergy,
        below 0 where the whole does more than its parts. Both have `whole`, the mean change under the whole, and
        `ratio` with its interval, the synergy as a share of it (NaN where the whole does not lower the measure).
    """
    answers, drawn = part_answers(study, n_parts, n_controls)
    whole, random = interaction(answers), interaction(drawn)
    by, seed = ["ablated", "split"], study.config.seed
    table = compare(whole, random, by=by, measures=SCALES, seed=seed)
    over_all = pooled_effects(whole, random, by=by, measures=SCALES, seed=seed)
    return _with_shares(table, answers, whole, seed), _with_shares(over_all, answers, whole, seed)


def part_answers(study: Study, n_parts: int, n_controls: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers under the whole set of each relation and under its parts, and those under its control sets."""
    own, controls = [], []
    for name in study.names:
        target, prompts = study.target(name), study.evaluation(name)
        for (split, piece), part in parts(target, n_parts).items():
            own.append(Case(part, prompts, {"ablated": name, "split": split, "piece": piece}))
        for draw, control in enumerate(study.controls(target, n=n_controls)):
            for (split, piece), part in parts(control, n_parts).items():
                labels = {"ablated": name, "split": split, "piece": piece, "draw": draw}
                controls.append(Case(part, prompts, labels))
    study.announce([case for case in own if case.labels["piece"] == WHOLE], n_controls, pooled=True)
    return _with_log_odds(study.changes(own)), _with_log_odds(study.changes(controls))


def parts(neurons: NeuronSet, n_parts: int) -> dict[tuple[str, str], NeuronSet]:
    """The whole set and its parts, by the way of splitting."""
    n = min(n_parts, len(neurons))
    ends = np.linspace(0, len(neurons), n + 1).round().astype(int).tolist()
    found = {}
    for split in SPLITS:
        found[split, WHOLE] = neurons
        for part in range(n):
            slices = {"blocks": slice(ends[part], ends[part + 1]), "interleaved": slice(part, None, n)}
            found[split, f"part {part + 1}"] = neurons[slices[split]]
    return found


def _with_log_odds(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers with the columns of a second measure, the log-odds of the whole object."""
    before, after = (_log_odds(answers[name]) for name in ("clean_logprob", "logprob"))
    return answers.assign(clean_log_odds=before, d_log_odds=after - before)


def _log_odds(logprob: pd.Series) -> pd.Series:
    bounded = logprob.astype(float).clip(upper=float(np.log1p(-LEAST_DOUBT)))
    return bounded - np.log(-np.expm1(bounded))


def interaction(answers: pd.DataFrame) -> pd.DataFrame:
    """Change under the whole minus the changes under the parts, in the columns of `Study.changes`.

    Args:
        answers: With the labels `ablated`, `split` and `piece`, and of control sets `draw`.
    """
    keys = [key for key in ("ablated", "split", "draw", "relation", "fact", "unit", "template") if key in answers]
    sign = np.where(answers["piece"] == WHOLE, 1, -1)
    changes = [f"d_{measure}" for measure in SCALES]
    signed = answers.assign(**{name: answers[name] * sign for name in changes})
    clean = {f"clean_{measure}": "first" for measure in SCALES}
    return signed.groupby(keys, sort=False).agg(clean | dict.fromkeys(changes, "sum")).reset_index()


def _with_shares(table: pd.DataFrame, answers: pd.DataFrame, beyond: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The change under the whole set, and the synergy as a share of it, beside each row."""
    whole, unit, rows = answers[answers["piece"] == WHOLE], ["relation", "unit"], []
    for row in table.to_dict("records"):
        here, there = (
            part[(part["split"] == row["split"]) & ((part["ablated"] == row["ablated"]) | (row["ablated"] == ALL))]
            .groupby(unit, sort=False)[f"d_{row['measure']}"]
            .mean()
            for part in (beyond, whole)
        )
        share = share_of_drop(here.to_numpy(), there.reindex(here.index).to_numpy(), seed=seed)
        rows.append([float(there.mean()), *share[:3]])
    return pd.concat([table, pd.DataFrame(rows, columns=["whole", *RATIO])], axis=1)
