"""Random sets of neurons to compare a set with: matched by site and layer, by activity too, or by size alone."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from relation_neurons.errors import number_text, refuse
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.validation import validated

MOST_CONTROLS = 100_000
NEIGHBOURS = 20
"""Neurons of most similar activity among which a control matched by activity is drawn."""


@validated
def random_controls(
    target: NeuronSet,
    space: NeuronSpace,
    *,
    n: int = 5,
    seed: int = 0,
    exclude: Iterable[Neuron] = (),
    activity: Float[ndarray, " neuron"] | None = None,
) -> list[NeuronSet]:
    """Random sets with as many neurons as the target in each site and layer, and none of the target's.

    The paper's control (section 5.1) is random over all layers; matching takes away that early layers matter more.
    Neuron j of a control stands in the site and layer of neuron j of the target, so that the first k neurons of a
    control match the first k of the target, for any k.

    Args:
        target: The set to match.
        space: All neurons to draw from.
        n: How many sets.
        seed: Chooses them.
        exclude: Further neurons to leave out.
        activity: A number for each neuron of `space`, such as its mean absolute activation; each neuron of a control is
            then drawn from the `NEIGHBOURS` neurons of the site and layer that are nearest in it to the target's.

    Raises:
        RelationNeuronsError: A layer has too few other neurons.
    """
    _require_draws(n, seed)
    if activity is not None and len(activity) != len(space):
        raise refuse(f"activity has {len(activity)} numbers", expected=f"{len(space)}, one for each neuron")
    members: dict[tuple[str, int], list[int]] = {}
    for member, neuron in enumerate(target):
        members.setdefault((neuron.site, neuron.layer), []).append(member)
    places = {(site, layer): place for site, layer, place in space.slices()}
    pools = _pools(target, space, members, exclude)
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
                drawn = np.array(_draw_alike(activity[places[site, layer]], indices, pool, generator))
            for member, index in zip(wanted, drawn, strict=True):
                neurons[member] = Neuron(site, layer, int(index))
        controls.append(NeuronSet(tuple(neurons), f"{target.name} random {number}"))
    return controls


def random_sets(target: NeuronSet, space: NeuronSpace, *, n: int = 5, seed: int = 0) -> list[NeuronSet]:
    """Random sets as large as the target and outside of it, wherever their neurons are (the paper's control).

    Args:
        target: The set to match in size.
        space: All neurons to draw from.
        n: How many sets.
        seed: Chooses them.

    Raises:
        RelationNeuronsError: Too few other neurons.
    """
    _require_draws(n, seed)
    pool = np.setdiff1d(np.arange(len(space)), space.flatten(list(target)))
    if len(pool) < len(target):
        raise refuse(f"There are {len(pool)} neurons outside the target, {len(target)} needed", do="lower k")
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
    """The indices to draw from in each site and layer of the target."""
    space.flatten(list(target))
    barred: dict[tuple[str, int], list[int]] = {}
    exclude = list(exclude)
    for stranger in (one for one in exclude if not isinstance(one, Neuron)):
        raise refuse(f"exclude holds {number_text(stranger)}", expected="neurons, such as Neuron('gate', 12, 345)")
    for neuron in (*target, *exclude):
        barred.setdefault((neuron.site, neuron.layer), []).append(neuron.index)
    pools = {}
    for (site, layer), wanted in members.items():
        pool = np.setdiff1d(np.arange(dict(space.widths)[site]), barred[site, layer])
        if len(pool) < len(wanted):
            raise refuse(
                f"Layer {layer} of site '{site}' has {len(pool)} neurons outside the target, {len(wanted)} needed",
                do="lower k",
            )
        pools[site, layer] = pool
    return pools


def _draw_alike(
    activity: Float[ndarray, " index"],
    wanted: Sequence[int],
    pool: Int[ndarray, " candidate"],
    generator: np.random.Generator,
) -> list[int]:
    """For each wanted neuron, in random order, one of those still in the pool whose activity is nearest."""
    left = sorted(pool.tolist(), key=lambda index: (activity[index], index))
    keys = [float(activity[index]) for index in left]
    drawn = [0] * len(wanted)
    for turn in generator.permutation(len(wanted)).tolist():
        place = bisect.bisect_left(keys, float(activity[wanted[turn]]))
        start = max(0, min(place - NEIGHBOURS // 2, len(left) - NEIGHBOURS))
        chosen = start + int(generator.integers(min(NEIGHBOURS, len(left))))
        drawn[turn] = left.pop(chosen)
        keys.pop(chosen)
    return drawn
