"""Integrated gradients, one layer of a simple site at a time, as exact as is asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.attribution.gradients import Pool, differentiate, padding_of
from relation_neurons.attribution.targets import Targets
from relation_neurons.inference.batching import Batch
from relation_neurons.models.hooked_model import hook_name, hooked, new_cache
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.types import HookedModel

TOLERANCE = 0.0025
"""Share of what is lost without a layer that the sum over a part of its path may miss."""
LEAST_LOSS = 0.1
"""Nats; what is lost counts as at least this much."""
HALVINGS = 12
"""How often a part of a path is halved at most."""


def by_path(
    model: HookedModel, space: NeuronSpace, targets: Targets, batch: Batch, steps: int
) -> Float[Tensor, "row neuron"]:
    """Integrated gradients along a path of its own for each layer of each simple site, from zeros to what is there.

    Later layers follow, as they do in an ablation, so that contributions sum over the layer to what is lost without it.
    """
    values = torch.empty((len(batch.rows), len(space)), device=batch.device)
    clean = _target(model, targets, batch, "", None)
    for site, layer, place in space.slices():
        path = _Path(model, space, targets, (site, layer, place), steps)
        zeroed = _target(model, targets, batch, path.hook, 0.0)
        tolerance = TOLERANCE * (clean - zeroed).abs().clamp(min=LEAST_LOSS)
        values[:, place] = found = path.integral(batch, (0.0, 1.0), (zeroed, clean), tolerance, HALVINGS)
        _warn(path.hook, (found.sum(dim=1) - (clean - zeroed)).abs(), 4 * tolerance)
    return values


def _warn(hook: str, missed: Float[Tensor, " row"], tolerance: Float[Tensor, " row"]) -> None:
    """Tell of contributions that do not sum to what is lost."""
    if (missed > tolerance).any():
        found = f"Integrated gradients at {hook} miss up to {float(missed.max()):.2g} nats of what is lost without it"
        warnings.warn(f"{found}; more steps may find them", stacklevel=3)


@dataclass(frozen=True)
class _Path:
    """The path of one layer of a simple site.

    Attributes:
        model: The model.
        space: Its neurons at all sites.
        targets: What is read of prompts.
        part: The site, the layer and the place of its neurons.
        steps: Points of a Gauss-Legendre sum.
    """

    model: HookedModel
    space: NeuronSpace
    targets: Targets
    part: tuple[str, int, slice]
    steps: int

    @property
    def hook(self) -> str:
        """The hook of its neurons."""
        return hook_name(self.model, *self.part[:2])

    def integral(
        self,
        batch: Batch,
        ends: tuple[float, float],
        values: tuple[Float[Tensor, " row"], Float[Tensor, " row"]],
        tolerance: Float[Tensor, " row"],
        halvings: int,
    ) -> Float[Tensor, "row neuron"]:
        """The contributions along a part of the path, halved for the rows where their sum is not what the target gains.

        Args:
            batch: The rows.
            ends: Factors of the activations at both ends.
            values: The target there.
            tolerance: What the sum may miss.
            halvings: How often the part may be halved.
        """
        found, gained = self._sum(batch, *ends), values[1] - values[0]
        missed = (found.sum(dim=1) - gained).abs()
        rows = (missed > tolerance).nonzero().flatten().tolist()
        if rows and halvings:
            rest, middle = batch.part(rows), sum(ends) / 2
            value = _target(self.model, self.targets, rest, self.hook, middle)
            halves = ((ends[0], middle), (values[0][rows], value)), ((middle, ends[1]), (value, values[1][rows]))
            first, second = (self.integral(rest, *half, tolerance[rows], halvings - 1) for half in halves)
            found[rows] = first + second
        return found

    def _sum(self, batch: Batch, low: float, high: float) -> Float[Tensor, "row neuron"]:
        points, weights = np.polynomial.legendre.leggauss(self.steps)
        pool = Pool(self.model, self.space, padding_of(self.targets, batch))
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            hooks = pool.hooks([self.part], low + (high - low) * float(point), (high - low) * float(weight))
            differentiate(self.model, hooks, self.targets, batch)
        return pool.finished()[:, self.part[2]]


@torch.no_grad()
def _target(
    model: HookedModel, targets: Targets, batch: Batch, hook: str, factor: float | None
) -> Float[Tensor, " row"]:
    """The target where what is at a hook is multiplied by a factor; None changes nothing."""
    functions: list[tuple[str, Callable[[Tensor], Tensor]]] = []
    if factor is not None:
        functions.append((hook, lambda activation: activation * factor))
    with hooked(model, functions):
        return targets.values(model, batch, new_cache(model, len(batch.rows)))
