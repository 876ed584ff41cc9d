"""Score neurons by a scorer's name: from activations, from attributions, or by a product of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from relation_neurons.errors import nearest, refuse
from relation_neurons.scores.scorers import ATTRIBUTIONS, SCORERS, Labels, Mask, NeuronScores, Scores, reads

PRODUCTS: Mapping[str, tuple[str, str]] = {
    "average_precision_x_attribution": ("average_precision", "attribution"),
    "average_precision_x_attribution_t": ("average_precision", "attribution_t"),
}
"""Scorers that multiply a score of activations by one of attributions: high for neurons that both tell a relation's
prompts apart and contribute to its answers."""
TOGETHER = "activation_probability_entropy"
"""The scorer that compares relations with each other, so that what is scored at a time matters."""


def scorer_names() -> tuple[str, ...]:
    """All scorers by name, those that users added included; the first is the paper's."""
    return (*SCORERS, *PRODUCTS)


def require_scorer(name: str) -> None:
    """Refuse a name that is not a scorer's."""
    if name not in scorer_names():
        raise refuse(f"'{name}' is not a scorer", expected=nearest(name, scorer_names()))


def require_scorers(names: Sequence[str]) -> None:
    """Refuse names that are not scorers', and none at all."""
    if not names:
        raise refuse("There is no scorer", expected="at least one, such as average_precision")
    for name in names:
        require_scorer(name)


def factors(scorer: str) -> tuple[str, ...]:
    """The names of the scores whose product a scorer is: its own, or two.

    Raises:
        RelationNeuronsError: The name is not a scorer's.
    """
    require_scorer(scorer)
    return PRODUCTS.get(scorer, (scorer,))


def needs_attributions(scorer: str) -> bool:
    """Whether a scorer reads contributions to answers, alone or beside activations.

    Raises:
        RelationNeuronsError: The name is not a scorer's.
    """
    return any(reads(factor) == ATTRIBUTIONS for factor in factors(scorer))


def score_neurons(
    scorer: str,
    activations: Scores,
    labels: Labels,
    mask: Mask = None,
    *,
    attributions: Scores | None = None,
    device: torch.device | None = None,
) -> NeuronScores:
    """The scores of all neurons for all relations.

    Args:
        scorer: One of `scorer_names()`.
        activations: [example, neuron].
        labels: True for a relation's positives.
        mask: True for the examples included in a relation's score; None means all.
        attributions: Contributions of the same neurons to the answers to the same examples.
        device: Where average precision, which sorts, is computed; other scores are computed where their values are.

    Raises:
        RelationNeuronsError: The name is not a scorer's, it needs attributions and there are none, what
            it returns is not a score for each relation and neuron, or as the scorer does.
    """
    product: Tensor | None = None
    for factor in factors(scorer):
        values = attributions if reads(factor) == ATTRIBUTIONS else activations
        if values is None:
            raise refuse(
                f"Scorer '{scorer}' reads attributions, and there are none",
                do="pass attributions=attribute(model, prompts, site=...), or use another scorer",
            )
        options = {"device": device} if device is not None and factor == "average_precision" else {}
        scores = _checked(factor, SCORERS[factor](values, labels, mask, **options), (labels.shape[1], values.shape[1]))
        product = scores if product is None else product * scores.to(product.device)
    assert product is not None
    return product


def _checked(scorer: str, scores: Any, shape: tuple[int, int]) -> NeuronScores:
    """What a scorer returned, which may be a user's own, as numbers that can be ranked."""
    scores = torch.as_tensor(scores)
    if tuple(scores.shape) != shape:
        found = f"Scorer '{scorer}' returned scores of shape {tuple(scores.shape)}"
        raise refuse(found, expected=f"{shape}: [relation, neuron]")
    scores = scores if scores.is_floating_point() else scores.double()
    if scores.isnan().any():
        raise refuse(f"Scorer '{scorer}' returned NaN", do="check it, the model and its activations")
    return scores
