"""Factual recall: what a model answers, and how probable it finds the right answer, under any number of conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.answers import RULES, answer_is_over, error_kind, may_become_right, to_line_end
from relation_neurons.batches import Batch, Task, stream
from relation_neurons.encoding import encode
from relation_neurons.errors import refuse
from relation_neurons.generation import Judged, decode, greedy, judge, second_tokens
from relation_neurons.interventions import Intervention, rows_under
from relation_neurons.models import Cache
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts import Prompt
from relation_neurons.relations import HALF_CHARACTER

MAX_NEW_TOKENS = 12
"""Longest answer that is generated unless more is asked for."""

WHOLE_ANSWER_RULES = tuple(name for name, rule in RULES.items() if rule.tokens is None)


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


def recall(
    model: Any,
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


def recall_under(
    model: Any,
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
        `correct_<rule>`: right by each of `relation_neurons.answers.RULES`;
        `error`: the kind of answer, one of `relation_neurons.answers.ERROR_KINDS`;
        `logprob`: of the whole object as the continuation, in nats;
        `first_token_rank`: 1 + how many tokens are more probable than the object's first one;
        `object_rank`: 1 + how many other objects of the relation have a first token more probable than the right one's
        (objects that begin alike share a rank), of `n_candidates`.
        Without `generate` only `correct_prefix` of the answers.

    Raises:
        RelationNeuronsError: No prompts, neurons that the model does not have, an intervention that did not fire as it
            should, or tokens that do not fit (see `encode`).
    """
    names = [condition.name for condition in conditions]
    for name in filter(HALF_CHARACTER.search, names):
        raise refuse(f"The name of a condition is {name!r}", expected="a text of whole characters")
    if len(set(names)) < len(names):
        raise refuse("Two conditions have the same name", expected=f"different ones, not {names[:5]}")
    if not conditions or not all(condition.prompts for condition in conditions):
        raise refuse("There are no prompts", expected="at least one for each condition")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise refuse(f"max_new_tokens is {max_new_tokens}", expected="at least 1")
    asked = [(number, prompt) for number, condition in enumerate(conditions) for prompt in condition.prompts]
    unique = list(dict.fromkeys(prompt for _, prompt in asked))
    encoded = dict(zip(unique, encode(model, unique), strict=True))
    longest = max(len(one.ids) for one in encoded.values())
    if max_new_tokens is not None and longest + max_new_tokens > model.cfg.n_ctx:
        raise refuse(
            f"max_new_tokens is {max_new_tokens}",
            expected=f"at most {model.cfg.n_ctx - longest}: the longest prompt has {longest} of the model's "
            f"{model.cfg.n_ctx} tokens",
        )
    tasks = [
        Task(encoded[prompt], number, 0 if generate else max(1, len(encoded[prompt].object_ids) - 1))
        for number, prompt in asked
    ]
    candidates = _first_tokens(model, unique)
    rows: list[dict[str, object]] = [{}] * len(tasks)

    def work(batch: Batch, cache: Cache) -> None:
        prompts = [asked[row][1] for row in batch.rows]
        results = _ask(model, batch, cache, prompts, candidates, _Answers(generate, max_new_tokens))
        for row, result in zip(batch.rows, results, strict=True):
            rows[row] = {"condition": conditions[asked[row][0]].name} | result

    with rows_under(model, [condition.interventions for condition in conditions]) as writer:
        stream(model, tasks, work, writer=writer, batch_size=batch_size, progress=progress)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Answers:
    """Whether and for how many tokens the model is to answer."""

    generate: bool
    max_new_tokens: int | None

    def length(self, object_ids: Sequence[int]) -> int:
        return self.max_new_tokens or min(MAX_NEW_TOKENS, max(2, len(object_ids) + 1))

    def judge(self, said: str, prompt: Prompt) -> dict[str, object]:
        """An answer, what the rules that read the whole of it say, and of what kind it is."""
        line = to_line_end(said)
        right = prompt.object, prompt.aliases, prompt.language
        verdicts = {f"correct_{name}": RULES[name](line, *right) for name in WHOLE_ANSWER_RULES}
        query, (name, aliases, code) = prompt.text[prompt.query_start :], right
        error = error_kind(line, query, name, prompt.candidates, aliases, code)
        return {"generated": said if self.max_new_tokens else line, **verdicts, "error": error}


def _ask(
    model: Any,
    batch: Batch,
    cache: Cache,
    prompts: Sequence[Prompt],
    candidates: Mapping[tuple[str, ...], Sequence[int]],
    answers: _Answers,
) -> list[dict[str, object]]:
    """One batch: a pass over the prompts with their objects behind them, then the answers if they are wanted."""
    objects = [task.encoded.object_ids for task in batch.tasks]
    judged = judge(model, batch, cache, objects, aligned=answers.generate)
    said = _said(model, batch, cache, judged, prompts, answers)
    token_ranks = _ranks(judged.first, objects, None)
    object_ranks = _ranks(judged.first, objects, [candidates.get(prompt.candidates, ()) for prompt in prompts])
    logprobs = judged.logprobs.tolist()
    if any(map(math.isnan, logprobs)):
        raise refuse(
            "Some log-probabilities are NaN",
            do="check the model's weights, and what interventions write; float32 overflows later than float16",
        )
    two = decode(model, [ids[:2] for ids in said])
    judgements: list[dict[str, object]] = [{}] * len(prompts)
    if answers.generate:
        whole = decode(model, [ids[: answers.length(right)] for ids, right in zip(said, objects, strict=True)])
        judgements = [answers.judge(text, prompt) for text, prompt in zip(whole, prompts, strict=True)]
    return [
        {
            "relation": prompt.relation,
            "subject": prompt.subject,
            "object": prompt.object,
            "template": prompt.template,
            "language": prompt.language,
            "fact": prompt.fact or prompt.subject,
            "correct_prefix": RULES["prefix"](two[i], prompt.object),
            **judgements[i],
            "logprob": logprobs[i],
            "first_token_rank": token_ranks[i],
            "object_rank": object_ranks[i],
            "n_candidates": len(prompt.candidates),
        }
        for i, prompt in enumerate(prompts)
    ]


def _said(
    model: Any, batch: Batch, cache: Cache, judged: Judged, prompts: Sequence[Prompt], answers: _Answers
) -> list[list[int]]:
    """The first greedy tokens of each row: as many as are wanted, or as the verdict of two depends on."""
    first = judged.greedy
    if answers.generate:
        lengths = [max(2, answers.length(task.encoded.object_ids)) for task in batch.tasks]
        return greedy(model, first, cache, lengths, done=answer_is_over if answers.max_new_tokens is None else None)
    second = {row: token for row, token in enumerate(judged.second) if token is not None}
    texts, end = decode(model, [[token] for token in first]), model.tokenizer.eos_token_id
    undecided = {
        row: token
        for row, token in enumerate(first)
        if row not in second and token != end and may_become_right(texts[row], prompts[row].object)
    }
    second |= second_tokens(model, batch, cache, undecided)
    return [[token, *([second[row]] if row in second else [])] for row, token in enumerate(first)]


def _ranks(
    first: Float[Tensor, "row vocab"],
    objects: Sequence[Sequence[int]],
    rivals: Sequence[Sequence[int]] | None,
) -> list[int]:
    """Rank of each object's first token among its rivals, or among all tokens."""
    right = torch.tensor([[ids[0]] for ids in objects], device=first.device)
    score = first.gather(1, right)
    if rivals is not None:
        longest = max(1, *map(len, rivals))
        filled = [
            [*ids, *[ids_right[0]] * (longest - len(ids))] for ids, ids_right in zip(rivals, objects, strict=True)
        ]
        first = first.gather(1, torch.tensor(filled, device=first.device))
    return (1 + (first > score).sum(dim=1)).tolist()


def _first_tokens(model: Any, prompts: Sequence[Prompt]) -> dict[tuple[str, ...], list[int]]:
    """First token of every candidate answer, when it continues a prompt."""
    found: dict[tuple[str, ...], list[int]] = {}
    for prompt in prompts:
        if prompt.candidates and prompt.candidates not in found:
            asked = [replace(prompt, object=candidate) for candidate in prompt.candidates]
            found[prompt.candidates] = [one.object_ids[0] for one in encode(model, asked)]
    return found
