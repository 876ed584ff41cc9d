"""Ordered sets of neurons, and selection of the top-scoring neurons."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
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
TIE_RULE = "of equal scores the larger effect size comes first where it was computed, then site, layer and index"


@validated
@dataclass(frozen=True)
class NeuronSet:
    """Distinct neurons in order.

    Attributes:
        neurons: The neurons; if ranked, best first.
        name: Name of the set, such as `country_capital`.
        scores: The score of each neuron, if ranked.
    """

    neurons: tuple[Neuron, ...]
    name: str = "neurons"
    scores: tuple[float, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.neurons:
            raise refuse(f"Neuron set '{self.name}' is empty", expected="at least one neuron")
        duplicates = [neuron for neuron, n in Counter(self.neurons).items() if n > 1]
        if duplicates:
            raise refuse(f"Neuron set '{self.name}' has {duplicates[0]} twice", expected="each neuron once")
        if self.scores is not None and len(self.scores) != len(self.neurons):
            raise refuse(
                f"Neuron set '{self.name}' has {len(self.neurons)} neurons and {len(self.scores)} scores",
                expected="a score for each neuron",
            )

    @classmethod
    def from_pairs(
        cls, pairs: Iterable[Iterable[SupportsIndex]], site: str = "post", name: str = "neurons"
    ) -> NeuronSet:
        """Create a set from (layer, index) pairs at one simple site.

        Raises:
            RelationNeuronsError: There are no pairs, a pair occurs twice, or the site is unknown or
                composite.

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
                raise refuse(
                    f"{pair!r} is not a pair ({error})", expected="layer and index, such as (12, 345)"
                ) from None
            neurons.append(Neuron(site, layer, index))
        return cls(tuple(neurons), name)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> NeuronSet:
        """Create a set from the result of `to_frame`.

        Raises:
            RelationNeuronsError: A column is missing or duplicated, or there are no rows.
        """
        missing = [column for column in ("name", "site", "layer", "index", "score") if column not in frame.columns]
        if missing or not len(frame) or not frame.columns.is_unique:
            columns = ", ".join(map(str, frame.columns))
            raise refuse(
                f"The table has {len(frame)} rows and the columns {shortened(columns)}",
                expected="a result of NeuronSet.to_frame",
            )
        neurons = zip(frame["site"], frame["layer"].tolist(), frame["index"].tolist(), strict=True)
        scores = None if frame["score"].isna().all() else tuple(frame["score"].tolist())
        return cls(tuple(Neuron(*neuron) for neuron in neurons), str(frame["name"].iloc[0]), scores)

    def __len__(self) -> int:
        return len(self.neurons)

    def __iter__(self) -> Iterator[Neuron]:
        return iter(self.neurons)

    def part(self, start: int, stop: int) -> NeuronSet:
        """The neurons of ranks `start` to `stop - 1`, counted from 0: `part(0, k)` has the k best.

        Raises:
            RelationNeuronsError: The ranks are out of range.
        """
        if not 0 <= start < stop <= len(self):
            raise refuse(
                f"Ranks {number_text(start)} to {number_text(stop)} of neuron set '{self.name}' were requested",
                expected=f"a range of at least one rank between 0 and {len(self)}",
            )
        scores = None if self.scores is None else self.scores[start:stop]
        return NeuronSet(self.neurons[start:stop], self.name, scores)

    def by_place(self) -> dict[tuple[str, int], list[int]]:
        """The indices of neurons in each site and layer."""
        places: dict[tuple[str, int], list[int]] = {}
        for neuron in self.neurons:
            places.setdefault((neuron.site, neuron.layer), []).append(neuron.index)
        return places

    def layer_counts(self, n_layers: int) -> Int[ndarray, " layer"]:
        """Number of neurons in each layer."""
        if min(neuron.layer for neuron in self.neurons) < 0 or not 1 <= n_layers <= MOST_LAYERS:
            raise refuse(
                f"n_layers is {number_text(n_layers)}", expected=f"1 to {MOST_LAYERS}, and layers of neurons from 0"
            )
        return np.bincount([neuron.layer for neuron in self.neurons], minlength=int(n_layers))

    def overlap(self, other: NeuronSet) -> int:
        """Number of neurons in both sets."""
        return len(set(self.neurons) & set(other.neurons))

    def to_frame(self) -> pd.DataFrame:
        """A table with one row per neuron: name, rank (from 1), site, layer, index, score."""
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
    ties: Callable[[int, ndarray], ndarray] | None = None,
) -> dict[str, NeuronSet]:
    """The k best neurons of each relation (paper, section 3).

    Neurons of equal score are ordered by `ties`, largest first, and then by the flat order of
    `space`: site, then layer, then index.

    Args:
        scores: Scores; higher is better.
        k: Neurons per relation; the paper selects 3,000 of Llama-2-7B's 835,584.
        space: The neurons of the columns.
        names: The relations of the rows.
        ties: A second score, given the number of the row and indices of neurons, such as
            `by_effect_size`; NaN comes last. None orders by place only.

    Returns:
        A set for each relation, best first.

    Raises:
        RelationNeuronsError: There are NaN scores, `k` is not between 1 and the number of neurons,
            or shapes do not match.
    """
    scores = scores.numpy(force=True) if isinstance(scores, Tensor) else scores
    if np.isnan(scores).any():
        raise refuse("Some scores are NaN", do="check the model and its activations; NaN cannot be ranked")
    if not 1 <= k <= len(space):
        raise refuse(f"k is {number_text(k)}", expected=f"1 to {len(space)}, the number of neurons of '{space.model}'")
    if scores.shape != (len(names), len(space)):
        raise refuse(f"scores have shape {scores.shape}", expected=f"({len(names)}, {len(space)}): [relation, neuron]")
    sets = {}
    for number, (name, row) in enumerate(zip(names, scores, strict=True)):
        best = _best(row, k, None if ties is None else functools.partial(ties, number))
        sites, layers, indices = space.locate(best)
        neurons = tuple(map(Neuron, sites, layers.tolist(), indices.tolist()))
        sets[name] = NeuronSet(neurons, name, tuple(row[best].tolist()))
    return sets


def _best(
    scores: Float[ndarray, " neuron"], k: int, ties: Callable[[ndarray], ndarray] | None
) -> Int[ndarray, " best"]:
    """Indices of the k best neurons; `ties` is computed only for neurons that share their score."""
    order = np.argsort(-scores, kind="stable")
    if ties is None:
        return order[:k]
    order = order[: np.searchsorted(-scores[order], -scores[order[k - 1]], side="right")]
    ordered = scores[order]
    equal = ordered[1:] == ordered[:-1]
    tied = np.append(equal, False) | np.insert(equal, 0, False)
    second = np.zeros(len(order))
    second[tied] = ties(order[tied])
    return order[np.lexsort((order, -second, -ordered))[:k]]
