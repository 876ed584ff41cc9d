"""Sets of neurons: the top of a ranking, overlap, layers."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from relation_neurons.errors import number_text, refuse, shortened
from relation_neurons.models.sites import Neuron, NeuronSpace, expand_site
from relation_neurons.validation import validated

MOST_LAYERS = 100_000


@validated
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


@validated
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
