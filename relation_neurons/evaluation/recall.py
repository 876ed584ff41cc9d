"""Factual recall: what a model answers, and how probable it finds the right answer, under any number of conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from relation_neurons.errors import refuse
from relation_neurons.evaluation.scoring import Answers, first_tokens, rows_of
from relation_neurons.inference.batching import Batch, Task, stream
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import Cache
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode
from relation_neurons.relations.relation import UNPAIRED_SURROGATE
from relation_neurons.validation import validated


@validated
@dataclass(frozen=True)
class Condition:
    """A state of the model and what to ask in it.

    Attributes:
        name: What to call it in the table.
        prompts: What is asked.
        interventions: What is written while it is asked; nothing leaves the model as it is.
    """

    name: str
    prompts: tuple[Prompt, ...]
    interventions: tuple[Intervention, ...] = ()


@validated
def recall(
    model: HookedModel,
    prompts: Sequence[Prompt],
    *,
    condition: str = "clean",
    generate: bool = True,
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Ask a model for facts; inside `with ablate(...)`, ask the ablated model.

    Args:
        model: A model from `load_model`.
        prompts: Evaluation prompts.
        condition: What to call the state of the model in the table.
        generate: Whether to let the model answer; see `recall_under`.
        max_new_tokens: Tokens of each answer; by default as many as the object has and one more, to the line's end.
        batch_size: Prompts at a time; by default what memory holds. Results do not depend on it.
        progress: Called with the number of prompts finished.

    Returns:
        The table of `recall_under`, a row per prompt, in order.

    Raises:
        RelationNeuronsError: No prompts, or tokens that do not fit (see `encode`).
    """
    return recall_under(
        model,
        [Condition(condition, tuple(prompts))],
        generate=generate,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        progress=progress,
    )


@validated
def recall_under(
    model: HookedModel,
    conditions: Sequence[Condition],
    *,
    generate: bool = True,
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Ask a model for facts under many conditions, as one stream of batches in which each row has its own.

    Results equal those of one condition after the other and one prompt at a time.

    Args:
        model: A model from `load_model`.
        conditions: What to ask, in which states of the model.
        generate: Whether to let the model answer. Without, each prompt takes one forward pass, which still gives the
            verdict of the rule `prefix`, the log-probability and the ranks.
        max_new_tokens: Tokens of each answer; by default as many as the object has and one more, at least 2 and at most
            12, up to the end of the line.
        batch_size: Prompts at a time; by default what memory holds. Results do not depend on it.
        progress: Called with the number of prompts finished.

    Returns:
        A row per condition and prompt, in order, with columns
        `condition`, `relation`, `subject`, `object`, `template`, `language`;
        `fact`: the subject in the relation's own language;
        `generated`: the greedy answer;
        `correct_<rule>`: right by each of `relation_neurons.evaluation.answers.RULES`;
        `error`: the kind of answer, one of `relation_neurons.evaluation.answers.ERROR_KINDS`;
        `logprob`: of the whole object as the continuation, in nats;
        `first_token_rank`: 1 + how many tokens are more probable than the object's first one;
        `object_rank`: 1 + how many other objects of the relation have a first token more probable than the right one's
        (objects that begin alike share a rank), of `n_candidates`.
        Without `generate` only `correct_prefix` of the answers.

    Raises:
        RelationNeuronsError: No prompts, neurons that the model does not have, an intervention that did not fire as it
            should, or tokens that do not fit (see `encode`).
    """
    _require_askable(conditions, max_new_tokens)
    asked = [(number, prompt) for number, condition in enumerate(conditions) for prompt in condition.prompts]
    unique = list(dict.fromkeys(prompt for _, prompt in asked))
    encoded = dict(zip(unique, encode(model, unique), strict=True))
    _require_room(model, max(len(one.ids) for one in encoded.values()), max_new_tokens)
    tasks = [
        Task(encoded[prompt], number, 0 if generate else max(1, len(encoded[prompt].object_ids) - 1))
        for number, prompt in asked
    ]
    candidates, answers = first_tokens(model, unique), Answers(generate, max_new_tokens)
    rows: list[dict[str, object]] = [{}] * len(tasks)

    def work(batch: Batch, cache: Cache) -> None:
        results = rows_of(model, batch, cache, [asked[row][1] for row in batch.rows], candidates, answers)
        for row, result in zip(batch.rows, results, strict=True):
            rows[row] = {"condition": conditions[asked[row][0]].name} | result

    with rows_under(model, [condition.interventions for condition in conditions]) as writer:
        stream(model, tasks, work, writer=writer, batch_size=batch_size, progress=progress)
    return pd.DataFrame(rows)


def _require_askable(conditions: Sequence[Condition], max_new_tokens: int | None) -> None:
    names = [condition.name for condition in conditions]
    for name in filter(UNPAIRED_SURROGATE.search, names):
        raise refuse(f"The name of a condition is {name!r}", expected="a text without unpaired surrogates")
    if len(set(names)) < len(names):
        raise refuse("Two conditions have the same name", expected=f"different ones, not {names[:5]}")
    if not conditions or not all(condition.prompts for condition in conditions):
        raise refuse("There are no prompts", expected="at least one for each condition")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise refuse(f"max_new_tokens is {max_new_tokens}", expected="at least 1")


def _require_room(model: HookedModel, longest: int, max_new_tokens: int | None) -> None:
    """Refuse longer answers than fit behind the longest prompt."""
    if max_new_tokens is not None and longest + max_new_tokens > model.cfg.n_ctx:
        raise refuse(
            f"max_new_tokens is {max_new_tokens}",
            expected=f"at most {model.cfg.n_ctx - longest}: the longest prompt has {longest} of the model's "
            f"{model.cfg.n_ctx} tokens",
        )
