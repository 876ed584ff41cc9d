"""Integrated gradients, one layer of a simple site at a time, as exact as is asked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.attribution.gradients import Pool, differentiate, padding_of, scaled
from relation_neurons.attribution.targets import Targets
from relation_neurons.inference.batching import Batch, rows_that_fit
from relation_neurons.models.hooked_model import Hook, hook_name, hooked, new_cache
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.types import HookedModel

TOLERANCE = 0.01
"""Share of what is lost without a layer that the sum over its path may miss, or a warning tells of it."""
LEAST_LOSS = 0.1
"""Nats; what is lost counts as at least this much."""
POWER = 4
"""Activations are multiplied by this power of the place on a path, whose points thus lie close together near zero."""
SHORTEST = 4**-5
"""Shorter parts may miss as much as a part of this length, which rounding makes them miss anyway."""
ROUNDING = 32
"""Machine epsilons of the model's numbers, in nats, that any part may miss: the last place of logits from 32 to 64.
Without it, rounding to 16 bits would have every part divided as often as can be."""
PIECES = 4
"""Into how many a part of a path is divided where its sum misses too much."""
DIVISIONS = 6
"""How often a part of a path is divided at most."""


def by_path(
    model: HookedModel, space: NeuronSpace, targets: Targets, batch: Batch, steps: int
) -> Float[Tensor, "row neuron"]:
    """Integrated gradients along a path of its own for each layer of each simple site, from zeros to what is there.

    Later layers follow, as they do in an ablation, so that contributions sum over the layer to what is lost without it.
    """
    values = torch.empty((len(batch.rows), len(space)), device=batch.device)
    for site, layer, place in space.slices():
        path = _Path(model, space, targets, (site, layer, place), batch, steps)
        parts = path.parts()
        for row in range(len(batch.rows)):
            values[row, place] = torch.stack([part.found for part in parts if part.row == row]).sum(dim=0)
        _warn(path.hook, path.missed(parts))
    return values


def _warn(hook: str, missed: Sequence[float]) -> None:
    """Tell of contributions that do not sum to what is lost; each is given as a multiple of what may be missed."""
    if max(missed) > 1:
        share = f"{100 * TOLERANCE * max(missed):.2g} %"
        warnings.warn(
            f"Integrated gradients at {hook} miss up to {share} of what is lost without it; more steps, or "
            "dtype float32 if the model has another, may find them",
            stacklevel=3,
        )


@dataclass(frozen=True)
class _Part:
    """A part of the path of one row.

    Attributes:
        row: The row of the batch.
        low: Where it begins; the whole path is from 0 to 1.
        high: Where it ends.
        targets: The target at both ends.
        found: Each neuron's contribution on it.
    """

    row: int
    low: float
    high: float
    targets: tuple[float, float]
    found: Float[Tensor, " neuron"]

    @property
    def gap(self) -> float:
        """What the contributions sum to above what the target gains."""
        return float(self.found.double().sum()) - (self.targets[1] - self.targets[0])

    def is_steep(self, allowed: float, rounding: float) -> bool:
        """Whether its gap is more than it may be where the gaps of all parts, being random, add to half as much."""
        return abs(self.gap) > 0.5 * allowed * max(self.high - self.low, SHORTEST) ** 0.5 + rounding


@dataclass(frozen=True)
class _Path:
    """The path of one layer of a simple site, for every row of a batch.

    Attributes:
        model: The model.
        space: Its neurons at all sites.
        targets: What is read of prompts.
        place: The site, the layer and the place of its neurons.
        batch: The rows.
        steps: Points of a Gauss-Legendre sum.
    """

    model: HookedModel
    space: NeuronSpace
    targets: Targets
    place: tuple[str, int, slice]
    batch: Batch
    steps: int

    @property
    def hook(self) -> str:
        """The hook of its neurons."""
        return hook_name(self.model, *self.place[:2])

    def parts(self) -> list[_Part]:
        """The path in parts, divided where their sums miss what the target gains."""
        n = len(self.batch.rows)
        ends = self._values([*range(n), *range(n)], [0.0] * n + [1.0] * n)
        parts = self._sums([(row, 0.0, 1.0, (ends[row], ends[n + row])) for row in range(n)])
        rounding = ROUNDING * torch.finfo(self.model.cfg.dtype).eps
        for _ in range(DIVISIONS):
            allowed = self._allowed(parts)
            steep = [part for part in parts if part.is_steep(allowed[part.row], rounding)]
            if not steep:
                break
            pieces = self._divided(steep)
            divided = {id(part) for part in steep}
            parts = [part for part in parts if id(part) not in divided] + self._sums(pieces)
        return parts

    def _divided(self, parts: Sequence[_Part]) -> list[tuple[int, float, float, tuple[float, float]]]:
        """Equal pieces of parts, with the targets at their ends."""
        inner = [np.linspace(part.low, part.high, PIECES + 1)[1:-1].tolist() for part in parts]
        rows = [part.row for part in parts for _ in range(PIECES - 1)]
        found = iter(self._values(rows, [place for places in inner for place in places]))
        pieces = []
        for part, places in zip(parts, inner, strict=True):
            ends = [part.low, *places, part.high]
            values = [part.targets[0], *(next(found) for _ in places), part.targets[1]]
            pieces += [
                (part.row, *ends[piece : piece + 2], tuple(values[piece : piece + 2])) for piece in range(PIECES)
            ]
        return pieces

    def missed(self, parts: Sequence[_Part]) -> list[float]:
        """By how much the sum of each row misses what is lost, as a multiple of what it may."""
        gaps = [0.0] * len(self.batch.rows)
        for part in parts:
            gaps[part.row] += part.gap
        return [abs(gap) / allowed for gap, allowed in zip(gaps, self._allowed(parts), strict=True)]

    def _allowed(self, parts: Sequence[_Part]) -> list[float]:
        """What may be missed on the path of each row, in nats."""
        gained = [0.0] * len(self.batch.rows)
        for part in parts:
            gained[part.row] += part.targets[1] - part.targets[0]
        return [TOLERANCE * max(abs(one), LEAST_LOSS) for one in gained]

    def _sums(self, stretches: Sequence[tuple[int, float, float, tuple[float, float]]]) -> list[_Part]:
        """Gauss-Legendre sums of rows between two places, given the targets there."""
        places, weights = (torch.from_numpy(one) / 2 for one in np.polynomial.legendre.leggauss(self.steps))
        rows = [row for row, *_ in stretches for _ in range(self.steps)]
        points = torch.cat([low + (high - low) * (places + 0.5) for _, low, high, _ in stretches])
        slopes = torch.cat([(high - low) * weights for _, low, high, _ in stretches]) * POWER * points ** (POWER - 1)
        found = torch.zeros((len(stretches), self.place[2].stop - self.place[2].start), device=self.batch.device)
        for some in self._chunks(len(rows)):
            part = self.batch.part(rows[some])
            pool = Pool(self.model, self.space, padding_of(self.targets, part))
            hooks = pool.hooks([self.place], self._factors(points[some]))
            differentiate(self.model, hooks, self.targets, part, new_cache(self.model, len(part.rows)))
            values = pool.finished()[:, self.place[2]] * slopes[some, None].to(found)
            found.index_add_(0, torch.arange(some.start, some.stop, device=found.device) // self.steps, values)
        return [_Part(*stretch, one) for stretch, one in zip(stretches, found, strict=True)]

    @torch.no_grad()
    def _values(self, rows: Sequence[int], points: Sequence[float]) -> list[float]:
        """The target of rows at places of their paths."""
        found: list[float] = []
        for some in self._chunks(len(rows)):
            part = self.batch.part(rows[some])
            function: Hook = scaled(self._factors(torch.tensor(points[some], dtype=torch.float64)))
            with hooked(self.model, [(self.hook, function)]):
                found += self.targets.values(self.model, part, new_cache(self.model, len(part.rows))).tolist()
        return found

    def _factors(self, points: Tensor) -> Float[Tensor, " row"]:
        """What the activations of each row are multiplied by at these places."""
        return (points**POWER).float().to(self.batch.device)

    def _chunks(self, n: int) -> list[slice]:
        """So many rows in batches that fit."""
        longest = max(len(task.encoded.ids) + task.n_after for task in self.batch.tasks)
        most = rows_that_fit(self.model, longest, self.targets.n_logits, gradients=True)
        return [slice(start, min(start + most, n)) for start in range(0, n, most)]
