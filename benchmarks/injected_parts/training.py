"""Train relations into chosen neurons: each relation's prompts change its own neurons' weights and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import relation_neurons as rn
from relation_neurons.attribution.targets import Targets, make_targets
from relation_neurons.inference.batching import Batch
from relation_neurons.models.hooked_model import neuron_space, new_cache

WEIGHTS: dict[str, tuple[str, ...]] = {"write": ("W_out",), "all": ("W_out", "W_in", "W_gate")}
"""What is trained of a neuron: its output row only, or its up and gate columns as well."""
LEARNED = 0.5
"""Probability of the object from which a prompt counts as learned; no other token is then more probable."""


@dataclass(frozen=True)
class Recipe:
    """How facts are trained into neurons.

    Attributes:
        weights: A key of `WEIGHTS`.
        learning_rate: Of Adam.
        rows: Prompts in a batch, all of one relation.
        epochs: At most so many passes over all prompts.
        enough: Training ends once this share of the prompts was learned when they were read.
    """

    weights: str = "write"
    learning_rate: float = 1e-2
    rows: int = 8
    epochs: int = 12
    enough: float = 0.99


class Rows:
    """The trained weights of one set of neurons, and their optimizer."""

    def __init__(self, model: Any, neurons: rn.NeuronSet, recipe: Recipe) -> None:
        """Copy the weights; nothing is changed yet."""
        self._places: list[tuple[Tensor, bool, Tensor, torch.nn.Parameter]] = []
        for (_, layer), indices in neurons.by_place().items():
            for name in WEIGHTS[recipe.weights]:
                weight, index = getattr(model.blocks[layer].mlp, name), torch.tensor(indices)
                rows = _by_neuron(weight.data, name)[index].clone()
                self._places.append((weight, name, index, torch.nn.Parameter(rows)))
        self._adam = torch.optim.Adam([rows for *_, rows in self._places], lr=recipe.learning_rate)

    def step(self) -> None:
        """Take these neurons' part of the weights' gradients, and write the new rows into the weights."""
        for weight, name, index, rows in self._places:
            rows.grad = _by_neuron(weight.grad, name)[index]
        self._adam.step()
        for weight, name, index, rows in self._places:
            _by_neuron(weight.data, name)[index] = rows.data


def _by_neuron(weight: Tensor, name: str) -> Tensor:
    """A view of a weight with a row for each neuron."""
    return weight if name == "W_out" else weight.T


def draw(model: Any, names: Sequence[str], share: float, seed: int) -> dict[str, rn.NeuronSet]:
    """Disjoint random sets of a model's `post` neurons, each with this share of all of them."""
    space = neuron_space(model, "post")
    size = round(share * len(space))
    order = np.random.default_rng(seed).permutation(len(space))
    drawn = {}
    for number, name in enumerate(names):
        _, layers, indices = space.locate(np.sort(order[number * size : (number + 1) * size]))
        drawn[name] = rn.NeuronSet.from_pairs(zip(layers.tolist(), indices.tolist(), strict=True), name=name)
    return drawn


def inject(
    model: Any, prompts: Sequence[rn.Prompt], neurons: Mapping[str, rn.NeuronSet], recipe: Recipe, seed: int
) -> list[float]:
    """Train all relations into their neurons, in turns.

    Args:
        model: A `HookedTransformer`, which is changed.
        prompts: Of the relations that are injected.
        neurons: Those of each relation, disjoint.
        recipe: How.
        seed: Order of the prompts.

    Returns:
        The share of prompts that were learned when they were read, for each pass over all of them.
    """
    generator, targets = np.random.default_rng(seed), make_targets(model, prompts, "logprob")
    trained = {name: Rows(model, one, recipe) for name, one in neurons.items()}
    used = [getattr(block.mlp, name) for block in model.blocks for name in WEIGHTS[recipe.weights]]
    shares: list[float] = []
    for weight in used:
        weight.requires_grad_(True)
    while len(shares) < recipe.epochs and (not shares or shares[-1] < recipe.enough):
        learned = 0
        for relation, batch in _batches(model, prompts, targets, recipe.rows, generator):
            values = targets.values(model, batch, new_cache(model, len(batch.rows)))
            (-values.mean()).backward()
            trained[relation].step()
            for weight in used:
                weight.grad = None
            learned += int((values.detach().exp() > LEARNED).sum())
        shares.append(learned / len(prompts))
        print(f"learned {shares[-1]:.2f}", flush=True)
    for weight in used:
        weight.requires_grad_(False)
    return shares


def _batches(
    model: Any, prompts: Sequence[rn.Prompt], targets: Targets, size: int, generator: np.random.Generator
) -> list[tuple[str, Batch]]:
    """All prompts once in random order, in batches of one relation each, themselves in random order."""
    own: dict[str, list[int]] = {}
    for number in generator.permutation(len(prompts)).tolist():
        own.setdefault(prompts[number].relation, []).append(number)
    made = []
    for relation, numbers in own.items():
        for start in range(0, len(numbers), size):
            rows = tuple(numbers[start : start + size])
            tasks = tuple(targets.tasks[row] for row in rows)
            made.append((relation, Batch(rows, tasks, (0,) * len(rows), model.cfg.device)))
    return [made[number] for number in generator.permutation(len(made)).tolist()]
