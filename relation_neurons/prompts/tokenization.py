"""Prompts as token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relation_neurons.errors import refuse
from relation_neurons.models.types import HookedModel
from relation_neurons.prompts.prompts import Prompt


@dataclass(frozen=True)
class Encoded:
    """One prompt as token ids.

    Attributes:
        ids: The whole prompt, with a BOS token where the model's tokenizer sets one by default.
        query_start: Number of the first token of the query; before it stand BOS and the solved examples.
        object_ids: The tokens of the right answer when it continues the prompt; none if the prompt asks nothing.
        bos: Whether the first token is BOS.
    """

    ids: tuple[int, ...]
    query_start: int
    object_ids: tuple[int, ...]
    bos: bool = False


def encode(model: HookedModel, prompts: Sequence[Prompt]) -> list[Encoded]:
    """Turn prompts into token ids, each text tokenised as a whole.

    Args:
        model: A model from `load_model`.
        prompts: The prompts.

    Raises:
        RelationNeuronsError: No tokenizer or a slow one, a prompt longer than the model's context, or an answer whose
            tokens change those of the prompt.
    """
    tokenizer = _tokenizer(model)
    alone = _tokenise(tokenizer, [prompt.text for prompt in prompts])
    answered = _tokenise(tokenizer, [f"{prompt.text}{prompt.joint}{prompt.object}" for prompt in prompts])
    encoded = []
    for prompt, (ids, ends), (whole, _) in zip(prompts, alone, answered, strict=True):
        bos = _bos(model, prompt.bos)
        start = sum(end <= prompt.query_start for end in ends)
        if not prompt.object:
            whole = ids
        elif tuple(whole[: len(ids)]) != tuple(ids) or len(whole) == len(ids):
            raise refuse(
                f"The answer '{prompt.object}' changes the tokens of the prompt '{prompt.text[-40:]}'",
                do="end the prompt's answer form with a character that stands alone, such as ':'",
            )
        if len(bos) + len(whole) > model.cfg.n_ctx:
            raise refuse(f"A prompt has {len(whole)} tokens; the model takes {model.cfg.n_ctx}", do="use fewer shots")
        encoded.append(Encoded(bos + tuple(ids), len(bos) + start, tuple(whole[len(ids) :]), bool(bos)))
    return encoded


def encode_texts(model: HookedModel, texts: Sequence[str]) -> list[Encoded]:
    """Turn texts without any question into token ids; there is no answer, and all of it is query.

    Raises:
        RelationNeuronsError: No tokenizer or a slow one, or a text longer than the model's context.
    """
    tokenizer, bos = _tokenizer(model), _bos(model, None)
    encoded = [Encoded(bos + tuple(ids), len(bos), (), bool(bos)) for ids, _ in _tokenise(tokenizer, texts)]
    for number, one in enumerate(encoded):
        if len(one.ids) > model.cfg.n_ctx:
            found = f"Text {number} has {len(one.ids)} tokens; the model takes {model.cfg.n_ctx}"
            raise refuse(found, do="cut it into shorter ones")
    return encoded


def _tokenizer(model: HookedModel) -> Any:
    tokenizer = model.tokenizer
    if tokenizer is None or not tokenizer.is_fast:
        raise refuse(
            f"Model '{model.cfg.model_name}' has {'no' if tokenizer is None else 'a slow'} tokenizer",
            expected="a fast tokenizer, which tells where in the text each token stands",
        )
    return tokenizer


def _bos(model: HookedModel, wanted: bool | None) -> tuple[int, ...]:
    """The BOS token in front of a prompt, if there is to be one; none wanted leaves it to the tokenizer."""
    if not (model.cfg.default_prepend_bos if wanted is None else wanted):
        return ()
    if model.tokenizer.bos_token_id is None:
        raise refuse(f"Model '{model.cfg.model_name}' has no BOS token", do="leave the option bos out")
    return (model.tokenizer.bos_token_id,)


def _tokenise(tokenizer: Any, texts: Sequence[str]) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and the character at which each token ends."""
    out = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    for ids, offsets in zip(out.input_ids, out.offset_mapping, strict=True):
        yield ids, [end for _, end in offsets]
