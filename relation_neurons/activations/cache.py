"""Activations kept while they are read, so that a killed process resumes after the last whole shard.

Shards are cut from the prompts in their order before any batch is made, so that a shard's values do not depend on
which process reads it or on what was read before. Values equal, bit for bit, those of `collect_activations` on the
prompts of each shard with the same batch size; those on all prompts at once, whose batches are others where there is
more than one shard, they equal within the rounding of float arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.activations.collection import Activations, collect_activations
from relation_neurons.activations.shard_store import Shards, locked
from relation_neurons.errors import refuse
from relation_neurons.inference.batching import rows_that_fit
from relation_neurons.models.fingerprint import weights_digest
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import Encoded, encode
from relation_neurons.storage.fingerprint import code_digest, digest, versions

SHARD_BYTES = 256 * 2**20
"""The most values of a shard, unless a single prompt has more."""
UNEMBEDDED = 3
"""Positions of each row that `relation_neurons.inference.batching.run_batches` expects to unembed by default."""


def kept_activations(
    model: HookedModel,
    prompts: Sequence[Prompt],
    folder: str | Path,
    *,
    site: str = "post",
    include_bos: bool = False,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> Activations:
    """What `collect_activations` finds, kept shard by shard; what a process before this one kept is not read again.

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
        progress: Called with the number of prompts finished, kept ones too.

    Raises:
        RelationNeuronsError: As by `collect_activations`, a model with hooks, or a folder that cannot be written.
    """
    if not prompts:
        raise refuse("There are no prompts", expected="at least one")
    space = neuron_space(model, site)
    include_bos = include_bos and any(one.bos for one in encode(model, prompts))

    def read(part: Sequence[Prompt], **options: Any) -> Tensor:
        return collect_activations(model, part, site=site, include_bos=include_bos, dtype=dtype, **options).values

    values = kept_values(
        model, prompts, folder, space, read, (include_bos,), batch_size=batch_size, dtype=dtype, progress=progress
    )
    return Activations(values, tuple(prompts), space, include_bos)


def kept_values(
    model: HookedModel,
    prompts: Sequence[Prompt],
    folder: str | Path,
    space: NeuronSpace,
    read: Callable[..., Tensor],
    determined_by: tuple[object, ...],
    *,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    gradients: bool = False,
    progress: Progress = silent,
) -> Float[Tensor, "prompt neuron"]:
    """A number for each prompt and neuron, kept as those of `kept_activations` are.

    Args:
        model: A model from `load_model`, without hooks or interventions.
        prompts: At least one.
        folder: Where shards are kept.
        space: The neurons.
        read: Makes the values of some of the prompts, given them, `batch_size` and `progress`.
        determined_by: What values depend on beside the model, the prompts, the neurons and the code.
        batch_size: Prompts at a time; by default what the process that began found memory to hold.
        dtype: Type of what is read.
        gradients: Whether passes are differentiated, which takes more memory.
        progress: Called with the number of prompts finished, kept ones too.

    Raises:
        RelationNeuronsError: A model with hooks, or a folder that cannot be written.
    """
    _require_no_hooks(model)
    encoded = encode(model, prompts)
    rows = max(1, SHARD_BYTES // (len(space) * dtype.itemsize))
    place = Path(folder) / _key(model, space, encoded, determined_by, dtype, rows)[:32]
    with locked(place):
        shards = Shards(place)
        values = torch.empty((len(prompts), len(space)), dtype=dtype)
        parts = [slice(first, min(first + rows, len(prompts))) for first in range(0, len(prompts), rows)]
        shards.require_room(values, parts)
        if batch_size is None:
            longest = max(len(one.ids) for one in encoded)
            batch_size = shards.batch_size or rows_that_fit(model, longest, UNEMBEDDED, gradients=gradients)
        for number, part in enumerate(parts):
            if shards.read(number, values[part]):
                progress(part.stop - part.start)
                continue
            values[part] = read(prompts[part], batch_size=batch_size, progress=progress)
            shards.write(number, values[part], batch_size)
    return values


def _key(
    model: HookedModel,
    space: NeuronSpace,
    encoded: Sequence[Encoded],
    determined_by: tuple[object, ...],
    dtype: torch.dtype,
    rows: int,
) -> str:
    """Digest of all that values depend on: the model by its weights, the prompts by their tokens, the code."""
    cfg = model.cfg
    return digest(
        (type(model).__name__, weights_digest(model), str(cfg.dtype), torch.device(cfg.device).type),
        (space.n_layers, space.widths, *determined_by, str(dtype), rows),
        [(one.ids, one.query_start, one.bos) for one in encoded],
        (code_digest(), sorted(versions().items())),
    )


def _require_no_hooks(model: HookedModel) -> None:
    hooked = [name for name, point in model.hook_dict.items() if point.fwd_hooks]
    if hooked:
        raise refuse(
            f"Model '{model.cfg.model_name}' has a hook at {hooked[0]}, which may change what it does",
            expected="a model as it was loaded, for activations are kept under its name",
            do="leave the block that hooks it, or use collect_activations, which keeps nothing",
        )
