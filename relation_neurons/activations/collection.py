"""One pass over the prompts: every neuron's mean activation on every prompt's query, or one neuron's at each token."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import einops
import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.errors import nearest, refuse
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.models.hooked_model import Cache, forward, hook_name, hooked, neuron_space
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.sites import Neuron, NeuronSpace, expand_site
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode
from relation_neurons.statistics.formatting import count_text, name_list
from relation_neurons.validation import validated


@validated
@dataclass(frozen=True)
class Activations:
    """Pooled activations and what their rows and columns are.

    Attributes:
        values: Mean over the query's tokens, on the device where they are kept.
        prompts: One for each row.
        space: The neurons, one for each column.
        include_bos: Whether BOS was pooled as well.
        score_on: The GPU that they are moved through to be ranked, some neurons at a time; None computes where they
            are kept.
    """

    kind: ClassVar[str] = "activations"

    values: Float[Tensor, "prompt neuron"]
    prompts: tuple[Prompt, ...]
    space: NeuronSpace
    include_bos: bool = False
    score_on: torch.device | None = field(default=None, compare=False, kw_only=True)

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

    def to(self, device: str | torch.device) -> Activations:
        """The same on another device, or these where they are there already."""
        return replace(self, values=self.values.to(device))

    def __repr__(self) -> str:
        sites = name_list([site for site, _ in self.space.widths])
        rows, neurons = count_text(len(self.prompts), "prompt"), count_text(len(self.space), "neuron")
        dtype = str(self.values.dtype).removeprefix("torch.")
        return (
            f"{type(self).__name__}({rows} x {neurons} at {sites}, {dtype}{', with BOS' if self.include_bos else ''})"
        )


@validated
def collect_activations(
    model: HookedModel,
    prompts: Sequence[Prompt],
    *,
    site: str = "post",
    include_bos: bool = False,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    keep_on: str | torch.device = "cpu",
    progress: Progress = silent,
) -> Activations:
    """Average each neuron over the tokens of each prompt's query (paper, section 3).

    Few-shot examples and padding never count. They are pooled inside the hooks, so memory holds one number per prompt
    and neuron and no activation cache.

    Args:
        model: A model from `load_model`.
        prompts: Detection prompts, each read once for all relations.
        site: `post` (default) or any other of `relation_neurons.models.sites`; `ffn` are the paper's neurons.
        include_bos: Also pool the BOS token. Off by default: it is an attention sink whose activations are thousands
            of times the others'. Only matters for models that take a BOS token.
        batch_size: Prompts at a time; by default what memory holds.
        dtype: Type to store; pooling itself is done in float32.
        keep_on: Where the values are kept; on the model's GPU they need not be moved before they are scored there.
        progress: Called with the number of prompts finished.

    Raises:
        RelationNeuronsError: No prompts, an unknown site, or activations that are not finite.
    """
    if not prompts:
        raise refuse("There are no prompts", expected="at least one")
    space = neuron_space(model, site)
    values = torch.empty((len(prompts), len(space)), dtype=dtype, device=keep_on)
    tasks = [Task(one) for one in encode(model, prompts)]
    include_bos = include_bos and any(task.encoded.bos for task in tasks)
    not_finite = torch.zeros((), dtype=torch.bool, device=keep_on)

    def read_batch(batch: Batch, cache: Cache) -> Tensor:
        tokens, kinds = batch.read()
        with token_means(model, space, query_mask(batch, kinds, include_bos)) as means:
            forward(model, tokens, kinds, cache, keep=0)
        found = means.to(values.device, dtype)
        not_finite.logical_or_(~torch.isfinite(found).all())  # read at the end, for a GPU waits for whoever asks
        return found

    run_batches(model, tasks, read_batch, into=values, share=not include_bos, batch_size=batch_size, progress=progress)
    if not_finite:
        do = "store float32, and check the model's weights for NaN"
        raise refuse(f"Some activations are not finite as {dtype}", do=do)
    return Activations(values, tuple(prompts), space, include_bos)


@contextlib.contextmanager
def token_means(
    model: HookedModel, space: NeuronSpace, mask: Float[Tensor, "row pos"]
) -> Iterator[Float[Tensor, "row neuron"]]:
    """Each neuron's mean over the positions where the mask is 1, in float32, of the forward pass in this block.

    Yields:
        Means that the pass fills in; until then they are NaN.
    """
    means = torch.full((len(mask), len(space)), float("nan"), device=mask.device)
    weights = mask / mask.sum(dim=1, keepdim=True)

    def average(place: slice, activation: Tensor) -> None:
        there = weights.to(activation.device)  # of the layer, which may be another than that of the means
        pooled = einops.einsum(activation.flatten(2).float(), there, "row pos neuron, row pos -> row neuron")
        means[:, place] = pooled.to(means.device)

    with hooked(
        model, [(hook_name(model, site, layer), partial(average, place)) for site, layer, place in space.slices()]
    ):
        yield means


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
    read: list[Tensor] = []

    def hook(activation: Tensor) -> None:
        read.append(activation.flatten(2)[:, :, neuron.index].float())

    def read_batch(batch: Batch, cache: Cache) -> list[Tensor]:
        tokens, kinds = batch.read()
        read.clear()  # what was read in advance
        forward(model, tokens, kinds, cache, keep=0)
        counted = query_mask(batch, kinds, include_bos) > 0
        return [values[there] for values, there in zip(read.pop().cpu(), counted.cpu(), strict=True)]

    with hooked(model, [(hook_name(model, neuron.site, neuron.layer), hook)]):
        found = run_batches(model, tasks, read_batch, share=not include_bos, batch_size=batch_size, progress=progress)
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise refuse(f"Some activations of {neuron} are not finite", do="check the model's weights for NaN")
    return found


def query_mask(batch: Batch, kinds: Int[Tensor, "row pos"], include_bos: bool) -> Float[Tensor, "row pos"]:
    """1 where a batch reads a token of a query, or the BOS token if it counts."""
    pairs = list(zip(batch.tasks, batch.starts, strict=True))
    first = [kinds.shape[1] - len(task.encoded.ids) + start for task, start in pairs]
    query = [
        place + max(task.encoded.query_start - start, 0) for place, (task, start) in zip(first, pairs, strict=True)
    ]
    columns = torch.arange(kinds.shape[1])
    counted = columns >= torch.tensor(query)[:, None]
    if include_bos:
        bos = torch.tensor([task.encoded.bos for task, _ in pairs])
        counted |= (columns == torch.tensor(first)[:, None]) & bos[:, None]
    return (counted.to(kinds.device) & (kinds != PAD)).float()
