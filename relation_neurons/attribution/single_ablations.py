"""True contributions: what is lost when one neuron is set to zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.attribution.targets import Targets
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import Cache
from relation_neurons.models.sites import Neuron
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import Progress, silent


def by_ablation(
    model: HookedModel,
    neurons: Sequence[Neuron],
    targets: Targets,
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "prompt chosen"]:
    """The target of every prompt minus the target with one neuron set to zero at all positions.

    Args:
        model: A model from `load_model`.
        neurons: Each is ablated alone.
        targets: What is read of prompts.
        batch_size: Prompts at a time; by default what memory holds.
        progress: Called with the number of prompts read; each is read once, and once more for each neuron.
    """
    conditions = [[], *([Intervention(NeuronSet((neuron,), str(neuron)))] for neuron in neurons)]
    prompts = range(len(targets.tasks))
    tasks = [replace(task, condition=number) for number in range(len(conditions)) for task in targets.tasks]

    def read_batch(batch: Batch, cache: Cache) -> Tensor:
        numbers = tuple(row % len(prompts) for row in batch.rows)
        return targets.values(model, replace(batch, rows=numbers), cache).cpu()

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
    read = values.view(len(conditions), len(prompts))
    return (read[:1] - read[1:]).T.contiguous()
