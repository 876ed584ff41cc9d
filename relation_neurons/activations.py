"""One pass over the prompts: the mean activation of every neuron on every prompt's query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import einops
import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.encoding import DEFAULT_BATCH_SIZE, Batch, Encoded, encode, make_batches, pad
from relation_neurons.errors import refuse
from relation_neurons.models import add_hook, forward, hook_name, neuron_space, new_cache, repeat_cache
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts import Prompt
from relation_neurons.sites import NeuronSpace


@dataclass(frozen=True)
class Activations:
    """Pooled activations and what their rows and columns are.

    Attributes:
        values: Mean over the query's tokens, on the CPU.
        prompts: One for each row.
        space: The neurons, one for each column.
        include_bos: Whether BOS was pooled as well.
    """

    values: Float[Tensor, "prompt neuron"]
    prompts: tuple[Prompt, ...]
    space: NeuronSpace
    include_bos: bool = False


def collect_activations(
    model: Any,
    prompts: Sequence[Prompt],
    *,
    site: str = "post",
    include_bos: bool = False,
    batch_size: int = DEFAULT_BATCH_SIZE,
    dtype: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> Activations:
    """Average each neuron over the tokens of each prompt's query (paper, section 3).

    Solved examples and padding never count. They are pooled inside the hooks, so memory holds one number per prompt
    and neuron and no activation cache.

    Args:
        model: A model from `load_model`.
        prompts: Detection prompts, each read once for all relations.
        site: `post` (default), `gate`, `up`, `down`, or `ffn` for the last three, which are the paper's neurons.
        include_bos: Also pool the BOS token. Off by default: it is an attention sink whose activations are thousands
            of times the others'. Only matters for models that take a BOS token.
        batch_size: Prompts at a time.
        dtype: Type to store; pooling itself is done in float32.
        progress: Called with the number of prompts finished.

    Raises:
        RelationNeuronsError: No prompts, an unknown site, or activations that are not finite.
    """
    if not prompts:
        raise refuse("There are no prompts", expected="at least one")
    space = neuron_space(model, site)
    encoded = encode(model, prompts)
    include_bos = include_bos and bool(model.cfg.default_prepend_bos)
    values = torch.empty((len(prompts), len(space)), dtype=dtype)
    with _Pool(model, space) as pool, torch.inference_mode():
        for batch in make_batches(encoded, batch_size=batch_size, share=not include_bos):
            values[list(batch.rows)] = _pool_batch(model, batch, encoded, pool, include_bos).to("cpu", dtype)
            progress(len(batch.rows))
    if not torch.isfinite(values).all():
        raise refuse(
            f"Some activations are not finite as {dtype}", do="store float32, and check the model's weights for NaN"
        )
    return Activations(values, tuple(prompts), space, include_bos)


class _Pool:
    """Hooks at every site and layer of a space that add up one batch; they do nothing while `weights` is none."""

    def __init__(self, model: Any, space: NeuronSpace) -> None:
        self.model, self.space = model, space
        self.weights: Float[Tensor, "row pos"] | None = None
        self.pooled: Float[Tensor, "row neuron"] | None = None

    def __enter__(self) -> _Pool:
        self._removals = []
        for site, layer, place in self.space.slices():
            self._removals.append(add_hook(self.model, hook_name(site, layer), self._hook(place)))
        return self

    def __exit__(self, *_: object) -> None:
        for remove in self._removals:
            remove()

    def _hook(self, place: slice) -> Any:
        def hook(activation: Tensor) -> None:
            if self.weights is not None and self.pooled is not None:
                self.pooled[:, place] = einops.einsum(
                    activation.float(), self.weights, "row pos neuron, row pos -> row neuron"
                )

        return hook


def _pool_batch(
    model: Any, batch: Batch, encoded: Sequence[Encoded], pool: _Pool, include_bos: bool
) -> Float[Tensor, "row neuron"]:
    device = model.cfg.device
    cache = read_prefix(model, batch)
    tokens, mask = pad(batch.suffixes, side="left", device=device)
    counted = mask.clone().float()
    for i, row in enumerate(batch.rows):
        first = tokens.shape[1] - len(batch.suffixes[i])
        query = first + max(encoded[row].query_start - len(batch.prefix), 0)
        counted[i, :query] = 0
        if include_bos:
            counted[i, first] = 1
    pool.weights = counted / counted.sum(dim=1, keepdim=True)
    pool.pooled = torch.full((len(batch.rows), len(pool.space)), float("nan"), device=device)
    forward(model, tokens, mask, cache, keep=0)
    pool.weights = None
    return pool.pooled


def read_prefix(model: Any, batch: Batch) -> Any:
    """Read a batch's shared beginning once; the cache, empty where nothing is shared, serves all its rows."""
    cache = new_cache(model, 1)
    if batch.prefix:
        tokens, mask = pad([batch.prefix], side="left", device=model.cfg.device)
        forward(model, tokens, mask, cache, keep=0)
    return repeat_cache(cache, len(batch.rows))
