"""The effect size of chosen neurons, by which neurons of equal score are ordered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from relation_neurons.scores.scorers import Labels, Mask, Scores, cohens_d, moments, require_negatives
from relation_neurons.validation import validated

CHUNK_BYTES = 32 * 2**20
"""Working memory, for any number of neurons."""
EffectSizes = Callable[[int, ndarray], ndarray]
"""The effect sizes of some neurons, given the number of the relation and the indices of the neurons."""


@validated
def by_effect_size(scores: Scores, labels: Labels, mask: Mask = None) -> EffectSizes:
    """A rule for `top_k` that orders neurons of equal score by effect size, largest first.

    Many neurons separate a relation's prompts from the others perfectly and have equal scores. The
    effect size tells by how much: it is Cohen's d, the difference of the means of positives and
    negatives in pooled standard deviations. It is 0 for constant neurons, and infinite, with the
    sign of the difference, for neurons that are constant within each class but differ between them.

    Only neurons of equal score are read, in chunks, so that activations are not copied as a whole.

    Args:
        scores: Activations, as for `average_precision`. Neurons with infinities come last.
        labels: True for positives; [example] or [example, relation].
        mask: True for the examples included in a relation's score; None means all.

    Returns:
        A function of the number of a relation and the indices of neurons, which returns their
        effect sizes in float32, computed in float64.

    Raises:
        RelationNeuronsError: As for `average_precision`, or a relation has no negatives.

    Example:
        >>> scores = torch.tensor([[0.9, 5.0], [0.8, 4.0], [0.2, 1.0], [0.1, 0.0]])
        >>> sizes = by_effect_size(scores, torch.tensor([True, True, False, False]))
        >>> sizes(0, np.array([1, 0])).round(2)
        array([5.66, 9.9 ], dtype=float32)
    """
    values, labels, mask = require_negatives(scores, labels, mask)

    def sizes(relation: int, neurons: Int[ndarray, " chosen"]) -> Float[ndarray, " chosen"]:
        positive, negative = (
            (kept & mask[:, relation]).nonzero() for kept in (labels[:, relation], ~labels[:, relation])
        )
        width = max(1, CHUNK_BYTES // (48 * len(values)))
        chunks = [np.empty(0, np.float32)]
        for chunk in torch.as_tensor(neurons, device=values.device).split(width):
            mean, inner = moments(values[positive, chunk].double())
            other, outer = moments(values[negative, chunk].double())
            effect = cohens_d(mean - other, inner, outer, len(positive), len(negative))
            chunks.append(effect.float().numpy(force=True))  # float32, as rounding may differ in the last bits
        return np.concatenate(chunks)

    return sizes
