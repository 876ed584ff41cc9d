"""The scores of the same neurons for two relations, which tell whether what is best for one is good for the other."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relation_neurons.activations.collection import Activations
from relation_neurons.errors import nearest, refuse
from relation_neurons.models.sites import Neuron
from relation_neurons.neurons.neuron_set import top_k
from relation_neurons.prompts.contrast import NEGATIVES_PER_POSITIVE, contrast
from relation_neurons.prompts.prompts import relation_names
from relation_neurons.scores.average_precision import average_precision

GROUPS = ("first", "second", "both", "rest")


def score_pair(
    activations: Activations,
    first: str,
    second: str,
    *,
    k: int,
    n_background: int = 3000,
    ratio: int = NEGATIVES_PER_POSITIVE,
    balanced: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """The average precision of the best neurons of two relations, and of some others, for both.

    Args:
        activations: Of the detection prompts of all relations, the others being negatives too, as for `rank_neurons`.
        first: A relation.
        second: Another one.
        k: How many neurons are the best of a relation.
        n_background: How many of the other neurons to draw; all, if there are fewer.
        ratio: Negatives per positive, as for `rank_neurons`.
        balanced: Whether negatives are drawn evenly from the other relations, as for `rank_neurons`.
        seed: Chooses the negatives, as for `rank_neurons`, and the other neurons.

    Returns:
        A row per neuron: `first` and `second`, the relations; `neuron`, as it is written; `site`, `layer`, `index`;
        `score_first`, `score_second`; and `group`: `first` or `second`, among the k best of that one only, `both`, or
        `rest`.

    Raises:
        RelationNeuronsError: A relation that has no prompts, the same one twice, or numbers out of range.
    """
    names, space = relation_names(activations.prompts), activations.space
    for name in (first, second):
        if name not in names:
            raise refuse(f"There are no prompts of '{name}'", expected=nearest(name, names))
    if first == second:
        raise refuse(f"'{first}' was named twice", expected="two relations")
    if n_background < 0:
        raise refuse(f"n_background is {n_background}", expected="at least 0")
    labels, mask = contrast(activations.prompts, ratio=ratio, balanced=balanced, seed=seed)
    chosen = [names.index(first), names.index(second)]
    scores = average_precision(activations.values, labels[:, chosen], mask[:, chosen])
    best = top_k(scores, k, space, (first, second))
    of_first, of_second = (space.flatten(list(best[name].neurons)) for name in (first, second))
    others = np.setdiff1d(np.arange(len(space)), np.union1d(of_first, of_second))
    drawn = np.random.default_rng(seed).choice(others, min(n_background, len(others)), replace=False)
    parts = (
        np.setdiff1d(of_first, of_second),
        np.setdiff1d(of_second, of_first),
        np.intersect1d(of_first, of_second),
        np.sort(drawn),
    )
    flat = np.concatenate(parts)
    sites, layers, indices = space.locate(flat)
    found = scores[:, flat].numpy(force=True)
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            "neuron": [str(Neuron(*place)) for place in zip(sites, layers.tolist(), indices.tolist(), strict=True)],
            "site": sites,
            "layer": layers,
            "index": indices,
            "score_first": found[0],
            "score_second": found[1],
            "group": np.repeat(GROUPS, [len(part) for part in parts]),
        }
    )
