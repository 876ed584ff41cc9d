"""Contributions from derivatives, multiplied by activations and summed over tokens while they are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from relation_neurons.attribution.beginnings import Beginning
from relation_neurons.attribution.targets import Targets
from relation_neurons.errors import refuse
from relation_neurons.inference.batching import Batch
from relation_neurons.models.hooked_model import Cache, Hook, cut_graph, hook_name, hooked
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.relevance_rules import RelevanceRules
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.types import HookedModel


def by_gradient(
    model: HookedModel,
    space: NeuronSpace,
    targets: Targets,
    batch: Batch,
    cache: Cache,
    beginning: Beginning,
    rules: RelevanceRules | None = None,
) -> Float[Tensor, "row neuron"]:
    """Activation times gradient, summed over tokens; with rules, times the derivative that they define.

    Args:
        model: A model from `load_model`.
        space: Its neurons.
        targets: What is read of prompts.
        batch: Prompts that begin alike.
        cache: What they have read in advance.
        beginning: What read it.
        rules: The rules, if any.
    """
    pool = Pool(model, space, padding_of(targets, batch))
    hooks, inputs = pool.hooks(space.slices()), cut_graph(cache)
    if rules is not None:
        hooks = [*rules.before, *hooks, *rules.after]
    with contextlib.nullcontext() if rules is None else rules.proved():
        differentiate(model, hooks, targets, batch, cache)
    values = pool.finished()
    if any(batch.starts):
        values += beginning.contributions([one.grad for one in inputs])
    return values


class Pool:
    """Takes up what neurons contribute, from hooks on their activations and on the gradients of these."""

    def __init__(self, model: HookedModel, space: NeuronSpace, padding: Bool[Tensor, "row pos"]) -> None:
        """Nothing is read yet; what stands at padding will not count."""
        self._model, self._padding = model, padding
        self._values = torch.zeros((len(padding), len(space)), device=padding.device)
        self._held: dict[str, Float[Tensor, "row pos ..."]] = {}

    def hooks(
        self, places: Iterable[tuple[str, int, slice]], factors: Float[Tensor, " row"] | None = None
    ) -> list[tuple[str, Hook]]:
        """Hooks for one pass.

        Args:
            places: Simple sites and layers with the places of their neurons.
            factors: What the activations of each row are multiplied by; by default nothing is changed.
        """
        named = [(hook_name(self._model, site, layer), place) for site, layer, place in places]
        return [(name, partial(self._read, name, place, factors)) for name, place in named]

    def finished(self) -> Float[Tensor, "row neuron"]:
        """The contributions, once every pass is differentiated.

        Raises:
            RelationNeuronsError: A site whose gradient was not computed, since nothing read depends on it.
        """
        if self._held:
            raise refuse(f"The model's answers do not depend on {next(iter(self._held))}", do="use another site")
        return self._values

    def _read(self, name: str, place: slice, factors: Tensor | None, activation: Tensor) -> Tensor:
        self._held[name] = activation.detach()
        if factors is not None:
            activation = scaled(factors)(activation.detach()).requires_grad_()
        elif not activation.requires_grad:  # no graph below the first neurons
            activation = activation.detach().requires_grad_()
        activation.register_hook(partial(self._take, name, place))
        return activation

    def _take(self, name: str, place: slice, gradient: Tensor) -> None:
        product = (gradient.float() * self._held.pop(name).float()).flatten(2)
        self._values[:, place] += product.masked_fill_(self._padding[:, :, None], 0).sum(dim=1)


def scaled(factors: Float[Tensor, " row"]) -> Callable[[Tensor], Tensor]:
    """A hook that multiplies each row by a factor."""
    return lambda activation: activation * factors.to(activation).view(-1, *[1] * (activation.dim() - 1))


def differentiate(
    model: HookedModel, hooks: Iterable[tuple[str, Hook]], targets: Targets, batch: Batch, cache: Cache
) -> None:
    """One pass over a batch and the derivative of its targets; rows do not depend on each other."""
    with hooked(model, hooks):
        total = targets.values(model, batch, cache).sum()
    total.backward()


def padding_of(targets: Targets, batch: Batch) -> Bool[Tensor, "row pos"]:
    """Where nothing stands in what is read of a batch."""
    return targets.read(batch)[1] == PAD
