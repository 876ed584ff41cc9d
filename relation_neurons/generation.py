"""What a model says after prompts: greedy answers, and answers given to it to be judged in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.batches import Batch
from relation_neurons.models import DECODE, Cache, crop_cache, forward, select_cache


def follow(
    model: Any, batch: Batch, cache: Cache, given: Sequence[Sequence[int]]
) -> Float[Tensor, "row given_and_one vocab"]:
    """Read prompts with given answers behind them; the cache ends up at the prompts' end.

    Returns:
        Logits in float32 after the prompt and after each given token; meaningless after a row's last one.
    """
    tokens, kinds = batch.read(given)
    n_given = max(map(len, given))
    logits = forward(model, tokens, kinds, cache, keep=n_given + 1)
    crop_cache(cache, n_given)
    return logits


def answer_logprobs(logits: Float[Tensor, "row pos vocab"], answers: Sequence[Sequence[int]]) -> Float[Tensor, " row"]:
    """Log-probability, in nats, of whole answers whose tokens but the last were given to `follow`."""
    longest = max(map(len, answers))
    padded = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in answers], device=logits.device)
    real = torch.tensor([[position < len(answer) for position in range(longest)] for answer in answers])
    chosen = logits[:, :longest]
    logprobs = chosen.gather(2, padded[:, :, None])[:, :, 0] - chosen.logsumexp(dim=2)
    return torch.where(real.to(logits.device), logprobs, 0).sum(dim=1)


def second_tokens(
    model: Any,
    batch: Batch,
    logits: Float[Tensor, "row pos vocab"],
    cache: Cache,
    given: Sequence[Sequence[int]],
    matters: Callable[[int, int], bool],
) -> Int[Tensor, "row 2"]:
    """The first two greedy tokens of each row, after `follow`.

    Where the first greedy token is the one that was given, the second is known. Elsewhere it is computed if
    `matters(row, first token)` says that it does, and is the given answer's otherwise.
    """
    two = logits[:, :2].argmax(dim=2)
    first = two[:, 0].tolist()
    open_rows = [row for row, token in enumerate(first) if token != given[row][0] and matters(row, token)]
    if open_rows:
        step = two[open_rows, :1]
        batch.use(open_rows)
        after = forward(model, step, torch.full_like(step, DECODE), select_cache(model, cache, open_rows), keep=1)
        two[open_rows, 1] = after[:, 0].argmax(dim=1)
        batch.use()
    return two


def greedy(
    model: Any,
    first: Int[Tensor, " row"],
    cache: Cache,
    lengths: Sequence[int],
    *,
    done: Callable[[str], bool] | None = None,
) -> list[list[int]]:
    """Greedy answers from their first tokens; each row has its own length, so that it does not depend on its batch.

    Args:
        model: A model from `load_model`.
        first: The first greedy token of each row.
        cache: What came before.
        lengths: How many tokens each answer has at most.
        done: Stops once it holds for the texts of all rows, but not before the second token.
    """
    said = step = first[:, None]
    for number in range(1, max(lengths)):
        if number >= 2 and done is not None and all(map(done, decode(model, said.tolist()))):
            break
        logits = forward(model, step, torch.full_like(step, DECODE), cache, keep=1)
        step = logits[:, 0].argmax(dim=-1)[:, None]
        said = torch.cat([said, step], dim=1)
    return [row[:length] for row, length in zip(said.tolist(), lengths, strict=True)]


def decode(model: Any, said: Sequence[Sequence[int]]) -> list[str]:
    """Texts up to the end-of-text token."""
    tokenizer = model.tokenizer
    texts = []
    for ids in said:
        end = list(ids).index(tokenizer.eos_token_id) if tokenizer.eos_token_id in ids else len(ids)
        texts.append(tokenizer.decode(list(ids)[:end], skip_special_tokens=True))
    return texts
