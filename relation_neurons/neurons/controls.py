"""Random control sets of neurons, matched by site, layer and activity, or by size only."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from relation_neurons.errors import TooFewNeuronsError, number_text, refuse
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.validation import validated

MOST_CONTROLS = 100_000
NEIGHBOURS = 20
"""Number of neurons with the most similar activity from which a matched control is drawn."""


@validated
def random_controls(
    target: NeuronSet,
    space: NeuronSpace,
    *,
    n: int = 5,
    seed: int = 0,
    exclude: Iterable[Neuron] = (),
    activity: Float[ndarray, " neuron"] | None = None,
    disjoint: bool = True,
) -> list[NeuronSet]:
    """Draw random sets, disjoint from the target, with as many neurons in each site and layer.

    The paper's controls (section 5.1) are random over all layers. Matching by layer removes the
    confound that early layers matter more. Neuron j of a control is in the same site and layer as
    neuron j of the target, so for any k the first k neurons of a control match the first k neurons
    of the target.

    Args:
        target: The set to match.
        space: All neurons to draw from.
        n: Number of sets.
        seed: Seed of the draws.
        exclude: Additional neurons to exclude.
        activity: A value for each neuron of `space`, such as its mean absolute activation. If given,
            each control neuron is drawn from the `NEIGHBOURS` neurons of the same site and layer
            whose values are nearest to that of the target neuron.
        disjoint: Whether sets have no neuron of the target. If they may, even all neurons of a layer
            can be matched.

    Raises:
        RelationNeuronsError: A layer has too few other neurons, or an argument is invalid.
    """
    _require_draws(n, seed)
    if activity is not None and len(activity) != len(space):
        raise refuse(f"activity has {len(activity)} numbers", expected=f"{len(space)}, one for each neuron")
    members: dict[tuple[str, int], list[int]] = {}
    for member, neuron in enumerate(target):
        members.setdefault((neuron.site, neuron.layer), []).append(member)
    places = {(site, layer): place for site, layer, place in space.slices()}
    pools = _pools(target, space, members, [*exclude, *(target if disjoint else ())])
    controls = []
    for number in range(n):
        generator = np.random.default_rng([seed, number])
        neurons: list[Neuron] = list(target)
        for (site, layer), wanted in sorted(members.items()):
            pool = pools[site, layer]
            if activity is None:
                drawn = generator.choice(pool, size=len(wanted), replace=False)
            else:
                indices = [target.neurons[member].index for member in wanted]
                drawn = np.array(_draw_similar(activity[places[site, layer]], indices, pool, generator))
            for member, index in zip(wanted, drawn, strict=True):
                neurons[member] = Neuron(site, layer, int(index))
        controls.append(NeuronSet(tuple(neurons), f"{target.name} random {number}"))
    return controls


def random_sets(
    target: NeuronSet,
    space: NeuronSpace,
    *,
    n: int = 5,
    seed: int = 0,
    exclude: Iterable[Neuron] = (),
    disjoint: bool = True,
) -> list[NeuronSet]:
    """Draw random sets of the target's size from all other neurons (the paper's control).

    Args:
        target: The set to match in size.
        space: All neurons to draw from.
        n: Number of sets.
        seed: Seed of the draws.
        exclude: Additional neurons to exclude.
        disjoint: Whether sets have no neuron of the target.

    Raises:
        RelationNeuronsError: There are too few other neurons, or an argument is invalid.
    """
    _require_draws(n, seed)
    excluded = space.flatten([*exclude, *(target if disjoint else ())])
    pool = np.setdiff1d(np.arange(len(space)), excluded)
    if len(pool) < len(target):
        found = f"There are {len(pool)} neurons to draw from, {len(target)} needed"
        raise refuse(found, do="lower k", kind=TooFewNeuronsError)
    sets = []
    for number in range(n):
        drawn = np.random.default_rng([seed, number]).choice(pool, size=len(target), replace=False)
        sites, layers, indices = space.locate(drawn)
        neurons = tuple(map(Neuron, sites, layers.tolist(), indices.tolist()))
        sets.append(NeuronSet(neurons, f"{target.name} random {number}"))
    return sets


def _require_draws(n: int, seed: int) -> None:
    if not 0 <= n <= MOST_CONTROLS:
        raise refuse(f"n is {number_text(n)}", expected=f"0 to {MOST_CONTROLS} control sets")
    if seed < 0:
        raise refuse(f"seed is {number_text(seed)}", expected="at least 0")


def _pools(
    target: NeuronSet, space: NeuronSpace, members: Mapping[tuple[str, int], list[int]], exclude: Iterable[Neuron]
) -> dict[tuple[str, int], Int[ndarray, " candidate"]]:
    """The indices to draw from, for each site and layer of the target."""
    space.flatten(list(target))
    excluded: dict[tuple[str, int], list[int]] = {}
    exclude = list(exclude)
    for item in exclude:
        if not isinstance(item, Neuron):
            raise refuse(f"exclude has {number_text(item)}", expected="neurons, such as Neuron('gate', 12, 345)")
    for neuron in exclude:
        excluded.setdefault((neuron.site, neuron.layer), []).append(neuron.index)
    pools = {}
    for (site, layer), wanted in members.items():
        pool = np.setdiff1d(np.arange(dict(space.widths)[site]), excluded.get((site, layer), []))
        if len(pool) < len(wanted):
            raise refuse(
                f"Layer {layer} of site '{site}' has {len(pool)} neurons to draw from, {len(wanted)} needed",
                do="lower k",
                kind=TooFewNeuronsError,
            )
        pools[site, layer] = pool
    return pools


def _draw_similar(
    activity: Float[ndarray, " index"],
    targets: Sequence[int],
    pool: Int[ndarray, " candidate"],
    generator: np.random.Generator,
) -> list[int]:
    """For each target neuron, in random order, draw a similar neuron left in the pool."""
    left = sorted(pool.tolist(), key=lambda index: (activity[index], index))
    keys = [float(activity[index]) for index in left]
    drawn = [0] * len(targets)
    for turn in generator.permutation(len(targets)).tolist():
        position = bisect.bisect_left(keys, float(activity[targets[turn]]))
        start = max(0, min(position - NEIGHBOURS // 2, len(left) - NEIGHBOURS))
        chosen = start + int(generator.integers(min(NEIGHBOURS, len(left))))
        drawn[turn] = left.pop(chosen)
        keys.pop(chosen)
    return drawn
