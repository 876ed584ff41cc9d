"""True contributions: what is lost when one neuron is set to zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.attribution.layer_ablation import LayerAblation, of_prompts, read_prompts
from relation_neurons.attribution.targets import Targets
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import Cache
from relation_neurons.models.later_layers import splits_at
from relation_neurons.models.sites import Neuron
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import Progress, silent

MAX_PROMPTS = 128
"""Prompts whose residual streams are held at a time."""


def by_ablation(
    model: HookedModel,
    neurons: Sequence[Neuron],
    targets: Targets,
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "prompt chosen"]:
    """The target of every prompt minus the target with one neuron set to zero at all positions.

    Where it can be done in the residual stream, only the layers above a neuron's are run for it.

    Args:
        model: A model from `load_model`.
        neurons: Each is ablated alone.
        targets: What is read of prompts.
        batch_size: Prompts at a time; by default what memory holds.
        progress: Called with the number of prompts read; each is read once, and once more for each neuron.
    """
    if all(splits_at(model, neuron.site) for neuron in neurons):
        return _by_later_layers(model, neurons, targets, batch_size, progress)
    return by_whole_passes(model, neurons, targets, batch_size, progress)


def by_whole_passes(
    model: HookedModel, neurons: Sequence[Neuron], targets: Targets, batch_size: int | None, progress: Progress
) -> Float[Tensor, "prompt chosen"]:
    """The same by interventions, one condition for each neuron; for every model and site."""
    conditions = [[], *([Intervention(NeuronSet((neuron,), str(neuron)))] for neuron in neurons)]
    tasks = [replace(task, condition=number) for number in range(len(conditions)) for task in targets.tasks]

    def read_batch(batch: Batch, cache: Cache) -> Tensor:
        return targets.values(model, of_prompts(batch, targets), cache).cpu()

    values = torch.empty(len(tasks))
    with rows_under(model, conditions) as patches:
        run_batches(
            model,
            tasks,
            read_batch,
            into=values,
            patches=patches,
            n_logits=targets.n_logits,
            batch_size=batch_size,
            progress=progress,
        )
    read = values.view(len(conditions), len(targets.tasks))
    return (read[:1] - read[1:]).T.contiguous()


def _by_later_layers(
    model: HookedModel, neurons: Sequence[Neuron], targets: Targets, batch_size: int | None, progress: Progress
) -> Float[Tensor, "prompt chosen"]:
    found = torch.empty((len(targets.tasks), len(neurons)))
    columns: dict[int, list[int]] = {}
    for column, neuron in enumerate(neurons):
        columns.setdefault(neuron.layer, []).append(column)
    indices = {layer: [neurons[column].index for column in some] for layer, some in columns.items()}
    for start in range(0, len(found), MAX_PROMPTS):
        part = targets.part(slice(start, start + MAX_PROMPTS))
        prompts = read_prompts(model, part, indices, batch_size, progress)
        for layer, chosen in columns.items():
            rows = model.blocks[layer].mlp.W_out[indices[layer]]
            ablation = LayerAblation(model, part, layer, rows, prompts)
            found[start : start + MAX_PROMPTS, chosen] = ablation.contributions(batch_size, progress)
    return found
