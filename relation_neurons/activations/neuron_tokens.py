"""Many neurons at once: the activation of some at every token, and the mean of others over each prompt's query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.activations.collection import query_mask
from relation_neurons.errors import refuse
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.models.hooked_model import Cache, forward, hook_name, hooked, neuron_space
from relation_neurons.models.sites import Neuron
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode


@dataclass(frozen=True)
class NeuronTokens:
    """What some neurons do on prompts.

    Attributes:
        tokens: For each prompt, the activation of the first neurons at every token of its query.
        means: The mean over those tokens, of all neurons.
        has_bos: Whether the first token of each prompt is the BOS token.
    """

    tokens: tuple[Float[Tensor, "token shown"], ...]
    means: Float[Tensor, "prompt neuron"]
    has_bos: bool


def neuron_tokens(
    model: HookedModel,
    prompts: Sequence[Prompt],
    shown: Sequence[Neuron],
    pooled: Sequence[Neuron] = (),
    *,
    include_bos: bool = False,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> NeuronTokens:
    """Read many neurons in one pass; for each it finds what `token_activations` finds in a pass of its own.

    Args:
        model: A model from `load_model`.
        prompts: Each is read once.
        shown: Neurons whose activation at every token is kept.
        pooled: Further neurons, of which only the mean over the query's tokens is kept.
        include_bos: Also read the BOS token, for models that take one.
        batch_size: Prompts at a time; by default what memory holds.
        progress: Called with the number of prompts finished.

    Raises:
        RelationNeuronsError: No prompts or neurons, a neuron that the model does not have, or activations that are not
            finite.
    """
    neurons = [*shown, *pooled]
    if not prompts or not neurons:
        raise refuse(f"There are {len(prompts)} prompts and {len(neurons)} neurons", expected="at least one of each")
    places = _places(model, neurons)
    tasks = [Task(one) for one in encode(model, prompts)]
    include_bos = include_bos and any(task.encoded.bos for task in tasks)
    read: dict[tuple[str, int], Tensor] = {}

    def hook(place: tuple[str, int], activation: Tensor) -> None:
        indices = [neurons[column].index for column in places[place]]
        read[place] = activation.flatten(2)[:, :, indices].float().cpu()

    def read_batch(batch: Batch, cache: Cache) -> list[tuple[Tensor, Tensor]]:
        tokens, kinds = batch.read()
        forward(model, tokens, kinds, cache, keep=0)
        there = query_mask(batch, kinds, include_bos).cpu() > 0
        values = torch.empty((*there.shape, len(neurons)))
        for place, columns in places.items():
            values[:, :, columns] = read[place]
        rows = [row[mask] for row, mask in zip(values, there, strict=True)]
        return [(row[:, : len(shown)].clone(), row.mean(dim=0)) for row in rows]

    hooks = [(hook_name(model, *place), partial(hook, place)) for place in places]
    with hooked(model, hooks):
        found = run_batches(model, tasks, read_batch, share=not include_bos, batch_size=batch_size, progress=progress)
    means = torch.stack([mean for _, mean in found])
    if not torch.isfinite(means).all():
        raise refuse("Some activations are not finite", do="check the model's weights for NaN")
    return NeuronTokens(tuple(tokens for tokens, _ in found), means, include_bos)


def _places(model: HookedModel, neurons: Sequence[Neuron]) -> dict[tuple[str, int], list[int]]:
    """The columns of the neurons of each site and layer; neurons that the model lacks are refused."""
    places: dict[tuple[str, int], list[int]] = {}
    for column, neuron in enumerate(neurons):
        places.setdefault((neuron.site, neuron.layer), []).append(column)
    for site in dict.fromkeys(neuron.site for neuron in neurons):
        neuron_space(model, site).flatten([neuron for neuron in neurons if neuron.site == site])
    return places
