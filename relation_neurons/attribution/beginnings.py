"""Derivatives of what the rows of a batch begin with: read once for all rows, differentiated for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.inference.batching import Batch
from relation_neurons.models.hooked_model import Cache, Hook, cached, forward, hook_name, hooked
from relation_neurons.models.relevance_rules import RelevanceRules, quiet
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.types import HookedModel


class Beginning:
    """The beginning, usually few-shot examples, of all rows of the batch at hand.

    What a row makes of it goes through keys and values. So their gradients, one set for each row, are led back through
    the one graph of the beginning. Each neuron is multiplied there by a factor of 1, whose derivative is activation
    times gradient, summed over tokens.
    """

    def __init__(self, model: HookedModel, space: NeuronSpace, rules: RelevanceRules | None) -> None:
        """Nothing is read yet; with rules, derivatives are those that they define."""
        self._model, self._space, self._rules = model, space, rules
        self._places = {hook_name(model, site, layer): place for site, layer, place in space.slices()}
        self._factors: dict[str, Tensor] = {}
        self._outputs: list[Tensor] = []

    def read(self, batch: Batch, tokens: Int[Tensor, "1 pos"], kinds: Int[Tensor, "1 pos"], cache: Cache) -> None:
        """Read it, and keep the graph."""
        for name, place in self._places.items():
            self._factors[name] = torch.ones(place.stop - place.start, device=batch.device, requires_grad=True)
        hooks: list[tuple[str, Hook]] = [(name, partial(self._multiply, name)) for name in self._places]
        if self._rules is not None:
            hooks = [*self._rules.before, *hooks, *self._rules.after]
        with quiet(), hooked(self._model, hooks):
            forward(self._model, tokens, kinds, cache, keep=0)
        self._outputs = cached(cache)

    def contributions(self, gradients: Sequence[Float[Tensor, "row pos ..."] | None]) -> Float[Tensor, "row neuron"]:
        """What neurons contribute there to each row.

        Args:
            gradients: Of each row, those of the keys and values, as `cached` lists them; none where nothing depends.
        """
        pairs = [(one, by) for one, by in zip(self._outputs, gradients, strict=True) if by is not None]
        outputs, by_row = [one for one, _ in pairs], [by[:, None] for _, by in pairs]
        found = torch.autograd.grad(
            outputs, list(self._factors.values()), by_row, is_grads_batched=True, allow_unused=True
        )
        values = torch.zeros((len(by_row[0]), len(self._space)), device=by_row[0].device)
        for name, part in zip(self._factors, found, strict=True):
            if part is not None:  # nothing is attended to behind the last layer's neurons
                values[:, self._places[name]] = part.to(values.device)
        self._factors, self._outputs = {}, []
        return values

    def _multiply(self, name: str, activation: Tensor) -> Tensor:
        factors = self._factors[name].to(activation)
        return activation * factors.view(activation.shape[2:])
