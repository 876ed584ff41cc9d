"""Attributions kept while they are computed, as activations are, so that a killed process resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from relation_neurons.activations.cache import kept_values
from relation_neurons.attribution.attribute import Attributions, attribute
from relation_neurons.inference.units import Pool
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode


@dataclass(frozen=True)
class Attribute:
    """Attributes the answers to a batch of prompts."""

    site: str
    dtype: torch.dtype

    def __call__(self, model: HookedModel, prompts: Sequence[Prompt]) -> Tensor:
        """A row per prompt, on the CPU."""
        return attribute(model, prompts, site=self.site, dtype=self.dtype, batch_size=len(prompts)).values.cpu()


def kept_attributions(
    model: HookedModel,
    prompts: Sequence[Prompt],
    folder: str | Path,
    *,
    site: str = "post",
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    pool: Pool | None = None,
    progress: Progress = silent,
) -> Attributions:
    """What `attribute` finds by its default method and target, kept unit by unit.

    Args:
        model: A model from `load_model`, without hooks or interventions.
        prompts: Prompts of facts, at least one.
        folder: Where shards are kept; `drop_shards` empties it.
        site: As for `attribute`.
        batch_size: Prompts at a time; by default what the process that began found memory to hold.
        dtype: Type to store.
        pool: Who attributes; by default this process, with the model.
        progress: Called with the number of prompts finished, kept ones too.

    Raises:
        RelationNeuronsError: As by `attribute`, a model with hooks, or a folder that cannot be written.
    """
    encoded = encode(model, prompts)
    values = kept_values(
        model,
        prompts,
        folder,
        neuron_space(model, site),
        Attribute(site, dtype),
        ("gradient", "logprob", tuple(one.object_ids for one in encoded)),
        batch_size=batch_size,
        dtype=dtype,
        gradients=True,
        pool=pool,
        progress=progress,
    )
    return Attributions(values, tuple(prompts), neuron_space(model, site), any(one.bos for one in encoded))
