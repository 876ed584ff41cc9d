"""Activations kept while they are read, so that a killed process resumes after the last whole unit.

Batches are fixed before any is read, and a shard holds whole ones, so that values do not depend on who reads them or on
what was read before. They equal, bit for bit, those of `collect_activations` on the prompts of each batch alone; those
on all prompts at once they equal within the rounding of float arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.activations.collection import Activations, collect_activations
from relation_neurons.activations.shard_store import Shards, locked
from relation_neurons.errors import refuse
from relation_neurons.inference.batch_plan import Task, batches_of
from relation_neurons.inference.batching import rows_that_fit
from relation_neurons.inference.units import Identity, InProcess, Job, Pool
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import Encoded, encode
from relation_neurons.storage.fingerprint import digest

SHARD_BYTES = 256 * 2**20
"""The most values of a batch, and of a shard, unless a single prompt has more."""
UNEMBEDDED = 3
"""Positions of each row that `relation_neurons.inference.batching.run_batches` expects to unembed by default."""


@dataclass(frozen=True)
class Collect:
    """Reads the activations of a batch of prompts."""

    site: str
    include_bos: bool
    dtype: torch.dtype

    def __call__(self, model: HookedModel, prompts: Sequence[Prompt]) -> Tensor:
        """A row per prompt, on the CPU."""
        options: dict[str, Any] = {"site": self.site, "include_bos": self.include_bos, "dtype": self.dtype}
        return collect_activations(model, prompts, batch_size=len(prompts), **options).values


def kept_activations(
    model: HookedModel,
    prompts: Sequence[Prompt],
    folder: str | Path,
    *,
    site: str = "post",
    include_bos: bool = False,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    pool: Pool | None = None,
    progress: Progress = silent,
) -> Activations:
    """What `collect_activations` finds, kept unit by unit; what a process before this one kept is not read again.

    Memory holds the values once, and one shard. A shard that is damaged is named in a warning and read again. Where
    another process keeps the same activations, this one waits for it and takes over what it kept.

    Args:
        model: A model from `load_model`, without hooks or interventions.
        prompts: Detection prompts.
        folder: Where shards are kept, apart for all that values depend on; `drop_shards` empties it.
        site: As for `collect_activations`.
        include_bos: As for `collect_activations`.
        batch_size: Prompts at a time; by default what the process that began found memory to hold.
        dtype: Type to store.
        pool: Who reads; by default this process, with the model.
        progress: Called with the number of prompts finished, kept ones too.

    Raises:
        RelationNeuronsError: As by `collect_activations`, a model with hooks, or a folder that cannot be written.
    """
    if not prompts:
        raise refuse("There are no prompts", expected="at least one")
    space = neuron_space(model, site)
    include_bos = include_bos and any(one.bos for one in encode(model, prompts))
    values = kept_values(
        model,
        prompts,
        folder,
        space,
        Collect(site, include_bos, dtype),
        (include_bos,),
        batch_size=batch_size,
        dtype=dtype,
        share=not include_bos,
        pool=pool,
        progress=progress,
    )
    return Activations(values, tuple(prompts), space, include_bos)


def kept_values(
    model: HookedModel,
    prompts: Sequence[Prompt],
    folder: str | Path,
    space: NeuronSpace,
    job: Job,
    determined_by: tuple[object, ...],
    *,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    share: bool = True,
    gradients: bool = False,
    pool: Pool | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "prompt neuron"]:
    """A number for each prompt and neuron, kept as those of `kept_activations` are.

    Args:
        model: A model from `load_model`, without hooks or interventions.
        prompts: At least one.
        folder: Where shards are kept.
        space: The neurons.
        job: Makes the values of a batch of prompts.
        determined_by: What values depend on beside the model, the prompts, the neurons and the code.
        batch_size: Prompts at a time; by default what the process that began found memory to hold.
        dtype: Type of what is read.
        share: Whether prompts that begin alike share the computation of that beginning.
        gradients: Whether passes are differentiated, which takes more memory.
        pool: Who does the job; by default this process, with the model.
        progress: Called with the number of prompts finished, kept ones too.

    Raises:
        RelationNeuronsError: A model with hooks, or a folder that cannot be written.
    """
    _require_no_hooks(model)
    pool, encoded = pool or InProcess(model), encode(model, prompts)
    most = max(1, SHARD_BYTES // (len(space) * dtype.itemsize))
    place = Path(folder) / _key(pool.identity, space, encoded, determined_by, dtype, most)[:32]
    with locked(place):
        shards = Shards(place)
        if batch_size is None and (batch_size := shards.batch_size) is None:
            longest = max(len(one.ids) for one in encoded)
            fit = partial(rows_that_fit, n_tokens=longest, n_logits=UNEMBEDDED, gradients=gradients)
            batch_size = pool.call(fit)
        size, tasks = min(batch_size, most), [Task(one) for one in encoded]
        batches = batches_of(model, tasks, size, share=share, gradients=gradients)
        values = torch.empty((len(prompts), len(space)), dtype=dtype)
        there = set(shards.read(values, batches))
        left = {number: batch for number, batch in enumerate(batches) if number not in there}
        n_left = sum(map(len, left.values()))
        progress(len(prompts) - n_left)
        shards.require_room(n_left, values)

        def store(unit: Sequence[int], results: Sequence[Tensor]) -> None:
            rows = [row for number in unit for row in batches[number]]
            found = torch.cat(list(results))
            values[rows] = found
            shards.write(unit[0], rows, found, size)

        asked = {number: [prompts[row] for row in batch] for number, batch in left.items()}
        pool.compute(job, asked, store, most_rows=most, progress=progress)
    return values


def _key(
    identity: Identity,
    space: NeuronSpace,
    encoded: Sequence[Encoded],
    determined_by: tuple[object, ...],
    dtype: torch.dtype,
    most: int,
) -> str:
    """Digest of all that values depend on: the model by its weights, the prompts by their tokens, the code."""
    return digest(
        (identity.kind, identity.weights, identity.dtype, identity.device),
        (space.n_layers, space.widths, *determined_by, str(dtype), most),
        [(one.ids, one.query_start, one.bos) for one in encoded],
        (identity.code, identity.versions),
    )


def _require_no_hooks(model: HookedModel) -> None:
    hooked = [name for name, point in model.hook_dict.items() if point.fwd_hooks]
    if hooked:
        raise refuse(
            f"Model '{model.cfg.model_name}' has a hook at {hooked[0]}, which may change what it does",
            expected="a model as it was loaded, for activations are kept under its name",
            do="leave the block that hooks it, or use collect_activations, which keeps nothing",
        )
