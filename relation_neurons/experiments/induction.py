"""Sufficiency: a relation's neurons set to their usual values while other relations' prompts are asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from relation_neurons.evaluation.first_tokens import Choice, Tokens, first_token_log_odds, first_tokens, only_in
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.interventions.values import Value
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.prompts import Prompt, first_facts
from relation_neurons.statistics.effects import compare

STEM = "The answer is"
"""A beginning that asks for nothing."""
MEASURE = "log_odds"
LABELS = ["scorer", "induced", "asked", "draw"]


@dataclass(frozen=True)
class Question:
    """Prompts, and the first tokens of what is induced and of what is asked, without those that both have."""

    induced: str
    asked: str
    prompts: tuple[Prompt, ...]
    these: Tokens
    those: Tokens


def induction(
    study: Study, on: Mapping[str, Value], scorers: Sequence[str], *, n_controls: int, n_asked: int | None
) -> dict[str, pd.DataFrame]:
    """Set each relation's neurons, at every position, to their medians over its own detection prompts.

    The measure is the log-odds, in nats, that the token behind a prompt is the first one of an object of the induced
    relation rather than of the relation that is asked; first tokens of both are left out, and pairs that have no other.

    Args:
        study: The study, whose k it is.
        on: The medians.
        scorers: What neurons are ranked by.
        n_controls: Control sets of each; they are set to their own medians over the same prompts.
        n_asked: Facts of each asked relation; None for all evaluation facts.

    Returns:
        Tables `induction`, from `effects.compare` of the log-odds by `scorer` and `induced`, over the facts of all
        other relations; `pairs`, the same by `asked` relation as well; `ranges`, per scorer and induced relation the
        share of prompts behind which its first tokens are together more probable than the asked relation's: `clean`,
        `own` and `random`; `stem`, per scorer and induced relation the change in log-odds behind a sentence that asks
        for nothing, against the first tokens of all other relations: `clean`, `effect`, and the `random`, `_min` and
        `_max` of control sets. Tables of pairs are empty if no two relations have different first tokens.
    """
    questions, stems = _questions(study, n_asked), _stems(study)
    if not questions and not stems:
        return dict.fromkeys(("induction", "pairs", "ranges", "stem"), pd.DataFrame())
    read = _read(study, on, scorers, [*questions, *stems], n_controls)
    stem = read["asked"] == ""
    answers, seed = read[~stem], study.config.seed
    if answers.empty:
        nothing = pd.DataFrame()
        return {"induction": nothing, "pairs": nothing, "ranges": nothing, "stem": _stem_table(read[stem])}
    own = answers["draw"] == -1
    by_relation, by_pair = (
        compare(answers[own], answers[~own], by=by, measures=[MEASURE], seed=seed)
        for by in (["scorer", "induced"], ["scorer", "induced", "asked"])
    )
    return {
        "induction": by_relation,
        "pairs": by_pair,
        "ranges": _ranges(answers),
        "stem": _stem_table(read[stem]),
    }


def _questions(study: Study, n_asked: int | None) -> list[Question]:
    """Every ordered pair of relations that differ in first tokens."""
    asked = first_facts(study.evaluation(), n_asked)
    objects = {name: study.evaluation(name)[0].candidates for name in study.names}
    found = []
    for name in study.names:
        prompts = tuple(prompt for prompt in asked if prompt.relation == name)
        tokens = {other: first_tokens(study.model, prompts[0], objects[other]) for other in study.names}
        for induced in study.names:
            these, those = only_in(tokens[induced], tokens[name])
            if induced != name and these and those:
                found.append(Question(induced, name, prompts, these, those))
    return found


def _stems(study: Study) -> list[Question]:
    """The same sentence for each relation, whose first tokens stand against those of all others."""
    prompt = Prompt(relation="", subject="", object="", text=STEM)
    objects = {name: study.evaluation(name)[0].candidates for name in study.names}
    tokens = {name: first_tokens(study.model, prompt, objects[name]) for name in study.names}
    found = []
    for name in study.names:
        others = frozenset().union(*(tokens[other] for other in study.names if other != name))
        these, those = only_in(tokens[name], others)
        if these and those:
            found.append(Question(name, "", (prompt,), these, those))
    return found


def _read(
    study: Study, on: Mapping[str, Value], scorers: Sequence[str], questions: Sequence[Question], n_controls: int
) -> pd.DataFrame:
    """The log-odds of each question in the clean model and under each set, kept with the study.

    Returns:
        A row per scorer, question, draw (-1 for the relation's own neurons) and prompt: `LABELS`, `relation` and `unit`
        of the prompt, `clean_log_odds`, `log_odds` and `d_log_odds`.
    """
    sets = {}
    for scorer in scorers:
        selection = replace(study.selection, scorer=scorer)
        for name in study.names:
            target = study.target(name, selection=selection)
            sets[scorer, name] = [target, *study.controls(target, n=n_controls, selection=selection)]
    _announce(study, scorers, questions, n_controls)
    written = list(_written(scorers, questions, sets))

    def written_at(one: Question, neurons: NeuronSet) -> Intervention:
        return Intervention(neurons, on[one.induced], bos=study.config.include_bos)

    def read() -> pd.DataFrame:
        choices = [Choice(one.prompts, None, one.these, one.those) for one in questions]
        choices += [
            Choice(one.prompts, written_at(one, neurons), one.these, one.those) for _, one, _, neurons in written
        ]
        with study.show("inducing answers", sum(len(choice.prompts) for choice in choices)) as progress:
            read = partial(first_token_log_odds, choices=choices, batch_size=study.config.batch_size)
            values = study.pool.call(read, progress)
        ends = np.cumsum([len(choice.prompts) for choice in choices])[:-1]
        parts = np.split(np.array(values), ends)
        clean = dict(zip((id(one) for one in questions), parts, strict=False))
        rows = [
            (scorer, one.induced, one.asked, draw, prompt.relation, prompt.columns["unit"], before, after)
            for (scorer, one, draw, _), found in zip(written, parts[len(questions) :], strict=True)
            for prompt, before, after in zip(one.prompts, clean[id(one)], found, strict=True)
        ]
        return pd.DataFrame(rows, columns=[*LABELS, "relation", "unit", f"clean_{MEASURE}", MEASURE])

    made_from = [(scorer, one, draw, list(neurons)) for scorer, one, draw, neurons in written]
    table = study.table("faithfulness/induced", read, made_from)
    return table.assign(**{f"d_{MEASURE}": table[MEASURE] - table[f"clean_{MEASURE}"]})


def _written(
    scorers: Sequence[str], questions: Sequence[Question], sets: Mapping[tuple[str, str], Sequence[NeuronSet]]
) -> Iterator[tuple[str, Question, int, NeuronSet]]:
    """Which neurons are set in which question; draw -1 are the relation's own."""
    for scorer in scorers:
        for one in questions:
            for draw, neurons in enumerate(sets[scorer, one.induced], start=-1):
                yield scorer, one, draw, neurons


def _announce(study: Study, scorers: Sequence[str], questions: Sequence[Question], n_controls: int) -> None:
    """Say what the tests of `induction` and of `pairs` can show."""
    for labels in (("induced",), ("induced", "asked")):
        cases = [
            Case(
                study.target(one.induced),
                one.prompts,
                {"scorer": scorer} | {name: getattr(one, name) for name in labels},
            )
            for scorer in scorers
            for one in questions
            if one.asked
        ]
        study.announce(cases, n_controls)


def _ranges(answers: pd.DataFrame) -> pd.DataFrame:
    """The share of prompts behind which the induced relation's first tokens are more probable."""
    rows = []
    for (scorer, induced), group in answers.groupby(["scorer", "induced"], sort=False):
        own = group["draw"] == -1
        shares = {"clean": group.loc[own, f"clean_{MEASURE}"], "own": group.loc[own, MEASURE]}
        shares["random"] = group.loc[~own, MEASURE]
        row = {"scorer": scorer, "induced": induced, "n": int(own.sum())}
        rows.append(row | {name: float((values > 0).mean()) for name, values in shares.items()})
    return pd.DataFrame(rows)


def _stem_table(answers: pd.DataFrame) -> pd.DataFrame:
    """One prompt of each relation, so that there is no interval over facts."""
    rows = []
    for (scorer, induced), group in answers.groupby(["scorer", "induced"], sort=False):
        own, random = (group.loc[(group["draw"] == -1) == is_own] for is_own in (True, False))
        drawn = random[f"d_{MEASURE}"]
        row = {"scorer": scorer, "induced": induced, "clean": own[f"clean_{MEASURE}"].item()}
        row |= {"effect": own[f"d_{MEASURE}"].item(), "n_controls": len(drawn)}
        rows.append(row | {"random": drawn.mean(), "random_min": drawn.min(), "random_max": drawn.max()})
    return pd.DataFrame(rows)
