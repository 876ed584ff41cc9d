"""Single facts that gained under another relation's ablation: their answers, and what the ablated neurons wrote."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from relation_neurons.attribution.direct_margins import direct_margins
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.gains import PAIR
from relation_neurons.experiments.study import Study
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.statistics.effects import RISES
from relation_neurons.statistics.intervals import mean_interval

PROMPT = [*PAIR, "fact", "template"]
TOP_OF_PAIR, TOP, MOST = 5, 20, 100
"""Facts listed of each pair with a verdict, of all pairs where none has one, and at most."""
GAINED = ["ablated", "relation", "subject", "object", "fact", "unit", "template", "answer_before", "answer_after"]
COLUMNS = [*GAINED, "gain", "turned_right", "rival", "written"]
MECHANISM = ["ablated", "relation", "n", "contribution", "contribution_low", "contribution_high", "against"]


def choose_gained(answers: pd.DataFrame, controls: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """The rows of prompts that turned right, and of those that gained most.

    Args:
        answers: As for `gains.gain_table`.
        controls: As there.
        gains: The table made there.

    Returns:
        At most `MOST` rows of `answers`, the largest gain first, with `gain`, beyond the mean under control sets: those
        whose answer turned right, and the `TOP_OF_PAIR` largest gains of each pair with a verdict, or, where no pair
        has one, the `TOP` largest of all.
    """
    gain = answers["d_logprob"]
    if len(controls):
        random = controls.groupby(PROMPT, sort=False)["d_logprob"].mean()
        gain = gain - random.reindex(pd.MultiIndex.from_frame(answers[PROMPT])).to_numpy()
    rows = answers.assign(gain=gain).sort_values("gain", ascending=False, kind="stable")
    higher, shown = rows[rows["gain"] > 0], gains[gains["verdict"] == RISES]
    with_verdict = pd.MultiIndex.from_frame(higher[PAIR]).isin(pd.MultiIndex.from_frame(shown[PAIR]))
    top = higher[with_verdict].groupby(PAIR, sort=False).head(TOP_OF_PAIR) if len(shown) else higher.head(TOP)
    return rows[(rows["d_correct"] > 0) | rows.index.isin(top.index)].head(MOST)


def gained_facts(
    study: Study, chosen: pd.DataFrame, prompts: Sequence[Prompt], n_controls: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The answers of some prompts before and after, and whether the ablated set had promoted a rival of the object.

    Args:
        study: Its targets were ablated.
        chosen: From `choose_gained`.
        prompts: That of each row of `chosen`.
        n_controls: Matched random sets whose direct contributions are averaged.

    Returns:
        Table `gained`, a row per prompt: `ablated`, `relation`, `subject`, `object`, `fact`, `unit`, `template`, the
        greedy `answer_before` and `answer_after`, `gain` in nats beyond random sets, `turned_right`, `rival`, the most
        probable first token but for the object's, and `written`, what the set writes towards the object's first token
        less that towards the rival's, in logits (see `direct_margins`). Table `mechanism`, a row per pair: `n` facts;
        `contribution`, the mean of `written` over them, with interval; `against`, facts where it is below 0;
        `n_controls` and `random`, their mean on the same facts; and `change`, the mean change of that margin when the
        set is ablated. The facts were chosen for their gain; a contribution describes them.
    """
    if chosen.empty:
        return pd.DataFrame(columns=COLUMNS), pd.DataFrame(columns=[*MECHANISM, "n_controls", "random", "change"])
    before, after = _answers(study, list(chosen["ablated"]), prompts)
    written = _margins(study, list(chosen["ablated"]), prompts, n_controls)
    table = chosen.reset_index(drop=True).assign(
        answer_before=before, answer_after=after, turned_right=chosen["d_correct"].to_numpy() > 0
    )
    table = pd.concat([table, written], axis=1)
    return table[COLUMNS], _mechanism(table, n_controls, study.config.seed)


def _answers(study: Study, ablated: Sequence[str], prompts: Sequence[Prompt]) -> tuple[list[str], list[str]]:
    """Generated answers of the clean model and with the sets ablated."""
    cases = [Case(study.target(name), (one,), {"ablated": name}) for name, one in zip(ablated, prompts, strict=True)]
    clean, changed = study.clean(prompts, generate=True), study.changes(cases, generate=True)
    return list(clean["generated"]), list(changed["generated"])


def _margins(study: Study, ablated: Sequence[str], prompts: Sequence[Prompt], n_controls: int) -> pd.DataFrame:
    """Of each prompt: the rival, what the set and on average its control sets write to the margin, and its change."""
    sets = {
        name: [study.target(name), *study.controls(study.target(name), n=n_controls)] for name in dict.fromkeys(ablated)
    }
    questions = [(neurons, one) for name, one in zip(ablated, prompts, strict=True) for neurons in sets[name]]
    found = study.pool.call(partial(direct_margins, questions=questions, batch_size=study.config.batch_size))
    rows = []
    for start in range(0, len(found), n_controls + 1):
        own, *random = found[start : start + n_controls + 1]
        at_random = float(np.mean([one.written for one in random])) if random else np.nan
        rival = study.model.tokenizer.decode([own.rival])
        rows.append({"rival": rival, "written": own.written, "random": at_random, "change": own.change})
    return pd.DataFrame(rows)


def _mechanism(table: pd.DataFrame, n_controls: int, seed: int) -> pd.DataFrame:
    rows = []
    for (ablated, relation), prompts in table.groupby(PAIR, sort=False):
        facts = prompts.groupby("unit", sort=False)[["written", "random", "change"]].mean()
        interval = mean_interval(facts["written"].to_numpy(), seed=seed)
        row = {"ablated": ablated, "relation": relation, "n": interval.n, **interval.columns("contribution")}
        row |= {"against": int((facts["written"] < 0).sum()), "n_controls": n_controls}
        rows.append(row | {"random": facts["random"].mean(), "change": facts["change"].mean()})
    return pd.DataFrame(rows)
