"""Ordered sets of neurons."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, SupportsIndex, overload

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy import ndarray

from relation_neurons.errors import number_text, refuse, shortened
from relation_neurons.models.sites import Neuron, expand_site
from relation_neurons.neurons.interchange import Interchange
from relation_neurons.neurons.module_names import place_of
from relation_neurons.neurons.place_text import place_text
from relation_neurons.statistics.notebook_html import line, table
from relation_neurons.validation import validated

MOST_LAYERS = 100_000


@validated
@dataclass(frozen=True)
class NeuronSet(Interchange):
    """Distinct neurons in order.

    Iteration, `len` and `in` work as for a tuple. `neurons[0]` is a neuron and `neurons[:10]` a set. `a & b`, `a | b`
    and `a - b` are sets in the order of `a`; the first and the last keep its scores. A set without neurons is refused.

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
        if len(expand_site(site)) > 1:
            raise refuse(f"Site '{site}' stands for {', '.join(expand_site(site))}", expected="one simple site")
        (simple,), neurons = expand_site(site), []
        for pair in pairs:
            try:
                layer, index = map(operator.index, pair)
            except (TypeError, ValueError) as error:
                raise refuse(
                    f"{pair!r} is not a pair ({error})", expected="layer and index, such as (12, 345)"
                ) from None
            neurons.append(Neuron(simple, layer, index))
        return cls(tuple(neurons), name)

    @classmethod
    def from_hooks(cls, indices: Mapping[str, Iterable[SupportsIndex]], name: str = "neurons") -> NeuronSet:
        """Create a set from indices by the names of hooks, or of modules of Transformers.

        Raises:
            RelationNeuronsError: A name of no site, no indices, or a neuron that occurs twice.

        Example:
            >>> list(NeuronSet.from_hooks({"blocks.3.mlp.hook_post": [1, 5]}))
            [Neuron(site='post', layer=3, index=1), Neuron(site='post', layer=3, index=5)]
        """
        places = [(*place_of(hook), index) for hook, some in indices.items() for index in some]
        return cls(tuple(Neuron(site, layer, operator.index(index)) for site, layer, index in places), name)

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

    def __contains__(self, neuron: object) -> bool:
        return neuron in self._members

    @overload
    def __getitem__(self, ranks: SupportsIndex) -> Neuron: ...
    @overload
    def __getitem__(self, ranks: slice) -> NeuronSet: ...
    def __getitem__(self, ranks: Any) -> Neuron | NeuronSet:
        """The neuron of a rank, counted from 0, or the set of those of a slice, in its order, with their scores.

        Raises:
            RelationNeuronsError: There is no such neuron.
        """
        try:
            if not isinstance(ranks, slice):
                return self.neurons[ranks]
            found = self.neurons[ranks]
        except (IndexError, TypeError, ValueError) as error:
            raise refuse(
                f"{shortened(number_text(ranks))} is no place in neuron set '{self.name}' ({error})",
                expected=f"0 to {len(self) - 1}, or a slice such as neurons[:10]",
            ) from None
        if not found:
            raise refuse(f"{ranks} of neuron set '{self.name}' is empty", expected=f"ranks in 0 to {len(self) - 1}")
        return NeuronSet(found, self.name, None if self.scores is None else self.scores[ranks])

    def __and__(self, other: NeuronSet) -> NeuronSet:
        """The neurons that are in both sets, in the order of the first and with its scores.

        Raises:
            RelationNeuronsError: There are none; `overlap` counts them.
        """
        return self._kept("&", other, lambda neuron: neuron in other._members)

    def __sub__(self, other: NeuronSet) -> NeuronSet:
        """The neurons of the first set that are not in the second, in its order and with its scores.

        Raises:
            RelationNeuronsError: There are none.
        """
        return self._kept("-", other, lambda neuron: neuron not in other._members)

    def __or__(self, other: NeuronSet) -> NeuronSet:
        """The neurons of the first set, then those that only the second has, without scores."""
        if not isinstance(other, NeuronSet):
            return NotImplemented
        return NeuronSet(tuple(dict.fromkeys((*self.neurons, *other.neurons))), f"{self.name} | {other.name}")

    def __repr__(self) -> str:
        return f"NeuronSet({self.name!r}, {place_text(self.neurons)})"

    def _repr_html_(self) -> str:
        scores = self.scores or [None] * len(self)
        cells = ("" if score is None else f"{score:.4f}" for score in scores)
        rows = [(rank, neuron, cell) for rank, (neuron, cell) in enumerate(zip(self.neurons, cells, strict=True), 1)]
        return line(self) + table(["rank", "neuron", "score"], rows)

    @functools.cached_property
    def _members(self) -> frozenset[Neuron]:
        return frozenset(self.neurons)

    def _kept(self, sign: str, other: NeuronSet, wanted: Callable[[Neuron], bool]) -> NeuronSet:
        """The neurons of this set that are wanted, with their scores."""
        if not isinstance(other, NeuronSet):
            return NotImplemented
        ranks = [rank for rank, neuron in enumerate(self.neurons) if wanted(neuron)]
        if not ranks:
            raise refuse(f"'{self.name}' {sign} '{other.name}' has no neuron", expected="at least one neuron")
        scores = None if self.scores is None else tuple(self.scores[rank] for rank in ranks)
        return NeuronSet(tuple(self.neurons[rank] for rank in ranks), f"{self.name} {sign} {other.name}", scores)

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
