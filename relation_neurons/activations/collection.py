"""One pass over the prompts: every neuron's mean activation on every prompt's query, or one neuron's at each token."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import einops
import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.errors import nearest, refuse
from relation_neurons.inference.batching import Batch, Task, stream
from relation_neurons.models.hooked_model import Cache, add_hook, forward, hook_name, neuron_space
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.sites import Neuron, NeuronSpace, expand_site
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode
from relation_neurons.validation import validated


@validated
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

    def at(self, site: str) -> Activations:
        """The columns of a site, or of several that lie together, without a copy.

        Raises:
            RelationNeuronsError: A site that was not read.
        """
        wanted, there = expand_site(site), dict(self.space.widths)
        missing = [one for one in wanted if one not in there]
        if missing:
            raise refuse(f"Site '{missing[0]}' was not read", expected=nearest(missing[0], there))
        places = [place for one, _, place in self.space.slices() if one in wanted]
        space = NeuronSpace(self.space.model, self.space.n_layers, tuple((one, there[one]) for one in wanted))
        return replace(self, values=self.values[:, places[0].start : places[-1].stop], space=space)


@validated
def collect_activations(
    model: HookedModel,
    prompts: Sequence[Prompt],
    *,
    site: str = "post",
    include_bos: bool = False,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> Activations:
    """Average each neuron over the tokens of each prompt's query (paper, section 3).

    Solved examples and padding never count. They are pooled inside the hooks, so memory holds one number per prompt
    and neuron and no activation cache.

    Args:
        model: A model from `load_model`.
        prompts: Detection prompts, each read once for all relations.
        site: `post` (default) or any other of `relation_neurons.models.sites`; `ffn` are the paper's neurons.
        include_bos: Also pool the BOS token. Off by default: it is an attention sink whose activations are thousands
            of times the others'. Only matters for models that take a BOS token.
        batch_size: Prompts at a time; by default what memory holds.
        dtype: Type to store; pooling itself is done in float32.
        progress: Called with the number of prompts finished.

    Raises:
        RelationNeuronsError: No prompts, an unknown site, or activations that are not finite.
    """
    if not prompts:
        raise refuse("There are no prompts", expected="at least one")
    space = neuron_space(model, site)
    values = torch.empty((len(prompts), len(space)), dtype=dtype)
    tasks = [Task(one) for one in encode(model, prompts)]
    include_bos = include_bos and any(task.encoded.bos for task in tasks)
    with _Pool(model, space) as pool:

        def work(batch: Batch, cache: Cache) -> None:
            found = _pool_batch(model, batch, cache, pool, include_bos).to("cpu", dtype)
            if not torch.isfinite(found).all():
                do = "store float32, and check the model's weights for NaN"
                raise refuse(f"Some activations are not finite as {dtype}", do=do)
            values[list(batch.rows)] = found

        stream(model, tasks, work, share=not include_bos, batch_size=batch_size, progress=progress)
    return Activations(values, tuple(prompts), space, include_bos)


def token_activations(
    model: HookedModel,
    prompts: Sequence[Prompt],
    neuron: Neuron,
    *,
    include_bos: bool = False,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> list[Float[Tensor, " token"]]:
    """One neuron's activation at every token of each prompt's query; their mean is what `collect_activations` finds.

    Args:
        model: A model from `load_model`.
        prompts: Each is read once.
        neuron: Which; only its site in its layer is hooked.
        include_bos: Put the BOS token's in front, for models that take one.
        batch_size: Prompts at a time; by default what memory holds.
        progress: Called with the number of prompts finished.

    Raises:
        RelationNeuronsError: No prompts, a neuron that the model does not have, or activations that are not finite.
    """
    if not prompts:
        raise refuse("There are no prompts", expected="at least one")
    neuron_space(model, neuron.site).flatten([neuron])
    tasks = [Task(one) for one in encode(model, prompts)]
    include_bos = include_bos and any(task.encoded.bos for task in tasks)
    found: list[Tensor] = [torch.empty(0)] * len(prompts)
    read: list[Tensor] = []

    def hook(activation: Tensor) -> None:
        read.append(activation.flatten(2)[:, :, neuron.index].float())

    def work(batch: Batch, cache: Cache) -> None:
        tokens, kinds = batch.read()
        counted = _counted(batch, kinds, include_bos) > 0
        read.clear()  # what was read in advance
        forward(model, tokens, kinds, cache, keep=0)
        for row, values, there in zip(batch.rows, read.pop(), counted, strict=True):
            found[row] = values[there].cpu()

    remove = add_hook(model, hook_name(neuron.site, neuron.layer), hook)
    try:
        stream(model, tasks, work, share=not include_bos, batch_size=batch_size, progress=progress)
    finally:
        remove()
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise refuse(f"Some activations of {neuron} are not finite", do="check the model's weights for NaN")
    return found


class _Pool:
    """Hooks at every site and layer of a space that add up one batch; they do nothing outside `into`."""

    def __init__(self, model: HookedModel, space: NeuronSpace) -> None:
        self.model, self.space = model, space
        self._now: tuple[Float[Tensor, "row neuron"], Float[Tensor, "row pos"]] | None = None

    def __enter__(self) -> _Pool:
        self._removals = []
        for site, layer, place in self.space.slices():
            self._removals.append(add_hook(self.model, hook_name(site, layer), self._hook(place)))
        return self

    def __exit__(self, *_: object) -> None:
        for remove in self._removals:
            remove()

    @contextlib.contextmanager
    def into(self, pooled: Float[Tensor, "row neuron"], weights: Float[Tensor, "row pos"]) -> Iterator[None]:
        """Pool the forward pass in this block."""
        self._now = pooled, weights
        try:
            yield
        finally:
            self._now = None

    def _hook(self, place: slice) -> Any:
        def hook(activation: Tensor) -> None:
            if self._now is not None:
                pooled, weights = self._now
                pooled[:, place] = einops.einsum(
                    activation.flatten(2).float(), weights, "row pos neuron, row pos -> row neuron"
                )

        return hook


def _pool_batch(
    model: HookedModel, batch: Batch, cache: Cache, pool: _Pool, include_bos: bool
) -> Float[Tensor, "row neuron"]:
    tokens, kinds = batch.read()
    counted = _counted(batch, kinds, include_bos)
    pooled = torch.full((len(batch.rows), len(pool.space)), float("nan"), device=tokens.device)
    with pool.into(pooled, counted / counted.sum(dim=1, keepdim=True)):
        forward(model, tokens, kinds, cache, keep=0)
    return pooled


def _counted(batch: Batch, kinds: Int[Tensor, "row pos"], include_bos: bool) -> Float[Tensor, "row pos"]:
    """1 where a batch reads a token of a query, or the BOS token if it counts."""
    counted = (kinds != PAD).float()
    for row, (task, start) in enumerate(zip(batch.tasks, batch.starts, strict=True)):
        first = kinds.shape[1] - len(task.encoded.ids) + start
        counted[row, : first + max(task.encoded.query_start - start, 0)] = 0
        if include_bos and task.encoded.bos:
            counted[row, first] = 1
    return counted
