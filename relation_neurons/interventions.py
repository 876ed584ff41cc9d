"""Silence neurons while a model runs, and prove that it happened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.models import add_hook, hook_name, neuron_space, pass_hook_name
from relation_neurons.neurons import NeuronSet


@dataclass
class Ablation:
    """A running ablation, and what it has done so far.

    Attributes:
        neurons: What is overwritten.
        value: What with.
        passes: Forward passes seen.
        fired: How often each hook overwrote its neurons.
    """

    neurons: NeuronSet
    value: float
    passes: int = 0
    fired: dict[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Make sure that every hook fired once in every pass.

        Raises:
            RelationNeuronsError: No pass at all, or a hook that was skipped or fired more than once in a pass.
        """
        if self.passes == 0:
            raise refuse(
                f"The ablation of '{self.neurons.name}' ended without a forward pass",
                expected="the model that was named to run inside the block",
            )
        for name, count in self.fired.items():
            if count != self.passes:
                raise refuse(
                    f"The ablation of '{self.neurons.name}' fired {count} times at {name} in {self.passes} passes",
                    expected="once in every pass",
                    do="run whole forward passes inside the block, and do not reset the model's hooks there",
                )


@contextlib.contextmanager
def ablate(model: Any, neurons: NeuronSet, *, value: float = 0.0) -> Iterator[Ablation]:
    """Overwrite neurons at every position and generation step for as long as the block runs (paper, section 4).

    Holds for `model(...)`, `model.generate(...)` and everything in this package, nests, and survives
    TransformerLens's own hook contexts inside the block. Padding is overwritten too where the model is called with
    padded tokens, which no real token can see. On leaving, the hooks are removed, also after an exception, and those
    of others stay.

    Args:
        model: A model from `load_model`.
        neurons: Which neurons; the sites say where.
        value: What each becomes; the paper writes 0.

    Raises:
        RelationNeuronsError: On entering, a neuron or site that the model does not have. On leaving, hooks that did
            not fire exactly once in every forward pass.

    Example:
        with ablate(model, NeuronSet.from_pairs([(12, 345)])):
            model.generate("The capital of France is", max_new_tokens=3)
    """
    for site in {neuron.site for neuron in neurons}:
        neuron_space(model, site).flatten([neuron for neuron in neurons if neuron.site == site])
    ablation = Ablation(neurons, value)
    removals = [add_hook(model, pass_hook_name(), _count_pass(ablation))]
    try:
        for (site, layer), indices in neurons.by_place().items():
            removals.append(add_hook(model, hook_name(site, layer), _overwrite(ablation, site, layer, indices)))
        yield ablation
    finally:
        for remove in removals:
            remove()
    ablation.check()


def _count_pass(ablation: Ablation) -> Callable[[Tensor], None]:
    def hook(activation: Tensor) -> None:
        ablation.passes += 1

    return hook


def _overwrite(ablation: Ablation, site: str, layer: int, indices: list[int]) -> Callable[[Tensor], Tensor]:
    name = hook_name(site, layer)
    ablation.fired[name] = 0
    columns = torch.tensor(sorted(indices))

    def hook(activation: Tensor) -> Tensor:
        nonlocal columns
        columns = columns.to(activation.device)
        ablation.fired[name] += 1
        return activation.index_fill(-1, columns, ablation.value)

    return hook
