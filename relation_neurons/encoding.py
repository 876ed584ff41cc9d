"""Prompts as token ids, in batches that share the computation of a common beginning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.prompts import Prompt

DEFAULT_BATCH_SIZE = 64


@dataclass(frozen=True)
class Encoded:
    """One prompt as token ids.

    Attributes:
        ids: The whole prompt, with a BOS token where the model's tokenizer sets one by default.
        query_start: Number of the first token of the query; before it stand BOS and the solved examples.
        object_ids: The tokens of the right answer when it continues the prompt.
    """

    ids: tuple[int, ...]
    query_start: int
    object_ids: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Prompts that begin with the same tokens.

    Attributes:
        rows: Numbers of the prompts.
        prefix: The shared tokens, possibly none.
        suffixes: What follows in each prompt; never empty.
    """

    rows: tuple[int, ...]
    prefix: tuple[int, ...]
    suffixes: tuple[tuple[int, ...], ...]


def encode(model: Any, prompts: Sequence[Prompt]) -> list[Encoded]:
    """Turn prompts into token ids, each text tokenised as a whole.

    Args:
        model: A model from `load_model`.
        prompts: The prompts.

    Raises:
        RelationNeuronsError: No tokenizer or a slow one, a prompt longer than the model's context, or an answer whose
            tokens change those of the prompt.
    """
    tokenizer = model.tokenizer
    if tokenizer is None or not tokenizer.is_fast:
        raise refuse(
            f"Model '{model.cfg.model_name}' has {'no' if tokenizer is None else 'a slow'} tokenizer",
            expected="a fast tokenizer, which tells where in the text each token stands",
        )
    bos = (tokenizer.bos_token_id,) if model.cfg.default_prepend_bos else ()
    alone = _tokenise(tokenizer, [prompt.text for prompt in prompts])
    answered = _tokenise(tokenizer, [f"{prompt.text} {prompt.object}" for prompt in prompts])
    encoded = []
    for prompt, (ids, ends), (whole, _) in zip(prompts, alone, answered, strict=True):
        start = sum(end <= prompt.query_start for end in ends)
        if tuple(whole[: len(ids)]) != tuple(ids) or len(whole) == len(ids):
            raise refuse(
                f"The answer '{prompt.object}' changes the tokens of the prompt '{prompt.text[-40:]}'",
                do="end the prompt's answer form with a character that stands alone, such as ':'",
            )
        if len(bos) + len(whole) > model.cfg.n_ctx:
            raise refuse(f"A prompt has {len(whole)} tokens; the model takes {model.cfg.n_ctx}", do="use fewer shots")
        encoded.append(Encoded(bos + tuple(ids), len(bos) + start, tuple(whole[len(ids) :])))
    return encoded


def make_batches(encoded: Sequence[Encoded], *, batch_size: int, share: bool = True) -> list[Batch]:
    """Group prompts by what stands before their query, sort each group by length, and cut it into batches.

    Args:
        encoded: The prompts.
        batch_size: Rows in a batch at most.
        share: Whether to split off the shared beginning; without, every row holds its whole prompt.
    """
    if batch_size < 1:
        raise refuse(f"batch_size is {batch_size}", expected="at least 1")
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, one in enumerate(encoded):
        prefix = one.ids[: min(one.query_start, len(one.ids) - 1)] if share else ()
        groups.setdefault(prefix, []).append(row)
    batches = []
    for prefix, rows in groups.items():
        rows.sort(key=lambda row: len(encoded[row].ids))
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            batches.append(Batch(tuple(part), prefix, tuple(encoded[row].ids[len(prefix) :] for row in part)))
    return batches


def pad(
    rows: Sequence[Sequence[int]], *, side: str, device: torch.device | str
) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"]]:
    """Tokens padded to one length with token 0, and the mask that is 1 on real ones."""
    length = max(map(len, rows))
    tokens = torch.zeros((len(rows), length), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        place = slice(length - len(row), length) if side == "left" else slice(0, len(row))
        tokens[i, place] = torch.tensor(row, dtype=torch.long)
        mask[i, place] = 1
    return tokens.to(device), mask.to(device)


def _tokenise(tokenizer: Any, texts: Sequence[str]) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and the character at which each token ends."""
    out = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    for ids, offsets in zip(out.input_ids, out.offset_mapping, strict=True):
        yield ids, [end for _, end in offsets]
