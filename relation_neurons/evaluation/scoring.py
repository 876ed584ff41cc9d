"""Rows of the table of `recall`: answers to a batch of prompts and probabilities of the objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.evaluation.answers import RULES, answer_is_over, error_kind, may_become_right, to_line_end
from relation_neurons.inference.batching import Batch
from relation_neurons.inference.decoding import Judged, decode, greedy, judge, second_tokens
from relation_neurons.models.hooked_model import Cache
from relation_neurons.models.types import HookedModel
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode

MAX_NEW_TOKENS = 12
"""Maximum length of a generated answer unless `max_new_tokens` is given."""

WHOLE_ANSWER_RULES = tuple(name for name, rule in RULES.items() if rule.tokens is None)


@dataclass(frozen=True)
class Answers:
    """Whether to generate answers, and their maximum number of tokens."""

    generate: bool
    max_new_tokens: int | None

    def length(self, object_ids: Sequence[int]) -> int:
        """Number of tokens to generate for an object with these tokens."""
        return self.max_new_tokens or min(MAX_NEW_TOKENS, max(2, len(object_ids) + 1))

    def judge(self, generated: str, prompt: Prompt) -> dict[str, object]:
        """The answer, the results of the rules that use the whole answer, and its error kind."""
        line = to_line_end(generated)
        target = prompt.object, prompt.aliases, prompt.language
        verdicts = {f"correct_{name}": RULES[name](line, *target) for name in WHOLE_ANSWER_RULES}
        query, (name, aliases, code) = prompt.text[prompt.query_start :], target
        error = error_kind(line, query, name, prompt.candidates, aliases, code)
        return {"generated": generated if self.max_new_tokens else line, **verdicts, "error": error}


def rows_of(
    model: HookedModel,
    batch: Batch,
    cache: Cache,
    prompts: Sequence[Prompt],
    candidates: Mapping[tuple[str, ...], Sequence[int]],
    answers: Answers,
) -> list[dict[str, object]]:
    """A row per prompt: a pass over the prompts with their objects appended, then any generation."""
    objects = [task.encoded.object_ids for task in batch.tasks]
    judged = judge(model, batch, cache, objects, aligned=answers.generate)
    answer_ids = _answer_ids(model, batch, cache, judged, prompts, answers)
    token_ranks = _ranks(judged.first, objects, None)
    object_ranks = _ranks(judged.first, objects, [candidates.get(prompt.candidates, ()) for prompt in prompts])
    logprobs = judged.logprobs.tolist()
    if any(map(math.isnan, logprobs)):
        raise refuse(
            "Some log-probabilities are NaN",
            do="check the model's weights and the interventions; float32 overflows later than float16",
        )
    two = decode(model, [ids[:2] for ids in answer_ids])
    judgements: list[dict[str, object]] = [{}] * len(prompts)
    if answers.generate:
        lengths = [answers.length(object_ids) for object_ids in objects]
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


def first_tokens(model: HookedModel, prompts: Sequence[Prompt]) -> dict[tuple[str, ...], list[int]]:
    """First token of every candidate answer as the continuation of a prompt."""
    tokens: dict[tuple[str, ...], list[int]] = {}
    for prompt in prompts:
        if prompt.candidates and prompt.candidates not in tokens:
            variants = [replace(prompt, object=candidate) for candidate in prompt.candidates]
            tokens[prompt.candidates] = [encoded.object_ids[0] for encoded in encode(model, variants)]
    return tokens


def _answer_ids(
    model: HookedModel, batch: Batch, cache: Cache, judged: Judged, prompts: Sequence[Prompt], answers: Answers
) -> list[list[int]]:
    """The greedy tokens of each row: the whole answer, or those that decide the rule `prefix`."""
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
    return (1 + (first > score).sum(dim=1)).tolist()
