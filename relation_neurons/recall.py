"""Factual recall: what a model answers, and how probable it finds the right answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.activations import read_prefix
from relation_neurons.answers import answer_is_over, prefix_rule, string_rule, to_line_end
from relation_neurons.encoding import DEFAULT_BATCH_SIZE, Batch, Encoded, encode, make_batches, pad
from relation_neurons.errors import refuse
from relation_neurons.models import forward
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts import Prompt

MAX_NEW_TOKENS = 12
"""Longest answer that is generated; the tokens of the right object and one more set the actual length."""


def recall(
    model: Any,
    prompts: Sequence[Prompt],
    *,
    condition: str = "clean",
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Ask a model for facts; inside `with ablate(...)`, ask the ablated model.

    Args:
        model: A model from `load_model`.
        prompts: Evaluation prompts.
        condition: What to call the state of the model in the table.
        batch_size: Prompts at a time; results do not depend on it.
        progress: Called with the number of prompts finished.

    Returns:
        A row per prompt, in order, with columns
        `condition`, `relation`, `subject`, `object`, `template`;
        `generated`: the greedy answer, as many tokens as the object has and one more, to the end of its line at most;
        `correct_prefix`, `correct_string`: right by the rules of `relation_neurons.answers`;
        `logprob`: of the whole object as the continuation, in nats;
        `object_rank`: 1 + how many other objects of the relation have a first token more probable than the right one's
        (objects that begin alike share a rank), of `n_candidates`.

    Raises:
        RelationNeuronsError: No prompts, or tokens that do not fit (see `encode`).
    """
    if not prompts:
        raise refuse("There are no prompts", expected="at least one")
    encoded = encode(model, prompts)
    candidates = _first_tokens(model, prompts)
    rows: list[dict[str, object]] = [{}] * len(prompts)
    with torch.inference_mode():
        for batch in make_batches(encoded, batch_size=batch_size):
            for row, result in zip(batch.rows, _ask(model, batch, encoded, prompts, candidates), strict=True):
                rows[row] = result
            progress(len(batch.rows))
    table = pd.DataFrame(rows)
    table.insert(0, "condition", condition)
    return table


def _ask(
    model: Any,
    batch: Batch,
    encoded: Sequence[Encoded],
    prompts: Sequence[Prompt],
    candidates: dict[tuple[str, ...], Int[Tensor, " candidate"]],
) -> list[dict[str, object]]:
    tokens, mask = pad(batch.suffixes, side="left", device=model.cfg.device)
    cache = read_prefix(model, batch)
    first = forward(model, tokens, mask, cache, keep=1)[:, 0]
    objects = [encoded[row].object_ids for row in batch.rows]
    first_logprobs = first.log_softmax(dim=-1)
    logprobs = _object_logprobs(model, first_logprobs, objects, cache)
    lengths = [min(MAX_NEW_TOKENS, max(2, len(ids) + 1)) for ids in objects]
    answers = _generate(model, first, cache, lengths)
    results = []
    for i, row in enumerate(batch.rows):
        prompt = prompts[row]
        two_tokens, generated = answers[i]
        rivals = first_logprobs[i, candidates[prompt.candidates]] if prompt.candidates else first_logprobs[i, :0]
        results.append(
            {
                "relation": prompt.relation,
                "subject": prompt.subject,
                "object": prompt.object,
                "template": prompt.template,
                "generated": generated,
                "correct_prefix": prefix_rule(two_tokens, prompt.object),
                "correct_string": string_rule(generated, prompt.object),
                "logprob": float(logprobs[i]),
                "object_rank": 1 + int((rivals > first_logprobs[i, objects[i][0]]).sum()),
                "n_candidates": len(prompt.candidates),
            }
        )
    return results


def _object_logprobs(
    model: Any, first_logprobs: Float[Tensor, "row vocab"], objects: Sequence[tuple[int, ...]], cache: Any
) -> Float[Tensor, " row"]:
    """Log-probability of each whole object; reads its tokens after the prompt, which the cache holds."""
    device = first_logprobs.device
    total = first_logprobs.gather(1, torch.tensor([[ids[0]] for ids in objects], device=device))[:, 0]
    if max(map(len, objects)) == 1:
        return total
    given, _ = pad([ids[:-1] for ids in objects], side="right", device=device)
    wanted, real = pad([ids[1:] for ids in objects], side="right", device=device)
    # Padding stands on the right, where causal attention keeps it from every real token.
    logits = forward(model, given, torch.ones_like(given), cache, keep=given.shape[1], grow=False)
    rest = logits.log_softmax(dim=-1).gather(2, wanted[:, :, None])[:, :, 0]
    return total + (rest * real).sum(dim=1)


def _generate(
    model: Any, first: Float[Tensor, "row vocab"], cache: Any, lengths: Sequence[int]
) -> list[tuple[str, str]]:
    """Greedy answers from the logits after the prompt.

    Each row has its own length in tokens, so that what it says does not depend on its batch.

    Returns:
        For each row the text of two tokens, and of all up to the line's end.
    """
    tokenizer = model.tokenizer
    step = first.argmax(dim=-1)
    said = step[:, None]
    for number in range(1, max(lengths)):
        if number >= 2 and all(map(answer_is_over, _decode(tokenizer, said.tolist()))):
            break
        logits = forward(model, step[:, None], torch.ones_like(step[:, None]), cache, keep=1)
        step = logits[:, 0].argmax(dim=-1)
        said = torch.cat([said, step[:, None]], dim=1)
    ids = said.tolist()
    answers = _decode(tokenizer, [row[:length] for row, length in zip(ids, lengths, strict=True)])
    return list(zip(_decode(tokenizer, [row[:2] for row in ids]), map(to_line_end, answers), strict=True))


def _decode(tokenizer: Any, said: Sequence[list[int]]) -> list[str]:
    """Texts up to the end-of-text token."""
    texts = []
    for ids in said:
        if tokenizer.eos_token_id in ids:
            ids = ids[: ids.index(tokenizer.eos_token_id)]
        texts.append(tokenizer.decode(ids, skip_special_tokens=True))
    return texts


def _first_tokens(model: Any, prompts: Sequence[Prompt]) -> dict[tuple[str, ...], Int[Tensor, " candidate"]]:
    """First token of every candidate answer, when it continues a prompt."""
    found: dict[tuple[str, ...], Int[Tensor, " candidate"]] = {}
    for prompt in prompts:
        if prompt.candidates and prompt.candidates not in found:
            asked = [Prompt(prompt.relation, "", candidate, prompt.text) for candidate in prompt.candidates]
            ids = [one.object_ids[0] for one in encode(model, asked)]
            found[prompt.candidates] = torch.tensor(ids, device=model.cfg.device)
    return found
