"""Sets of neurons: the top of a ranking, matched random controls, overlap, layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.sites import Neuron, NeuronSpace, expand_site


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

    @classmethod
    def from_pairs(
        cls, pairs: Iterable[tuple[SupportsIndex, SupportsIndex]], site: str = "post", name: str = "neurons"
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
        return cls(tuple(Neuron(site, int(layer), int(index)) for layer, index in pairs), name)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> NeuronSet:
        """Read back what `to_frame` wrote for one set."""
        neurons = zip(frame["site"], frame["layer"].tolist(), frame["index"].tolist(), strict=True)
        scores = None if frame["score"].isna().all() else tuple(frame["score"].tolist())
        return cls(tuple(Neuron(*neuron) for neuron in neurons), str(frame["name"].iloc[0]), scores)

    def __len__(self) -> int:
        return len(self.neurons)

    def __iter__(self) -> Iterator[Neuron]:
        return iter(self.neurons)

    def by_place(self) -> dict[tuple[str, int], list[int]]:
        """Indices for each site and layer."""
        places: dict[tuple[str, int], list[int]] = {}
        for neuron in self.neurons:
            places.setdefault((neuron.site, neuron.layer), []).append(neuron.index)
        return places

    def layer_counts(self, n_layers: int) -> Int[ndarray, " layer"]:
        """Neurons in each layer."""
        return np.bincount([neuron.layer for neuron in self.neurons], minlength=n_layers)

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
    if not 1 <= k <= len(space):
        raise refuse(f"k is {k}", expected=f"1 to {len(space)}, the number of neurons of '{space.model}'")
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
    target: NeuronSet, space: NeuronSpace, *, n: int = 5, seed: int = 0, exclude: Iterable[Neuron] = ()
) -> list[NeuronSet]:
    """Random sets with as many neurons as the target in each site and layer, and none of the target's.

    The paper's control (section 5.1) is random over all layers; matching takes away that early layers matter more.

    Args:
        target: The set to match.
        space: All neurons to draw from.
        n: How many sets.
        seed: Chooses them.
        exclude: Further neurons to leave out.

    Raises:
        RelationNeuronsError: A layer has too few other neurons.
    """
    space.flatten(list(target))
    barred: dict[tuple[str, int], set[int]] = {}
    for neuron in (*target, *exclude):
        barred.setdefault((neuron.site, neuron.layer), set()).add(neuron.index)
    widths = {(site, layer): place.stop - place.start for site, layer, place in space.slices()}
    pools: Mapping[tuple[str, int], ndarray] = {
        place: np.setdiff1d(np.arange(widths[place]), list(out)) for place, out in barred.items()
    }
    controls = []
    for number in range(n):
        generator = np.random.default_rng([seed, number])
        neurons: list[Neuron] = []
        for (site, layer), indices in sorted(target.by_place().items()):
            pool = pools[site, layer]
            if len(pool) < len(indices):
                raise refuse(
                    f"Layer {layer} of site '{site}' has {len(pool)} neurons outside the target, {len(indices)} needed",
                    do="lower k",
                )
            drawn = np.sort(generator.choice(pool, size=len(indices), replace=False))
            neurons += [Neuron(site, layer, int(index)) for index in drawn]
        controls.append(NeuronSet(tuple(neurons), f"{target.name} random {number}"))
    return controls
