"""From which of two sets of tokens an answer begins: the log-odds right behind a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from relation_neurons.errors import refuse
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import Cache, forward
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode, encode_answers

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """Prompts, an intervention, and two sets of tokens with which answers may begin.

    Attributes:
        prompts: The prompts.
        intervention: What is written meanwhile; None for the clean model.
        these: Tokens.
        those: Other tokens.
    """

    prompts: tuple[Prompt, ...]
    intervention: Intervention | None
    these: Tokens
    those: Tokens


def first_token_log_odds(
    model: HookedModel,
    choices: Sequence[Choice],
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> list[float]:
    """Log of the probability that the token behind each prompt is one of these, over that of one of those.

    Args:
        model: A model from `load_model`.
        choices: What to read; all are batched together.
        batch_size: Prompts at a time; by default what memory holds.
        progress: Called with the number of prompts read.

    Returns:
        The log-odds of each choice and prompt, in order, in nats.

    Raises:
        RelationNeuronsError: No tokens, or a prompt that cannot be encoded.
    """
    for choice in choices:
        if not choice.these or not choice.those:
            raise refuse("A set of first tokens is empty", expected="at least one token on either side")
    items = [(number, prompt) for number, choice in enumerate(choices) for prompt in choice.prompts]
    unique = list(dict.fromkeys(prompt for _, prompt in items))
    encoded = dict(zip(unique, encode(model, unique), strict=True))
    tasks = [Task(encoded[prompt], number) for number, prompt in items]

    def read_batch(batch: Batch, cache: Cache) -> list[float]:
        logits = forward(model, *batch.read(), cache, keep=1).all()[:, 0]
        rows = zip(logits, (choices[items[row][0]] for row in batch.rows), strict=True)
        return torch.stack(
            [row[list(one.these)].logsumexp(dim=0) - row[list(one.those)].logsumexp(dim=0) for row, one in rows]
        ).tolist()

    with rows_under(model, [[one.intervention] if one.intervention else [] for one in choices]) as patches:
        return run_batches(
            model, tasks, read_batch, patches=patches, n_logits=1, batch_size=batch_size, progress=progress
        )


def first_tokens(model: HookedModel, prompt: Prompt, answers: Sequence[str]) -> frozenset[int]:
    """The tokens with which some answers begin behind a prompt."""
    return frozenset(ids[0] for ids in encode_answers(model, prompt, answers))


def only_in(these: frozenset[int], those: frozenset[int]) -> tuple[Tokens, Tokens]:
    """The tokens of two sets that they do not share, in order."""
    return tuple(sorted(these - those)), tuple(sorted(those - these))
