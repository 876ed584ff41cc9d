"""Selection of the top-scoring neurons."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from relation_neurons.errors import number_text, refuse
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.validation import validated

TIE_RULE = "of equal scores the larger effect size comes first where it was computed, then site, layer and index"


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
        best = best_neurons(row, k, None if ties is None else functools.partial(ties, number))
        sets[name] = named_set(space, best, row[best], name)
    return sets


def named_set(
    space: NeuronSpace, places: Int[ndarray, " best"], scores: Float[ndarray, " best"], name: str
) -> NeuronSet:
    """The neurons at some places of the flat order of a space, with their scores."""
    sites, layers, indices = space.locate(places)
    return NeuronSet(tuple(map(Neuron, sites, layers.tolist(), indices.tolist())), name, tuple(scores.tolist()))


def best_neurons(
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
