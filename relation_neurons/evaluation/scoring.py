"""Rows of the table of `recall`: what a model answers to a batch of prompts, and how probable it finds the objects."""

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
"""Longest answer that is generated unless more is asked for."""

WHOLE_ANSWER_RULES = tuple(name for name, rule in RULES.items() if rule.tokens is None)


@dataclass(frozen=True)
class Answers:
    """Whether and for how many tokens the model is to answer."""

    generate: bool
    max_new_tokens: int | None

    def length(self, object_ids: Sequence[int]) -> int:
        """How many tokens are generated where the object has these."""
        return self.max_new_tokens or min(MAX_NEW_TOKENS, max(2, len(object_ids) + 1))

    def judge(self, said: str, prompt: Prompt) -> dict[str, object]:
        """An answer, what the rules that read the whole of it say, and of what kind it is."""
        line = to_line_end(said)
        right = prompt.object, prompt.aliases, prompt.language
        verdicts = {f"correct_{name}": RULES[name](line, *right) for name in WHOLE_ANSWER_RULES}
        query, (name, aliases, code) = prompt.text[prompt.query_start :], right
        error = error_kind(line, query, name, prompt.candidates, aliases, code)
        return {"generated": said if self.max_new_tokens else line, **verdicts, "error": error}


def rows_of(
    model: HookedModel,
    batch: Batch,
    cache: Cache,
    prompts: Sequence[Prompt],
    candidates: Mapping[tuple[str, ...], Sequence[int]],
    answers: Answers,
) -> list[dict[str, object]]:
    """A row per prompt: a pass over the prompts with their objects behind them, then the answers if they are wanted."""
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
            **_about(prompt),
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
    """First token of every candidate answer, when it continues a prompt."""
    found: dict[tuple[str, ...], list[int]] = {}
    for prompt in prompts:
        if prompt.candidates and prompt.candidates not in found:
            asked = [replace(prompt, object=candidate) for candidate in prompt.candidates]
            found[prompt.candidates] = [one.object_ids[0] for one in encode(model, asked)]
    return found


def _about(prompt: Prompt) -> dict[str, object]:
    return {
        "relation": prompt.relation,
        "subject": prompt.subject,
        "object": prompt.object,
        "template": prompt.template,
        "language": prompt.language,
        "fact": prompt.fact or prompt.subject,
    }


def _said(
    model: HookedModel, batch: Batch, cache: Cache, judged: Judged, prompts: Sequence[Prompt], answers: Answers
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
