"""Sets of neurons: the top of a ranking, matched random controls, overlap, layers."""

from __future__ import annotations

import bisect
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from relation_neurons.errors import number_text, refuse, shortened
from relation_neurons.sites import Neuron, NeuronSpace, expand_site

MOST_CONTROLS = MOST_LAYERS = 100_000
NEIGHBOURS = 20
"""Neurons of most similar activity among which a control matched by activity is drawn."""


@dataclass(frozen=True)
class NeuronSet:
    """Neurons in a stated order, each once.

    Attributes:
        neurons: Best first, where they were ranked.
        name: What they are, such as `country_capital`.
        scores: The score of each, where they were ranked.
    """

    neurons: tuple[Neuron, ...]
    name: str = "neurons"
    scores: tuple[float, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.neurons:
            raise refuse(f"Neuron set '{self.name}' is empty", expected="at least one neuron")
        twice = [neuron for neuron, n in Counter(self.neurons).items() if n > 1]
        if twice:
            raise refuse(f"Neuron set '{self.name}' holds {twice[0]} twice", expected="each neuron once")
        if self.scores is not None and len(self.scores) != len(self.neurons):
            raise refuse(
                f"Neuron set '{self.name}' has {len(self.neurons)} neurons and {len(self.scores)} scores",
                expected="a score for each neuron",
            )

    @classmethod
    def from_pairs(
        cls, pairs: Iterable[Iterable[SupportsIndex]], site: str = "post", name: str = "neurons"
    ) -> NeuronSet:
        """Make a set from (layer, index) pairs at one simple site.

        Raises:
            RelationNeuronsError: No pairs, a pair given twice, an unknown or composite site.

        Example:
            >>> len(NeuronSet.from_pairs([(12, 345), (13, 7)]))
            2
        """
        if expand_site(site) != (site,):
            raise refuse(f"Site '{site}' stands for {', '.join(expand_site(site))}", expected="one simple site")
        neurons = []
        for pair in pairs:
            try:
                layer, index = map(operator.index, pair)
            except (TypeError, ValueError) as error:
                raise refuse(f"{pair!r} is no pair ({error})", expected="layer and index, such as (12, 345)") from None
            neurons.append(Neuron(site, layer, index))
        return cls(tuple(neurons), name)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> NeuronSet:
        """Read back what `to_frame` wrote for one set.

        Raises:
            RelationNeuronsError: A frame that `to_frame` did not write.
        """
        missing = [column for column in ("name", "site", "layer", "index", "score") if column not in frame.columns]
        if missing or not len(frame) or not frame.columns.is_unique:
            columns = ", ".join(map(str, frame.columns))
            raise refuse(
                f"The table has {len(frame)} rows and the columns {shortened(columns)}",
                expected="what NeuronSet.to_frame gives",
            )
        neurons = zip(frame["site"], frame["layer"].tolist(), frame["index"].tolist(), strict=True)
        scores = None if frame["score"].isna().all() else tuple(frame["score"].tolist())
        return cls(tuple(Neuron(*neuron) for neuron in neurons), str(frame["name"].iloc[0]), scores)

    def __len__(self) -> int:
        return len(self.neurons)

    def __iter__(self) -> Iterator[Neuron]:
        return iter(self.neurons)

    def part(self, start: int, stop: int) -> NeuronSet:
        """The neurons of some ranks, counted from 0: `part(0, k)` are the k best.

        Raises:
            RelationNeuronsError: Ranks that the set does not have.
        """
        if not 0 <= start < stop <= len(self):
            raise refuse(
                f"Ranks {number_text(start)} to {number_text(stop)} of neuron set '{self.name}' were asked for",
                expected=f"at least one rank between 0 and {len(self)}",
            )
        scores = None if self.scores is None else self.scores[start:stop]
        return NeuronSet(self.neurons[start:stop], self.name, scores)

    def by_place(self) -> dict[tuple[str, int], list[int]]:
        """Indices for each site and layer."""
        places: dict[tuple[str, int], list[int]] = {}
        for neuron in self.neurons:
            places.setdefault((neuron.site, neuron.layer), []).append(neuron.index)
        return places

    def layer_counts(self, n_layers: int) -> Int[ndarray, " layer"]:
        """Neurons in each layer."""
        if min(neuron.layer for neuron in self.neurons) < 0 or not 1 <= n_layers <= MOST_LAYERS:
            raise refuse(
                f"n_layers is {number_text(n_layers)}", expected=f"1 to {MOST_LAYERS}, and neurons in layers from 0 on"
            )
        return np.bincount([neuron.layer for neuron in self.neurons], minlength=int(n_layers))

    def overlap(self, other: NeuronSet) -> int:
        """Number of neurons in both sets."""
        return len(set(self.neurons) & set(other.neurons))

    def to_frame(self) -> pd.DataFrame:
        """One row per neuron: name, rank from 1, site, layer, index, score."""
        frame = pd.DataFrame(self.neurons, columns=["site", "layer", "index"])
        frame.insert(0, "name", self.name)
        frame.insert(1, "rank", np.arange(1, len(self) + 1))
        frame["score"] = self.scores if self.scores is not None else np.nan
        return frame


def top_k(
    scores: Float[ndarray, "relation neuron"] | Float[Tensor, "relation neuron"],
    k: int,
    space: NeuronSpace,
    names: Sequence[str],
) -> dict[str, NeuronSet]:
    """The k best neurons of each relation (paper, section 3).

    Tie rule: of equal scores the neuron earlier in the flat order of `space` (site, then layer, then index) wins.

    Args:
        scores: Higher is better.
        k: How many; the paper takes 3,000 of Llama-2-7B's 835,584.
        space: What the columns are.
        names: What the rows are.

    Raises:
        RelationNeuronsError: k outside 1 to the number of neurons, or shapes that do not fit.
    """
    scores = scores.numpy(force=True) if isinstance(scores, Tensor) else scores
    if np.isnan(scores).any():
        raise refuse("Some scores are NaN", do="check the model and its activations; nothing can be ranked by NaN")
    if not 1 <= k <= len(space):
        raise refuse(f"k is {number_text(k)}", expected=f"1 to {len(space)}, the number of neurons of '{space.model}'")
    if scores.shape != (len(names), len(space)):
        raise refuse(f"scores have shape {scores.shape}", expected=f"({len(names)}, {len(space)}): [relation, neuron]")
    chosen = {}
    for name, row in zip(names, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:k]
        sites, layers, indices = space.locate(best)
        neurons = tuple(map(Neuron, sites, layers.tolist(), indices.tolist()))
        chosen[name] = NeuronSet(neurons, name, tuple(row[best].tolist()))
    return chosen


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
