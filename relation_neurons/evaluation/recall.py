"""Factual recall: a model's answers, and probabilities and ranks of the correct ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from relation_neurons.errors import refuse
from relation_neurons.evaluation.answers import RULES
from relation_neurons.evaluation.scoring import Answers, candidate_tokens, rows_of
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import Cache
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import PROMPT_COLUMNS, Prompt
from relation_neurons.prompts.tokenization import encode
from relation_neurons.relations.relation import UNPAIRED_SURROGATE
from relation_neurons.statistics.formatting import count_text
from relation_neurons.validation import validated

RESERVED = {
    *("condition", *PROMPT_COLUMNS, "generated", "error", "logprob"),
    *("first_token_rank", "object_rank", "n_candidates", *(f"correct_{rule}" for rule in RULES)),
}
"""Columns of the table, which no label may have as its name."""


@validated
@dataclass(frozen=True)
class Condition:
    """Prompts and the interventions under which the model answers them.

    Attributes:
        name: Name of the condition in the table.
        prompts: The prompts.
        interventions: The interventions; none leaves the model unchanged.
        labels: Further columns of the table, such as `{"ablated": "country_capital", "draw": 3}`; all
            conditions of a table have the same ones.
    """

    name: str
    prompts: tuple[Prompt, ...]
    interventions: tuple[Intervention, ...] = ()
    labels: Mapping[str, object] = field(default_factory=dict, hash=False)

    def __repr__(self) -> str:
        interventions = ", ".join(map(repr, self.interventions)) or "no interventions"
        return f"Condition({self.name!r}, {count_text(len(self.prompts), 'prompt')}, {interventions})"


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
    """Evaluate a model's recall of facts; inside `with ablate(...)`, that of the ablated model.

    Args:
        model: A model from `load_model`.
        prompts: Evaluation prompts.
        condition: Name of the condition in the table.
        generate: Whether to generate answers; see `recall_under`.
        max_new_tokens: Tokens per answer; see `recall_under`.
        batch_size: Prompts per batch; by default as many as fit in memory. Results do not depend on
            it.
        progress: Called with the number of finished prompts.

    Returns:
        The table of `recall_under`, a row per prompt, in order.

    Raises:
        RelationNeuronsError: There are no prompts, or they cannot be encoded (see `encode`).
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
    """Evaluate a model's recall of facts under many conditions.

    All conditions are batched together. Results equal those of separate conditions and of one
    prompt at a time.

    Args:
        model: A model from `load_model`.
        conditions: The conditions, each with its prompts.
        generate: Whether to generate answers. If false, each prompt takes one forward pass, which
            still yields the rule `prefix`, the log-probability and the ranks.
        max_new_tokens: Tokens per answer; by default one more than the object, or the longest of the
            relation's objects that begin with it, has; at least 2 and at most 12, and only up to the
            end of the line.
        batch_size: Prompts per batch; by default as many as fit in memory. Results do not depend on
            it.
        progress: Called with the number of finished prompts.

    Returns:
        A row per condition and prompt, in order, with columns
        `condition`, the labels of the conditions, `relation`, `subject`, `object`, `template`,
        `language`;
        `fact`: identifier of the fact in its relation, the same in every language and template;
        `unit`: the subject in the relation's original language, whose facts are one unit in
        statistics;
        `generated`: the greedy answer;
        `correct_<rule>`: whether it is correct by each of
        `relation_neurons.evaluation.answers.RULES`;
        `error`: the kind of answer, one of `relation_neurons.evaluation.answers.ERROR_KINDS`;
        `logprob`: log-probability of the whole object as the continuation, in nats;
        `first_token_rank`: 1 + the number of tokens more probable than the object's first token;
        `object_rank`: 1 + the number of the relation's objects with a first token more probable than
        that of the correct object (objects with equal first tokens share a rank), of `n_candidates`.
        Without `generate`, `correct_prefix` is the only column on answers.

    Raises:
        RelationNeuronsError: There are no prompts, the model lacks a neuron, an intervention was not
            applied as intended, or prompts cannot be encoded (see `encode`).
    """
    _check_conditions(conditions, max_new_tokens)
    items = [(number, prompt) for number, condition in enumerate(conditions) for prompt in condition.prompts]
    unique = list(dict.fromkeys(prompt for _, prompt in items))
    encoded = dict(zip(unique, encode(model, unique), strict=True))
    _require_room(model, max(len(prompt.ids) for prompt in encoded.values()), max_new_tokens)
    tasks = [
        Task(encoded[prompt], number, 0 if generate else max(1, len(encoded[prompt].object_ids) - 1))
        for number, prompt in items
    ]
    candidates, answers = candidate_tokens(model, unique), Answers(generate, max_new_tokens)

    def read_batch(batch: Batch, cache: Cache) -> list[dict[str, object]]:
        return rows_of(model, batch, cache, [items[row][1] for row in batch.rows], candidates, answers)

    with rows_under(model, [condition.interventions for condition in conditions]) as patches:
        rows = run_batches(model, tasks, read_batch, patches=patches, batch_size=batch_size, progress=progress)
    labels = [{"condition": conditions[number].name, **conditions[number].labels} for number, _ in items]
    return pd.DataFrame([named | row for named, row in zip(labels, rows, strict=True)])


def _check_conditions(conditions: Sequence[Condition], max_new_tokens: int | None) -> None:
    names = [condition.name for condition in conditions]
    for name in filter(UNPAIRED_SURROGATE.search, names):
        raise refuse(f"The name of a condition is {name!r}", expected="a text without unpaired surrogates")
    if len(set(names)) < len(names):
        raise refuse("Two conditions have the same name", expected=f"distinct names, not {names[:5]}")
    labels = {tuple(condition.labels) for condition in conditions}
    if len(labels) > 1 or RESERVED.intersection(*labels):
        expected = f"the same labels in every condition, none of them among {', '.join(sorted(RESERVED))}"
        raise refuse(f"The labels of conditions are {sorted(labels)}", expected=expected)
    if not conditions or not all(condition.prompts for condition in conditions):
        raise refuse("There are no prompts", expected="at least one for each condition")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise refuse(f"max_new_tokens is {max_new_tokens}", expected="at least 1")


def _require_room(model: HookedModel, longest: int, max_new_tokens: int | None) -> None:
    """Refuse answers that do not fit in the context after the longest prompt."""
    if max_new_tokens is not None and longest + max_new_tokens > model.cfg.n_ctx:
        raise refuse(
            f"max_new_tokens is {max_new_tokens}",
            expected=f"at most {model.cfg.n_ctx - longest}: the longest prompt has {longest} of the model's "
            f"{model.cfg.n_ctx} tokens",
        )
