"""Contributions from derivatives, multiplied by activations and summed over tokens while they are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from relation_neurons.attribution.targets import Targets
from relation_neurons.errors import refuse
from relation_neurons.inference.batching import Batch
from relation_neurons.models.hooked_model import Hook, hook_name, hooked, new_cache
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.relevance_rules import RelevanceRules
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.types import HookedModel


def by_gradient(
    model: HookedModel, space: NeuronSpace, targets: Targets, batch: Batch, rules: RelevanceRules | None = None
) -> Float[Tensor, "row neuron"]:
    """Activation times gradient, summed over tokens; with rules, times the derivative that they define."""
    pool = Pool(model, space, padding_of(targets, batch))
    hooks = pool.hooks(space.slices())
    if rules is not None:
        hooks = [*rules.before, *hooks, *rules.after]
    with contextlib.nullcontext() if rules is None else rules.proved():
        differentiate(model, hooks, targets, batch)
    return pool.finished()


class Pool:
    """Takes up what neurons contribute, from hooks on their activations and on the gradients of these."""

    def __init__(self, model: HookedModel, space: NeuronSpace, padding: Bool[Tensor, "row pos"]) -> None:
        """Nothing is read yet; what stands at padding will not count."""
        self._model, self._padding = model, padding
        self._values = torch.zeros((len(padding), len(space)), device=padding.device)
        self._held: dict[str, Float[Tensor, "row pos ..."]] = {}

    def hooks(
        self, places: Iterable[tuple[str, int, slice]], point: float | None = None, weight: float = 1.0
    ) -> list[tuple[str, Hook]]:
        """Hooks for one pass.

        Args:
            places: Simple sites and layers with the places of their neurons.
            point: Factor of activations at this point of a path; None is the end of it, where nothing is changed.
            weight: Of this pass in the sum.
        """
        named = [(hook_name(self._model, site, layer), place) for site, layer, place in places]
        return [(name, partial(self._read, name, place, point, weight)) for name, place in named]

    def finished(self) -> Float[Tensor, "row neuron"]:
        """The contributions, once every pass is differentiated.

        Raises:
            RelationNeuronsError: A site whose gradient was not computed, since nothing read depends on it.
        """
        if self._held:
            raise refuse(f"The model's answers do not depend on {next(iter(self._held))}", do="use another site")
        return self._values

    def _read(self, name: str, place: slice, point: float | None, weight: float, activation: Tensor) -> Tensor:
        self._held[name] = activation.detach()
        if point is not None:
            activation = (activation.detach() * point).requires_grad_()
        elif not activation.requires_grad:  # no graph below the first neurons
            activation = activation.detach().requires_grad_()
        activation.register_hook(partial(self._take, name, place, weight))
        return activation

    def _take(self, name: str, place: slice, weight: float, gradient: Tensor) -> None:
        product = (gradient.float() * self._held.pop(name).float()).flatten(2)
        self._values[:, place] += weight * product.masked_fill_(self._padding[:, :, None], 0).sum(dim=1)


def differentiate(model: HookedModel, hooks: Iterable[tuple[str, Hook]], targets: Targets, batch: Batch) -> None:
    """One pass over a batch and the derivative of its targets; rows do not depend on each other."""
    with hooked(model, hooks):
        total = targets.values(model, batch, new_cache(model, len(batch.rows))).sum()
    total.backward()


def padding_of(targets: Targets, batch: Batch) -> Bool[Tensor, "row pos"]:
    """Where nothing stands in what is read of a batch."""
    return targets.read(batch)[1] == PAD
