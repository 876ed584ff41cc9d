"""Single ablations in the residual stream: what lies below a neuron is computed once, what lies above it anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.attribution.targets import Targets
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.models.hooked_model import Cache, Hook, hook_name, hooked
from relation_neurons.models.later_layers import STREAM, run_from
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress


@dataclass(frozen=True)
class CleanPrompt:
    """What a pass over a prompt leaves when nothing is ablated.

    Attributes:
        target: The target.
        streams: The residual stream behind each layer of chosen neurons.
        posts: The activations of these at `post`.
    """

    target: float
    streams: dict[int, Float[Tensor, "pos d_model"]]
    posts: dict[int, Float[Tensor, "pos chosen"]]


def read_prompts(
    model: HookedModel,
    targets: Targets,
    indices: Mapping[int, Sequence[int]],
    batch_size: int | None,
    progress: Progress,
) -> list[CleanPrompt]:
    """Read prompts without an ablation.

    Args:
        model: A model whose neurons can be ablated in the residual stream.
        targets: What is read of prompts.
        indices: The chosen neurons of each layer.
        batch_size: Prompts at a time; by default what memory holds.
        progress: Called with the number of prompts read.
    """

    def read_batch(batch: Batch, cache: Cache) -> list[CleanPrompt]:
        streams: dict[int, Tensor] = {}
        posts: dict[int, Tensor] = {}
        hooks: list[tuple[str, Hook]] = []
        for layer, chosen in indices.items():
            hooks.append((STREAM.format(layer=layer), partial(streams.__setitem__, layer)))
            hooks.append((hook_name(model, "post", layer), partial(_keep_columns, posts, layer, chosen)))
        with hooked(model, hooks):
            values = targets.values(model, batch, cache).tolist()
        real = targets.read(batch)[1] != PAD
        rows = [
            [{layer: one[row][real[row]] for layer, one in kept.items()} for kept in (streams, posts)]
            for row in range(len(values))
        ]
        return [CleanPrompt(value, *kept) for value, kept in zip(values, rows, strict=True)]

    return run_batches(
        model,
        targets.tasks,
        read_batch,
        share=False,
        n_logits=targets.n_logits,
        batch_size=batch_size,
        progress=progress,
    )


def _keep_columns(kept: dict[int, Tensor], layer: int, chosen: Sequence[int], activation: Tensor) -> None:
    kept[layer] = activation[:, :, list(chosen)]


@dataclass(frozen=True)
class LayerAblation:
    """Pairs of a prompt and a neuron of one layer, whose number is the condition.

    Attributes:
        model: The model.
        targets: What is read of prompts.
        layer: The neurons' layer.
        rows: What one unit of each neuron's activation adds to the residual stream.
        prompts: What each prompt leaves when nothing is ablated.
    """

    model: HookedModel
    targets: Targets
    layer: int
    rows: Float[Tensor, "chosen d_model"]
    prompts: Sequence[CleanPrompt]

    def contributions(self, batch_size: int | None, progress: Progress) -> Float[Tensor, "prompt chosen"]:
        """The target of every prompt minus that without each neuron."""
        tasks = [replace(task, condition=number) for number in range(len(self.rows)) for task in self.targets.tasks]
        ablated = torch.empty(len(tasks))
        run_batches(
            self.model,
            tasks,
            self._read,
            begin=self._begin,
            into=ablated,
            n_logits=self.targets.n_logits,
            batch_size=batch_size,
            progress=progress,
        )
        clean = torch.tensor([prompt.target for prompt in self.prompts])
        return (clean - ablated.view(len(self.rows), -1)).T

    def _begin(self, batch: Batch, tokens: Int[Tensor, "row pos"], kinds: Int[Tensor, "row pos"], cache: Cache) -> None:
        """Read what several prompts begin with."""
        stream = self._ablated(batch, [slice(0, start) for start in batch.starts], kinds)
        run_from(self.model, self.layer, stream, kinds, cache, keep=0)

    def _read(self, batch: Batch, cache: Cache) -> Float[Tensor, " row"]:
        """The target of each row without its neuron."""
        kinds = self.targets.read(batch)[1]
        stream = self._ablated(batch, [slice(start, None) for start in batch.starts], kinds)
        reading = run_from(self.model, self.layer, stream, kinds, cache, keep=self.targets.longest(batch))
        return self.targets.judge(of_prompts(batch, self.targets), reading).cpu()

    def _ablated(
        self, batch: Batch, spans: Sequence[slice], kinds: Int[Tensor, "row pos"]
    ) -> Float[Tensor, "row pos d_model"]:
        """The residual stream without each row's neuron at a span of its positions, padded on the left."""
        n_rows, length = kinds.shape
        streams = torch.zeros((n_rows, length, self.rows.shape[1]), device=kinds.device)
        posts = torch.zeros((n_rows, length), device=kinds.device)
        for row, (number, task, span) in enumerate(zip(batch.rows, batch.tasks, spans, strict=True)):
            prompt = self.prompts[number % len(self.prompts)]
            part = prompt.streams[self.layer][span]
            streams[row, length - len(part) :] = part
            posts[row, length - len(part) :] = prompt.posts[self.layer][span, task.condition]
        return streams - posts[:, :, None] * self.rows[[task.condition for task in batch.tasks]][:, None]


def of_prompts(batch: Batch, targets: Targets) -> Batch:
    """A batch of prompts under conditions, its rows numbered as the prompts are."""
    return replace(batch, rows=tuple(row % len(targets.tasks) for row in batch.rows))
