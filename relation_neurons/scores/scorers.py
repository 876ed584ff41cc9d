"""Scorers from related methods, with the signature of `average_precision`.

All take activations, boolean labels (true for a relation's positives) and a boolean mask (true for
the examples included in a relation's score; None means all). They return float32 on the device of
the activations; higher scores mean neurons more specific to the relation. Sums are float64.

`attribution` and `attribution_t` take contributions to answers (`relation_neurons.attribute`)
instead of activations; see `reads`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray
from scipy.stats import rankdata
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.scores.average_precision import CHUNK_BYTES, average_precision, checked, refuse_nan

Scores = Float[Tensor, "example neuron"] | Float[ndarray, "example neuron"]
Labels = (
    Shaped[Tensor, "row *relation"] | Shaped[ndarray, "row *relation"]
)  # wrong shapes get a clearer error from `checked`
Mask = Bool[Tensor, "row *relation"] | Bool[ndarray, "row *relation"] | None
NeuronScores = Float[Tensor, "relation neuron"]
Formula = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]
Scorer = TypeVar("Scorer", bound=Callable[..., Tensor])
ACTIVATIONS, ATTRIBUTIONS = "activations", "attributions"
"""What a scorer may read."""


def reads_attributions(scorer: Scorer) -> Scorer:
    """Mark a scorer as one that takes contributions to answers instead of activations."""
    scorer.__dict__["reads"] = ATTRIBUTIONS
    return scorer


def auroc(scores: Scores, labels: Labels, mask: Mask = None) -> NeuronScores:
    """Area under the ROC curve of every neuron for every relation, as scikit-learn defines it.

    It is the share of pairs of a positive and a negative in which the positive scores higher, with
    ties counted half; chance level is 0.5 for any base rate. Counts are integers. Infinities are
    allowed.

    Raises:
        RelationNeuronsError: As for `average_precision`, or a relation has no negatives.

    Example:
        >>> scores = torch.tensor([[0.9], [0.8], [0.8], [0.1]])
        >>> auroc(scores, torch.tensor([True, True, False, False]))
        tensor([[0.8750]])
    """
    scores, labels, mask = require_negatives(scores, labels, mask)
    return _in_chunks(_auroc, scores, labels, mask, size=96)


def standardised_mean_difference(scores: Scores, labels: Labels, mask: Mask = None) -> NeuronScores:
    """Cohen's d: difference of the class means in pooled standard deviations (Cohen, 1988).

    Variances are pooled over n - 2 degrees of freedom. Constant neurons score 0; neurons that are
    constant within each class but differ between them score infinity with the sign of the
    difference.

    Raises:
        RelationNeuronsError: As for `average_precision`, a relation has no negatives, or activations
            are infinite.
    """
    return _from_moments(cohens_d, scores, labels, mask)


def cohens_d(difference: Tensor, inner: Tensor, outer: Tensor, n: int, m: int) -> Tensor:
    """Cohen's d from the difference of means, sums of squared deviations and class sizes."""
    pooled = ((inner + outer) / max(n + m - 2, 1)).sqrt()
    return torch.where(difference == 0, 0, difference / pooled)


def point_biserial(scores: Scores, labels: Labels, mask: Mask = None) -> NeuronScores:
    """Pearson's correlation of label and activation, in [-1, 1]; constant neurons score 0.

    For one relation it ranks neurons like `standardised_mean_difference`, up to rounding.

    Raises:
        RelationNeuronsError: As for `average_precision`, a relation has no negatives, or activations
            are infinite.
    """

    def formula(difference: Tensor, inner: Tensor, outer: Tensor, n: int, m: int) -> Tensor:
        between = difference * math.sqrt(n * m / (n + m))
        return torch.where(between == 0, 0, between / (inner + outer + between.square()).sqrt())

    return _from_moments(formula, scores, labels, mask)


def contrast_score(scores: Scores, labels: Labels, mask: Mask = None) -> NeuronScores:
    """Root mean square over positives of the activation minus its mean over negatives.

    Adapted from the change score of "Finding Safety Neurons in Large Language Models" (Chen et al.,
    2024, arXiv:2406.14144) and its published code: the root mean square, over response tokens, of
    the difference between two models' activations on the same token, before and after alignment.
    Here the two conditions are a relation's prompts and other prompts in one model. As they are not
    paired, the second activation is the mean over the negatives, and the root mean square is over
    prompts. As in the original, the sign of the change is ignored, and neurons with large
    activations score high.

    Raises:
        RelationNeuronsError: As for `average_precision`, a relation has no negatives, or activations
            are infinite.
    """

    def formula(difference: Tensor, inner: Tensor, outer: Tensor, n: int, m: int) -> Tensor:
        return (inner / n + difference.square()).sqrt()

    return _from_moments(formula, scores, labels, mask)


def activation_probability_entropy(scores: Scores, labels: Labels, mask: Mask = None) -> NeuronScores:
    """Entropy-based specificity of activation, in nats, after LAPE (Tang et al., 2024).

    The activation probability of a neuron for a relation is the share of the relation's positives
    with an activation above 0. The entropy of these probabilities, normalised to sum to 1, is low
    for specific neurons. LAPE (arXiv:2402.16438) gives one score per neuron. Here, log(number of
    relations) minus the entropy is the score for the relation with the highest probability (for all
    of them if several tie) and, negated, for the others, so that 0 means equal probabilities.
    Neurons that are never active score 0. Negatives are ignored; infinities are allowed.

    LAPE counts tokens and uses the output of the activation function, whose sign is that of site
    `gate`. It also drops neurons without a probability in the top 5 % of all probabilities. That
    filter is not applied here, so a neuron that is active on a single prompt scores highest.

    Raises:
        RelationNeuronsError: As for `average_precision`, or there are fewer than two relations.
    """
    scores = torch.as_tensor(scores)
    labels, mask = checked(scores, labels, mask, nan=False)
    if labels.shape[1] < 2:
        raise refuse("There is one relation", expected="at least two, since the entropy is over relations")
    return _in_chunks(_entropy_specificity, scores, labels, mask, size=16)


@reads_attributions
def attribution(scores: Scores, labels: Labels, mask: Mask = None) -> NeuronScores:
    """Mean contribution to a relation's answers over its positives, in nats; negatives are ignored.

    It is high for neurons that every answer needs, whatever the relation; `attribution_t` tells
    them from those of the relation.

    Raises:
        RelationNeuronsError: As for `average_precision`, or contributions are infinite.
    """
    scores = torch.as_tensor(scores)
    labels, mask = checked(scores, labels, mask, nan=False)

    def compute(values: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        _refuse_infinite(values)
        return torch.stack([values[positive].double().mean(dim=0) for positive in (labels & mask).T])

    return _in_chunks(compute, scores, labels, mask, size=16)


@reads_attributions
def attribution_t(scores: Scores, labels: Labels, mask: Mask = None) -> NeuronScores:
    """Mean contribution to own minus other relations' answers, over a moderated standard error.

    The error is sqrt((v + v0) (1/n + 1/m)) for n positives and m negatives. v is the variance of
    the neuron's contributions, pooled over n + m - 2 degrees of freedom. v0 is the median (the
    lower of two) of the variances above 0 of all neurons for this relation. It keeps neurons that
    contribute next to nothing, but evenly, from scoring high. The idea of a constant in the error
    is that of SAM (Tusher et al., 2001). Where v + v0 is 0, scores are as of
    `standardised_mean_difference`.

    Raises:
        RelationNeuronsError: As for `average_precision`, a relation has no negatives, or
            contributions are infinite.
    """
    scores, labels, mask = require_negatives(scores, labels, mask)
    difference = _from_moments(lambda difference, *_: difference, scores, labels, mask)
    variance = _from_moments(lambda _, inner, outer, n, m: (inner + outer) / max(n + m - 2, 1), scores, labels, mask)
    typical = torch.where(variance > 0, variance, float("nan")).nanmedian(dim=1, keepdim=True).values.nan_to_num(0)
    sizes = 1 / (labels & mask).sum(dim=0) + 1 / (~labels & mask).sum(dim=0)
    return torch.where(difference == 0, 0, difference / ((variance + typical) * sizes[:, None]).sqrt())


SCORERS: Mapping[str, Callable[..., Tensor]] = {
    "average_precision": average_precision,
    "auroc": auroc,
    "standardised_mean_difference": standardised_mean_difference,
    "point_biserial": point_biserial,
    "activation_probability_entropy": activation_probability_entropy,
    "contrast_score": contrast_score,
    "attribution": attribution,
    "attribution_t": attribution_t,
}
"""All scorers by name; the first is the paper's."""


def reads(scorer: str) -> str:
    """What a scorer takes: `activations`, or `attributions` if `reads_attributions` marks it."""
    return str(getattr(SCORERS[scorer], "reads", ACTIVATIONS))


def require_negatives(scores: Scores, labels: Labels, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, labels and mask as tensors, [example, relation]; refuse a relation without negatives."""
    scores = torch.as_tensor(scores)
    labels, mask = checked(scores, labels, mask, nan=False)
    empty = (~(~labels & mask).any(dim=0)).nonzero().flatten().tolist()
    if empty:
        raise refuse(f"Relation(s) number {empty} have no negative example", expected="at least one for each relation")
    return scores, labels, mask


def _in_chunks(
    compute: Callable[[Tensor, Tensor, Tensor], Tensor], scores: Tensor, labels: Tensor, mask: Tensor, size: int
) -> NeuronScores:
    """Score neurons in chunks that need `size` bytes of working memory per activation."""
    width = max(1, CHUNK_BYTES // (len(scores) * size))
    chunks = []
    for chunk in scores.split(width, dim=1):
        refuse_nan(chunk)
        chunks.append(compute(chunk, labels, mask).float())
    return torch.cat(chunks, dim=1)


def _auroc(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for positive, member in zip(labels.T, mask.T, strict=True):
        values, is_positive = scores[member], positive[member]
        numbers = values.float() if values.dtype.itemsize < 4 else values  # NumPy has no bfloat16
        ranks = torch.from_numpy(rankdata(numbers.numpy(force=True), axis=0)).to(scores.device)
        n = int(is_positive.sum())
        wins = ranks[is_positive].sum(dim=0) - n * (n + 1) / 2  # Mann-Whitney's U
        rows.append(wins / (n * (len(ranks) - n)))
    return torch.stack(rows)


def _from_moments(formula: Formula, scores: Scores, labels: Labels, mask: Mask) -> NeuronScores:
    """A score from the difference of means, the sums of squared deviations and the class sizes."""
    scores, labels, mask = require_negatives(scores, labels, mask)

    def compute(values: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        _refuse_infinite(values)
        rows = []
        for positive, negative in zip((labels & mask).T, (~labels & mask).T, strict=True):
            mean, inner = moments(values[positive].double())
            other, outer = moments(values[negative].double())
            rows.append(formula(mean - other, inner, outer, int(positive.sum()), int(negative.sum())))
        return torch.stack(rows)

    return _in_chunks(compute, scores, labels, mask, size=48)


def _refuse_infinite(values: Tensor) -> None:
    if torch.isinf(values).any():
        raise refuse("Some scores are infinite", do="use float32 activations, or a scorer by rank such as auroc")


def moments(values: Float[Tensor, "example neuron"]) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations; exact for constants by subtracting the first value."""
    shifted = values - values[0]
    mean = shifted.mean(dim=0)
    return values[0] + mean, (shifted - mean).square().sum(dim=0)


def _entropy_specificity(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    positive = (labels & mask).double()
    shares = positive.T @ (scores > 0).double() / positive.sum(dim=0)[:, None]
    total = shares.sum(dim=0)
    entropy = torch.special.entr(shares / total.clamp(min=torch.finfo(torch.float64).tiny)).sum(dim=0)
    specificity = torch.where(total > 0, math.log(len(shares)) - entropy, 0).clamp(min=0)
    return torch.where(shares == shares.amax(dim=0), specificity, -specificity)
