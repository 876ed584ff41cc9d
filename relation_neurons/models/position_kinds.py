"""The kind of every position of a forward pass, announced to those who watch the model."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.utilities.tokenize_utils import get_attention_mask

from relation_neurons.errors import refuse
from relation_neurons.models.types import HookedModel, is_bridge

PAD, BOS, PROMPT, LAST, DECODE = range(5)
"""Kinds of position: padding; a BOS token; the prompt; its last token; whatever is read after the prompt."""


@runtime_checkable
class Watcher(Protocol):
    """A listener that learns of every forward pass before any hook fires in it.

    Attributes:
        tells_decoding: Whether it treats what follows the prompt otherwise than the prompt.
    """

    tells_decoding: bool

    def begin(self, kinds: Int[Tensor, "row pos"]) -> None:
        """A pass begins over these positions."""

    def abandon(self) -> None:
        """The pass that began will not be finished, nor counted."""


@dataclass(frozen=True)
class _Announced:
    """A pass that is announced.

    Attributes:
        kinds: What stands at each of its positions.
        notified: The watchers that learned of it so far.
    """

    kinds: Tensor
    notified: list[Watcher] = field(default_factory=list)


_announced: ContextVar[_Announced | None] = ContextVar("announced", default=None)


@contextlib.contextmanager
def announce(kinds: Int[Tensor, "row pos"]) -> Iterator[None]:
    """Say what the positions of the forward pass in this block are, which else is inferred.

    Needed for a prompt that is read in several passes over one key-value cache, which cannot be told from decoding:

    >>> with announce(torch.tensor([[PROMPT, PROMPT, LAST]])):    # doctest: +SKIP
    ...     model(tokens, past_kv_cache=cache)

    A pass that breaks off, as when memory runs out, will be run again, and the watchers that were notified of it
    learn that it does not count. The others keep the pass before it.
    """
    announced = _Announced(kinds)
    token = _announced.set(announced)
    try:
        yield
    except BaseException:
        for watcher in announced.notified:
            watcher.abandon()
        raise
    finally:
        _announced.reset(token)


@contextlib.contextmanager
def watched(model: HookedModel, watcher: Watcher) -> Iterator[None]:
    """Notify the watcher of every forward pass of a model in this block, whoever calls it.

    Of passes that this package did not announce, the kinds of position are inferred. Padding is what the attention mask
    that reaches the model leaves out or, for a list of texts without one, what its tokenizer padded. A pass with an
    empty key-value cache or none reads a prompt, one with a filled cache decodes; and a pass without a cache that
    repeats the inputs of the pass before and adds one position decodes that one. Several tokens over a filled cache may
    be either, and are refused if the watcher tells them apart.

    Raises:
        RelationNeuronsError: In a pass, several tokens over a filled cache that may be a prompt's or decoded.
    """
    inference = _Inference(model, watcher)
    handles = (_watch_bridge if is_bridge(model) else _watch_hooked)(model, inference)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def prompt_kinds(
    mask: Int[Tensor, "row pos"], tokens: Int[Tensor, "row pos"] | None, bos: int | None
) -> Int[Tensor, "row pos"]:
    """Kinds of the positions of whole prompts; `mask` is 1 on real tokens, `bos` the id of the BOS token."""
    kinds = mask.long() * PROMPT
    if bos is not None and tokens is not None:
        first = (kinds.cumsum(dim=1) == PROMPT) & (kinds == PROMPT)
        kinds[first & (tokens == bos)] = BOS
    behind = mask.flip(1).cumsum(dim=1).flip(1)
    kinds[(behind == 1) & (mask == 1)] = LAST
    return kinds


class _Inference:
    """Works out the kinds of position of the passes of one model."""

    def __init__(self, model: HookedModel, watcher: Watcher) -> None:
        self.model, self.watcher = weakref.proxy(model), watcher
        self.texts = False
        self.tokens: Tensor | None = None
        self.before: tuple[Tensor, Tensor] | None = None

    def called(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model was called; notes whether with texts that were not masked."""
        given = args[0] if args else kwargs.get("input")
        self.texts = isinstance(given, list) and kwargs.get("attention_mask") is None

    def embedded(self, module: Any, args: tuple[Any, ...]) -> None:
        """Tokens reached the embedding."""
        self.tokens = args[0]

    def begin(self, inputs: Tensor, mask: Tensor | None, n_cached: int) -> None:
        """A pass begins.

        Args:
            inputs: Tokens, or their embeddings.
            mask: 1 on real tokens, over the new tokens or the cached ones as well; none if the model got none.
            n_cached: Positions in the cache.
        """
        announced = _announced.get()
        if announced is None:
            kinds = self._infer(inputs, mask, n_cached)
            self.before = None if n_cached else (inputs, kinds)
        else:
            kinds, self.before = announced.kinds, None
            announced.notified.append(self.watcher)
        self.texts, self.tokens = False, None
        self.watcher.begin(kinds)

    def _infer(self, inputs: Tensor, mask: Tensor | None, n_cached: int) -> Int[Tensor, "row pos"]:
        rows, n = inputs.shape[:2]
        tokens = self.tokens if self.tokens is not None and self.tokens.shape[:2] == (rows, n) else None
        if mask is not None and mask.dim() != 2:
            raise refuse(f"The attention mask has {mask.dim()} dimensions", expected="two: [row, position]")
        if mask is None and self.texts and tokens is not None:
            mask = get_attention_mask(self.model.tokenizer, tokens, bool(self.model.cfg.default_prepend_bos))
        real = torch.ones((rows, n), dtype=torch.long, device=inputs.device) if mask is None else mask[:, -n:].long()
        if n_cached:
            if n > 1 and self.watcher.tells_decoding:
                raise refuse(
                    f"A pass reads {n} tokens over a key-value cache of {n_cached}, which may be "
                    "the rest of a prompt or follow it",
                    expected="a prompt in one pass, then one token at a time, for positions other than 'all'",
                    do="use positions='all', or say what the tokens are with models.position_kinds.announce",
                )
            return real * DECODE
        if self.before is not None:
            inputs_before, kinds_before = self.before
            if n == inputs_before.shape[1] + 1 and torch.equal(inputs[:, :-1], inputs_before):
                return torch.cat([kinds_before, real[:, -1:] * DECODE], dim=1)
        tokenizer = self.model.tokenizer
        return prompt_kinds(real, tokens, None if tokenizer is None else tokenizer.bos_token_id)


def _watch_hooked(model: HookedModel, inference: _Inference) -> list[Any]:
    """A `HookedTransformer`'s first block receives the mask as the model made it."""

    def block(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entry = kwargs.get("past_kv_cache_entry")
        n_cached = 0 if entry is None else int(entry.past_keys.shape[1])
        inference.begin(args[0], kwargs.get("attention_mask"), n_cached)

    return [
        model.register_forward_pre_hook(inference.called, with_kwargs=True),
        model.embed.register_forward_pre_hook(inference.embedded),
        model.blocks[0].register_forward_pre_hook(block, with_kwargs=True),
    ]


def _watch_bridge(model: HookedModel, inference: _Inference) -> list[Any]:
    """The Transformers model inside a `TransformerBridge` receives everything."""

    def whole(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = args[0] if args else kwargs["input_ids"]
        inference.tokens, cached = tokens, kwargs.get("past_key_values")
        n_cached = 0 if cached is None else int(cached.get_seq_length())
        inference.begin(tokens, kwargs.get("attention_mask"), n_cached)

    return [
        model.register_forward_pre_hook(inference.called, with_kwargs=True),
        model.original_model.register_forward_pre_hook(whole, with_kwargs=True),
    ]
