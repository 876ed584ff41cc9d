"""Neurons of relations that are told from chosen other relations, so that related ones can be left out.

The prompts of a relation are among the negatives of every other (paper, section 3), so that a neuron which serves both
father and mother scores low for both. Here the relations of a group, such as a pair, are no negatives of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from relation_neurons.activations.collection import Activations
from relation_neurons.errors import number_text, refuse
from relation_neurons.models.sites import Neuron
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.ranking import matching_attributions
from relation_neurons.neurons.selection import best_neurons, named_set
from relation_neurons.prompts.contrast import NEGATIVES_PER_POSITIVE, Contrast, contrast_with
from relation_neurons.relations.splits import stable_rank
from relation_neurons.scores.effect_size import EffectSizes, by_effect_size
from relation_neurons.scores.scoring import TOGETHER, factors, needs_attributions, require_scorer, score_neurons

BLOCK = 8192
"""Neurons that are scored at a time."""


def leaving_out(names: Sequence[str], group: Sequence[str]) -> tuple[Contrast, ...]:
    """A contrast for each relation of a group, with all relations that are not in the group as negatives."""
    others = tuple(name for name in names if name not in group)
    return tuple(Contrast(name, others) for name in group)


def kept_apart(names: Sequence[str], group: Sequence[str], *, seed: int = 0) -> tuple[Contrast, ...]:
    """A contrast for each relation of a group, with negatives that no other contrast of the group has.

    The relations outside the group are dealt out. Contrasts with negatives in common choose the same neurons more
    often than by chance, even where relations are labels without a meaning: those that are low on these negatives. So
    do contrasts with positives on the same subjects, which are dealt out as well.

    Raises:
        RelationNeuronsError: There are fewer relations outside the group than in it.
    """
    others = [name for name in names if name not in group]
    if len(others) < len(group):
        raise refuse(
            f"There are {len(others)} relations besides {', '.join(group)}",
            expected=f"at least {len(group)}, so that each has negatives of its own",
        )
    dealt = sorted(others, key=lambda name: stable_rank(seed, *sorted(group), name))
    return tuple(
        Contrast(name, tuple(sorted(dealt[turn :: len(group)])), tuple(other for other in group if other != name))
        for turn, name in enumerate(group)
    )


def rank_contrasts(
    activations: Activations,
    contrasts: Sequence[Contrast],
    *,
    k: int,
    scorer: str = "average_precision",
    ratio: int = NEGATIVES_PER_POSITIVE,
    balanced: bool = True,
    seed: int = 0,
    exclude: Sequence[Neuron] = (),
    attributions: Activations | None = None,
    lowest: bool = False,
) -> tuple[NeuronSet, ...]:
    """The k best neurons of each contrast, by the same rules as `rank_neurons`.

    Beyond the activations, memory holds the scores of 8,192 neurons (8 bytes for each and contrast, with two copies),
    the activations of these, and the best k neurons of each contrast with all that equal the last one.

    Args:
        activations: Activations on the detection prompts.
        contrasts: See `contrast_with`.
        k: Neurons per contrast.
        scorer: As for `rank_neurons`.
        ratio: Negatives per positive.
        balanced: Whether negatives are drawn equally from the relations of a contrast.
        seed: Seed of the choice of negatives.
        exclude: Neurons that are not ranked.
        attributions: As for `rank_neurons`.
        lowest: Whether to score the negated values, which ranks first the neurons that are lowest on a relation.

    Returns:
        A set per contrast, best first, named as its relation.

    Raises:
        RelationNeuronsError: As `rank_neurons` and `contrast_with`, or `k` is not between 1 and the number of neurons.
    """
    require_scorer(scorer)
    space, sign = activations.space, -1 if lowest else 1
    ranked = np.ones(len(space), dtype=bool)
    ranked[space.flatten([*exclude])] = False
    if not 1 <= k <= ranked.sum():
        raise refuse(f"k is {number_text(k)}", expected=f"1 to {ranked.sum()}, the number of neurons that are ranked")
    contributions = matching_attributions(attributions, activations) if needs_attributions(scorer) else None
    sets: list[NeuronSet] = []
    for scored, n_kept in _scored_together(scorer, contrasts):
        labels, mask = contrast_with(activations.prompts, scored, ratio=ratio, balanced=balanced, seed=seed)
        best = [_Best(k) for _ in scored[:n_kept]]
        for places in _blocks(ranked):
            parts = [None if one is None else sign * one[:, places] for one in (activations.values, contributions)]
            assert parts[0] is not None
            on = activations.score_on
            scores = score_neurons(scorer, parts[0], labels, mask, attributions=parts[1], device=on).numpy(force=True)
            for candidates, row in zip(best, scores, strict=False):
                candidates.add(row, places)
        sizes = None if needs_attributions(scorer) else by_effect_size(activations.values, labels, mask)
        for column, candidates in enumerate(best):
            order = best_neurons(candidates.scores, k, candidates.ties(sizes, column, sign))
            sets.append(named_set(space, candidates.places[order], candidates.scores[order], scored[column].relation))
    return tuple(sets)


def _scored_together(scorer: str, contrasts: Sequence[Contrast]) -> Iterator[tuple[Sequence[Contrast], int]]:
    """Contrasts that share one pass, and how many of the first are wanted.

    A scorer that compares relations with each other sees a contrast's relation and its negatives at a time.
    """
    if TOGETHER not in factors(scorer):
        yield contrasts, len(contrasts)
        return
    for one in contrasts:
        yield [one, *(Contrast(other, (one.relation,)) for other in one.negatives)], 1


def _blocks(ranked: ndarray) -> Iterator[Tensor]:
    """The neurons that are ranked, in order, some at a time."""
    yield from torch.from_numpy(np.flatnonzero(ranked)).split(BLOCK)


class _Best:
    """The best neurons of a contrast so far, in order of place, with all that equal the last of them."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.scores: Float[ndarray, " candidate"] = np.empty(0, dtype=np.float32)
        self.places: Int[ndarray, " candidate"] = np.empty(0, dtype=np.int64)

    def add(self, scores: Float[ndarray, " neuron"], places: Tensor) -> None:
        """Take in the scores of further neurons."""
        scores = np.concatenate([self.scores, scores])
        cut = np.partition(scores, -self.k)[-self.k] if len(scores) > self.k else -np.inf
        kept = np.flatnonzero(scores >= cut)
        self.scores, self.places = scores[kept], np.concatenate([self.places, places.numpy()])[kept]

    def ties(self, sizes: EffectSizes | None, column: int, sign: int) -> Callable[[ndarray], ndarray] | None:
        """The effect sizes of candidates, by which equal scores are ordered."""
        return None if sizes is None else lambda candidates: sign * sizes(column, self.places[candidates])
