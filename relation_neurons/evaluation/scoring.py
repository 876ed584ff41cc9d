"""Rows of the table of `recall`: answers to a batch of prompts and probabilities of the objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.evaluation.answers import (
    RULES,
    answer_is_over,
    error_kind,
    may_become_right,
    string_rule,
    to_line_end,
)
from relation_neurons.inference.batching import Batch
from relation_neurons.inference.decoding import Judged, decode, end_tokens, greedy, in_parts, judge, second_tokens
from relation_neurons.models.hooked_model import Cache
from relation_neurons.models.types import HookedModel
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode_answers

MAX_NEW_TOKENS = 12
"""Maximum length of a generated answer unless `max_new_tokens` is given."""

WHOLE_ANSWER_RULES = tuple(name for name, rule in RULES.items() if rule.tokens is None)


@dataclass(frozen=True)
class Answers:
    """Whether to generate answers, and their maximum number of tokens."""

    generate: bool
    max_new_tokens: int | None

    def length(self, object_ids: Sequence[int], prompt: Prompt, candidate_ids: Sequence[Sequence[int]]) -> int:
        """Number of tokens to generate: enough to tell the object from longer ones that begin with it."""
        numbers = _longer(prompt.object, prompt.candidates, prompt.language)
        longest = max(len(object_ids), *(len(candidate_ids[number]) for number in numbers), 1)
        return self.max_new_tokens or min(MAX_NEW_TOKENS, longest + 1)

    def judge(self, generated: str, prompt: Prompt) -> dict[str, object]:
        """The answer, the results of the rules that use the whole answer, and its error kind."""
        line = to_line_end(generated)
        name, aliases, code, candidates = prompt.object, prompt.aliases, prompt.language, prompt.candidates
        verdicts = {
            f"correct_{rule}": RULES[rule](line, name, aliases, code, candidates) for rule in WHOLE_ANSWER_RULES
        }
        error = error_kind(line, prompt.text[prompt.query_start :], name, candidates, aliases, code)
        return {"generated": generated if self.max_new_tokens else line, **verdicts, "error": error}


def rows_of(
    model: HookedModel,
    batch: Batch,
    cache: Cache,
    prompts: Sequence[Prompt],
    candidates: Mapping[tuple[str, ...], Sequence[Sequence[int]]],
    answers: Answers,
) -> list[dict[str, object]]:
    """A row per prompt: a pass over the prompts with their objects appended, then any generation."""
    objects = [task.encoded.object_ids for task in batch.tasks]
    judged = judge(model, batch, cache, objects, aligned=answers.generate)
    candidate_ids = [candidates.get(prompt.candidates, ()) for prompt in prompts]
    lengths = [answers.length(*row) for row in zip(objects, prompts, candidate_ids, strict=True)]
    answer_ids = _answer_ids(model, batch, cache, judged, prompts, answers, lengths)
    token_ranks = _ranks(judged.first, objects, None)
    object_ranks = _ranks(judged.first, objects, [[ids[0] for ids in rivals] for rivals in candidate_ids])
    logprobs = judged.logprobs.tolist()
    if any(map(math.isnan, logprobs)):
        raise refuse(
            "Some log-probabilities are NaN",
            do="check the model's weights and the interventions; float32 overflows later than float16",
        )
    two = decode(model, [ids[:2] for ids in answer_ids])
    judgements: list[dict[str, object]] = [{}] * len(prompts)
    if answers.generate:
        whole = decode(model, [ids[:length] for ids, length in zip(answer_ids, lengths, strict=True)])
        judgements = [answers.judge(text, prompt) for text, prompt in zip(whole, prompts, strict=True)]
    return [
        {
            **prompt.columns,
            "correct_prefix": RULES["prefix"](two[i], prompt.object),
            **judgements[i],
            "logprob": logprobs[i],
            "first_token_rank": token_ranks[i],
            "object_rank": object_ranks[i],
            "n_candidates": len(prompt.candidates),
        }
        for i, prompt in enumerate(prompts)
    ]


def candidate_tokens(model: HookedModel, prompts: Sequence[Prompt]) -> dict[tuple[str, ...], list[tuple[int, ...]]]:
    """Tokens of every candidate answer as the continuation of a prompt."""
    tokens: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for prompt in prompts:
        if prompt.candidates and prompt.candidates not in tokens:
            tokens[prompt.candidates] = encode_answers(model, prompt, prompt.candidates)
    return tokens


@lru_cache(maxsize=1 << 14)
def _longer(object: str, candidates: tuple[str, ...], language: str) -> tuple[int, ...]:
    """Indices of the candidates that begin with an object."""
    return tuple(number for number, name in enumerate(candidates) if string_rule(name, object, language))


def _answer_ids(
    model: HookedModel,
    batch: Batch,
    cache: Cache,
    judged: Judged,
    prompts: Sequence[Prompt],
    answers: Answers,
    lengths: Sequence[int],
) -> list[list[int]]:
    """The greedy tokens of each row: the whole answer, or those that decide the rule `prefix`."""
    first = judged.greedy
    if answers.generate:
        lengths = [max(2, length) for length in lengths]
        return greedy(model, first, cache, lengths, done=answer_is_over if answers.max_new_tokens is None else None)
    second = {row: token for row, token in enumerate(judged.second) if token is not None}
    texts, ends = decode(model, [[token] for token in first]), end_tokens(model)
    undecided = {
        row: token
        for row, token in enumerate(first)
        if row not in second and token not in ends and may_become_right(texts[row], prompts[row].object)
    }
    second |= second_tokens(model, batch, cache, undecided)
    return [[token, *([second[row]] if row in second else [])] for row, token in enumerate(first)]


def _ranks(
    first: Float[Tensor, "row vocab"],
    objects: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[int]] | None,
) -> list[int]:
    """Rank of each object's first token among the candidates' first tokens, or among all tokens."""
    targets = torch.tensor([[ids[0]] for ids in objects], device=first.device)
    score = first.gather(1, targets)
    if candidates is not None:
        longest = max(1, *map(len, candidates))
        padded = [
            [*ids, *[object_ids[0]] * (longest - len(ids))] for ids, object_ids in zip(candidates, objects, strict=True)
        ]
        first = first.gather(1, torch.tensor(padded, device=first.device))
    pairs = zip(in_parts(first), in_parts(score), strict=True)
    return (1 + torch.cat([(part > own).sum(dim=1) for part, own in pairs])).tolist()
