"""The prompts whose activations an intervention takes its numbers from, looked up by neuron."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from relation_neurons.activations.collection import Activations
from relation_neurons.errors import nearest, refuse
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons.neuron_set import NeuronSet


@dataclass(frozen=True, eq=False)
class Reference:
    """Pooled activations of named prompts, looked up by neuron.

    Attributes:
        name: What the prompts are.
        n: How many there are.
        neurons: What the columns are: all of a model's neurons, or a set.
        values: A row per prompt; or a single row, where what it was reduced to has been read from a file.
        rows: Which rows are the reference set; all if none are named.
    """

    name: str
    n: int
    neurons: NeuronSpace | NeuronSet
    values: Float[Tensor, "prompt neuron"]
    rows: tuple[int, ...] | None = None

    @classmethod
    def of(cls, activations: Activations, relation: str | None) -> Reference:
        """All prompts of some activations, or one relation's.

        Raises:
            RelationNeuronsError: No such relation.
        """
        prompts = activations.prompts
        if relation is None:
            return cls("all prompts", len(prompts), activations.space, activations.values)
        rows = tuple(row for row, prompt in enumerate(prompts) if prompt.relation == relation)
        if not rows:
            names = {prompt.relation for prompt in prompts}
            raise refuse(f"There is no prompt of '{relation}' in the reference set", expected=nearest(relation, names))
        return cls(relation, len(rows), activations.space, activations.values, rows)

    def at(self, neurons: NeuronSet) -> Float[ndarray, "prompt neuron"]:
        """The columns of some neurons, in double precision.

        Raises:
            RelationNeuronsError: A neuron that is not among them.
        """
        if isinstance(self.neurons, NeuronSpace):
            columns = self.neurons.flatten(list(neurons))
        else:
            place = {neuron: number for number, neuron in enumerate(self.neurons)}
            missing = [neuron for neuron in neurons if neuron not in place]
            if missing:
                raise refuse(f"The reference '{self.name}' has no number for {missing[0]}")
            columns = np.array([place[neuron] for neuron in neurons])
        chosen = self.values[:, torch.from_numpy(columns)].double().numpy(force=True)
        chosen = chosen if self.rows is None else chosen[list(self.rows)]
        if not len(chosen) or not np.isfinite(chosen).all():
            raise refuse(f"The reference '{self.name}' has no prompts, or values that are not finite")
        return chosen
