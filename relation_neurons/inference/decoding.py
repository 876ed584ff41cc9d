"""What a model says after prompts: greedy answers, and answers given to it to be judged in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.inference.batching import Batch
from relation_neurons.models.hooked_model import Cache, crop_cache, forward, select_cache
from relation_neurons.models.position_kinds import DECODE
from relation_neurons.models.types import HookedModel

ROWS = {"cpu": 8, "cuda": 256}
"""Rows of logits, as wide as the vocabulary, that are worked on at a time; on other devices as on a CPU."""


@dataclass
class Judged:
    """What a model makes of given answers.

    Attributes:
        first: Logits after each prompt, in float32.
        greedy: The first greedy token of each row.
        logprobs: Log-probability of each whole answer, in nats.
        second: For rows whose first greedy token is that of the answer, the second one; none for others.
    """

    first: Float[Tensor, "row vocab"]
    greedy: list[int]
    logprobs: Float[Tensor, " row"]
    second: list[int | None]


def judge(model: HookedModel, batch: Batch, cache: Cache, answers: Sequence[Sequence[int]], *, aligned: bool) -> Judged:
    """Read prompts with answers behind them, in one pass, and unembed only where it is needed.

    Args:
        model: A model from `load_model`.
        batch: The prompts.
        cache: What they have read in advance; afterwards it holds the prompts.
        answers: The tokens of an answer for each.
        aligned: Whether all prompts end in the same column, which takes more padding; those of an unpadded batch do.
    """
    aligned = aligned or batch.unpadded
    given = [answer[: max(1, len(answer) - 1)] for answer in answers]
    tokens, kinds = batch.read(given, aligned=aligned)
    longest = max(map(len, given))
    reading = forward(model, tokens, kinds, cache, keep=longest + 1)
    if aligned:
        crop_cache(cache, longest)
    else:  # forget the answers where they stand; positions are counted by the mask
        ends_at = cache.mask.shape[1] - torch.tensor([len(ids) for ids in given])[:, None]
        cache.mask *= (torch.arange(cache.mask.shape[1]) < ends_at).to(cache.mask.device)
    ends = [0 if aligned else longest - len(ids) for ids in given]
    first = reading.at(range(len(ends)), ends)
    greedy_first = first.argmax(dim=1).tolist()
    places = [
        (row, step)
        for row, answer in enumerate(answers)
        for step in range(1, max(len(answer), 2))
        if step < len(answer) or greedy_first[row] == answer[0]
    ]
    second: list[int | None] = [None] * len(ends)
    logprobs = log_probabilities(first, torch.tensor([answer[0] for answer in answers], device=first.device))
    if places:
        later = reading.at([row for row, _ in places], [ends[row] + step for row, step in places])
        chosen = later.argmax(dim=1).tolist()
        for (row, step), token in zip(places, chosen, strict=True):
            if step == 1 and greedy_first[row] == answers[row][0]:
                second[row] = token
        wanted = [place for place, (row, step) in enumerate(places) if step < len(answers[row])]
        if wanted:
            targets = torch.tensor([answers[row][step] for row, step in (places[place] for place in wanted)])
            more = log_probabilities(later[wanted], targets.to(first.device))
            # Laid out by row and step and then summed: a GPU adds to repeated rows in any order.
            by_step = logprobs.new_zeros((len(ends), max(map(len, answers))))
            by_step[tuple(torch.tensor([places[place] for place in wanted], device=first.device).T)] = more
            logprobs = logprobs + by_step.sum(dim=1)
    return Judged(first, greedy_first, logprobs, second)


def log_probabilities(logits: Float[Tensor, "place vocab"], targets: Int[Tensor, " place"]) -> Float[Tensor, " place"]:
    """Log-probability of one token at each place, in nats."""
    total = torch.cat([part.logsumexp(dim=1) for part in in_parts(logits)])  # no second copy of all of them
    return logits.gather(1, targets.to(logits.device)[:, None])[:, 0] - total


def in_parts(logits: Float[Tensor, "row ..."]) -> tuple[Float[Tensor, "_ ..."], ...]:
    """Rows of logits, or of what belongs to them, as many at a time as are worked on."""
    return logits.split(ROWS.get(logits.device.type, ROWS["cpu"]))


def second_tokens(model: HookedModel, batch: Batch, cache: Cache, first: Mapping[int, int]) -> dict[int, int]:
    """The second greedy token of some rows whose first is given, after `judge`."""
    rows = list(first)
    if not rows:
        return {}
    batch.part(rows).use()
    step = torch.tensor([[first[row]] for row in rows], device=cache.mask.device)
    reading = forward(model, step, torch.full_like(step, DECODE), select_cache(model, cache, rows), keep=1)
    batch.use()
    return dict(zip(rows, reading.all()[:, 0].argmax(dim=1).tolist(), strict=True))


def greedy(
    model: HookedModel,
    first: Sequence[int],
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
        done: Stops once it holds for the texts of all rows, but not before the second token; a text for which it
            holds is done with whatever follows.
    """
    generated = step = torch.tensor(first, dtype=torch.long, device=cache.mask.device)[:, None]
    unfinished = 0  # the first row that may be; rows before it are done, and stay so
    for number in range(1, max(lengths)):
        if number >= 2 and done is not None:
            rows = generated[unfinished:].tolist()
            unfinished += next((n for n, row in enumerate(rows) if not done(*decode(model, [row]))), len(rows))
            if unfinished == len(generated):
                break
        reading = forward(model, step, torch.full_like(step, DECODE), cache, keep=1)
        step = reading.all().argmax(dim=-1).to(generated.device)
        generated = torch.cat([generated, step], dim=1)
    return [row[:length] for row, length in zip(generated.tolist(), lengths, strict=True)]


def decode(model: HookedModel, generated: Sequence[Sequence[int]]) -> list[str]:
    """Texts up to the first end token (see `end_tokens`)."""
    ends, texts = end_tokens(model), {}
    for ids in {tuple(ids) for ids in generated}:  # many rows begin alike
        end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        texts[ids] = model.tokenizer.decode(list(ids[:end]), skip_special_tokens=True)
    return [texts[tuple(ids)] for ids in generated]


def end_tokens(model: HookedModel) -> frozenset[int]:
    """The tokens that end an answer: the tokenizer's, and all of the model's generation configuration."""
    own = model.tokenizer.eos_token_id
    return frozenset(getattr(model.cfg, "end_tokens", ())) | (set() if own is None else {own})
