"""What a model is asked in a study: answers to prompts and losses on texts, in batches that stand by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import pandas as pd

from relation_neurons.evaluation.perplexity import N_LOGITS, encode_predicted, losses
from relation_neurons.evaluation.recall import Condition, recall_under
from relation_neurons.inference.batch_plan import Task, batches_of
from relation_neurons.inference.batching import rows_that_fit
from relation_neurons.inference.units import Pool
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.models.types import HookedModel
from relation_neurons.prompts.prompts import PROMPT_COLUMNS, Prompt
from relation_neurons.prompts.tokenization import Encoded, encode

KINDS = ("given", "generated", "losses")
"""Answers given by probabilities alone, answers generated as well, and losses on texts."""
INDEX = ["state", "prompt"]
"""Columns of what a model was in, and what it was asked, each by its digest."""
JUDGED = 3
"""Positions of each row that are unembedded for an answer, in the estimate of memory."""


class Question(NamedTuple):
    """What a model is asked.

    Attributes:
        state: Digest of the intervention.
        prompt: Digest of what is asked.
        intervention: None for the clean model.
        asked: A prompt, or a text whose loss is wanted.
    """

    state: str
    prompt: str
    intervention: Intervention | None
    asked: Prompt | str


@dataclass(frozen=True)
class Ask:
    """Asks a batch of questions of one kind."""

    kind: str

    def __call__(self, model: HookedModel, questions: Sequence[Question]) -> pd.DataFrame:
        """The answers by state and prompt, a row per question; the batch is read as a whole and alone."""
        by_state: dict[str, list[Question]] = {}
        for one in questions:
            by_state.setdefault(one.state, []).append(one)
        ordered = [one for group in by_state.values() for one in group]
        answers = _read_texts(model, by_state) if self.kind == "losses" else self._recall(model, by_state)
        answers.insert(0, "state", [one.state for one in ordered])
        answers.insert(1, "prompt", [one.prompt for one in ordered])
        return answers

    def _recall(self, model: HookedModel, by_state: dict[str, list[Question]]) -> pd.DataFrame:
        conditions = [
            Condition(state, tuple(cast(Prompt, one.asked) for one in group), _written(group))
            for state, group in by_state.items()
        ]
        n_rows = sum(map(len, by_state.values()))
        table = recall_under(model, conditions, generate=self.kind == "generated", batch_size=n_rows)
        return table.drop(columns=["condition", *PROMPT_COLUMNS])


def plan_batches(pool: Pool, model: HookedModel, kind: str, questions: Sequence[Question], size: int | None) -> Batches:
    """Cut questions into batches, before any of them is asked.

    Args:
        pool: Says how many rows fit into its memory.
        model: For its tokenizer and its configuration.
        kind: Of `KINDS`.
        questions: At least one.
        size: The most questions of a batch; by default what memory holds.

    Raises:
        RelationNeuronsError: Questions that cannot be encoded.
    """
    states = {state: number for number, state in enumerate(dict.fromkeys(one.state for one in questions))}
    encoded = _encoded(model, kind, [one.asked for one in questions])
    after = [max(1, len(one.object_ids) - 1) if kind == "given" else 0 for one in encoded]
    tasks = [Task(one, states[asked.state], n) for one, asked, n in zip(encoded, questions, after, strict=True)]
    if size is None:
        longest = max(len(task.encoded.ids) + task.n_after for task in tasks)
        n_logits = N_LOGITS if kind == "losses" else JUDGED
        size = pool.call(partial(rows_that_fit, n_tokens=longest, n_logits=n_logits))
    return [[questions[row] for row in batch] for batch in batches_of(model, tasks, size)]


Batches = list[list[Question]]


def _encoded(model: HookedModel, kind: str, asked: Sequence[Prompt | str]) -> list[Encoded]:
    """Tokens of each; what is asked under many states is encoded once."""
    unique: list[Any] = list(dict.fromkeys(asked))
    encoded = encode_predicted(model, unique) if kind == "losses" else encode(model, unique)
    known = dict(zip(unique, encoded, strict=True))
    return [known[one] for one in asked]


def _read_texts(model: HookedModel, by_state: dict[str, list[Question]]) -> pd.DataFrame:
    rows = [(number, one.asked) for number, group in enumerate(by_state.values()) for one in group]
    encoded = _encoded(model, "losses", [text for _, text in rows])
    numbered = [(number, one) for (number, _), one in zip(rows, encoded, strict=True)]
    nll = losses(model, numbered, [_written(group) for group in by_state.values()], batch_size=len(rows))
    return pd.DataFrame({"n_tokens": [len(one.ids) - 1 for one in encoded], "nll": nll})


def _written(group: Sequence[Question]) -> tuple[Intervention, ...]:
    return () if group[0].intervention is None else (group[0].intervention,)
