"""Tokenise prompts and texts."""

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
        ids: The whole prompt, with a BOS token if the prompt or the tokenizer asks for one.
        query_start: Index of the first token of the query, after BOS and few-shot examples.
        object_ids: The tokens of the correct answer as a continuation of the prompt; empty if the
            prompt has no object.
        bos: Whether the first token is BOS.
    """

    ids: tuple[int, ...]
    query_start: int
    object_ids: tuple[int, ...]
    bos: bool = False


def encode(model: HookedModel, prompts: Sequence[Prompt]) -> list[Encoded]:
    """Tokenise prompts, each together with its answer.

    Args:
        model: A model from `load_model`.
        prompts: The prompts.

    Raises:
        RelationNeuronsError: The model has no fast tokenizer, a prompt exceeds the model's context
            length, or appending an answer changes the tokens of the prompt.
    """
    tokenizer = _tokenizer(model)
    unanswered = _tokenise(tokenizer, [prompt.text for prompt in prompts])
    answered = _tokenise(tokenizer, [f"{prompt.text}{prompt.joint}{prompt.object}" for prompt in prompts])
    encoded = []
    for prompt, (ids, ends), (whole, _) in zip(prompts, unanswered, answered, strict=True):
        bos = _bos(model, prompt.bos)
        start = sum(end <= prompt.query_start for end in ends)
        answer = _continuation(ids, whole, prompt, prompt.object) if prompt.object else ()
        if len(bos) + len(ids) + len(answer) > model.cfg.n_ctx:
            found = f"A prompt has {len(ids) + len(answer)} tokens; the model takes {model.cfg.n_ctx}"
            raise refuse(found, do="use fewer shots")
        encoded.append(Encoded(bos + tuple(ids), len(bos) + start, answer, bool(bos)))
    return encoded


def encode_answers(model: HookedModel, prompt: Prompt, answers: Sequence[str]) -> list[tuple[int, ...]]:
    """The tokens of several answers as continuations of one prompt, as in `Encoded.object_ids`.

    Raises:
        RelationNeuronsError: As for `encode`.
    """
    texts = [prompt.text, *(f"{prompt.text}{prompt.joint}{answer}" for answer in answers)]
    (ids, _), *wholes = _tokenise(_tokenizer(model), texts)
    return [_continuation(ids, whole, prompt, answer) for (whole, _), answer in zip(wholes, answers, strict=True)]


def _continuation(ids: list[int], whole: list[int], prompt: Prompt, answer: str) -> tuple[int, ...]:
    """The tokens of an answer, given those of the prompt and of both together."""
    if whole[: len(ids)] != ids or len(whole) == len(ids):
        raise refuse(
            f"The answer '{answer}' changes the tokens of the prompt '{prompt.text[-40:]}'",
            do="end the prompt with a character that is a token by itself, such as ':'",
        )
    return tuple(whole[len(ids) :])


def encode_texts(model: HookedModel, texts: Sequence[str]) -> list[Encoded]:
    """Tokenise texts without answers.

    Raises:
        RelationNeuronsError: The model has no fast tokenizer, or a text exceeds its context length.
    """
    tokenizer, bos = _tokenizer(model), _bos(model, None)
    encoded = [Encoded(bos + tuple(ids), len(bos), (), bool(bos)) for ids, _ in _tokenise(tokenizer, texts)]
    for number, text in enumerate(encoded):
        if len(text.ids) > model.cfg.n_ctx:
            found = f"Text {number} has {len(text.ids)} tokens; the model takes {model.cfg.n_ctx}"
            raise refuse(found, do="split it into shorter texts")
    return encoded


def _tokenizer(model: HookedModel) -> Any:
    tokenizer = model.tokenizer
    if tokenizer is None or not tokenizer.is_fast:
        raise refuse(
            f"Model '{model.cfg.model_name}' has {'no' if tokenizer is None else 'a slow'} tokenizer",
            expected="a fast tokenizer, which gives the character offsets of tokens",
        )
    return tokenizer


def _bos(model: HookedModel, prepend: bool | None) -> tuple[int, ...]:
    """The BOS token of a prompt, if any; None means as the tokenizer is configured."""
    if not (model.cfg.default_prepend_bos if prepend is None else prepend):
        return ()
    if model.tokenizer.bos_token_id is None:
        raise refuse(f"Model '{model.cfg.model_name}' has no BOS token", do="omit the option bos")
    return (model.tokenizer.bos_token_id,)


def _tokenise(tokenizer: Any, texts: Sequence[str]) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and the end offset of each token, in characters."""
    out = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    for ids, offsets in zip(out.input_ids, out.offset_mapping, strict=True):
        yield ids, [end for _, end in offsets]
