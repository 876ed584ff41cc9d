"""Scorers of neighbouring methods, beside average precision and with its signature.

All take activations, boolean labels (true on a relation's positives) and boolean mask (true on the examples that
take part in a relation; none means all), return float32 in the device of the activations, and give the higher score to
the neuron more specific to the relation. Sums are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.scores.average_precision import CHUNK_BYTES, average_precision, checked, refuse_nan

Scores = Float[Tensor, "example neuron"] | Float[ndarray, "example neuron"]
Labels = Shaped[Tensor, "row *relation"] | Shaped[ndarray, "row *relation"]  # `checked` says more of wrong shapes
Weights = Bool[Tensor, "row *relation"] | Bool[ndarray, "row *relation"] | None
Found = Float[Tensor, "relation neuron"]
Formula = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]


def auroc(scores: Scores, labels: Labels, mask: Weights = None) -> Found:
    """Area under the ROC curve of every neuron for every relation, as scikit-learn defines it.

    It is the share of pairs of a positive and a negative in which the positive scores higher, ties counted half; 0.5 is
    chance, whatever the base rate. Counts are integers. Infinities are allowed.

    Raises:
        RelationNeuronsError: As for `average_precision`, and for a relation without negatives.

    Example:
        >>> scores = torch.tensor([[0.9], [0.8], [0.8], [0.1]])
        >>> auroc(scores, torch.tensor([True, True, False, False]))
        tensor([[0.8750]])
    """
    scores, labels, mask = _with_negatives(scores, labels, mask)
    return _in_chunks(_auroc, scores, labels, mask, size=96)


def standardised_mean_difference(scores: Scores, labels: Labels, mask: Weights = None) -> Found:
    """Cohen's d: mean over positives minus mean over negatives, in pooled standard deviations (Cohen, 1988).

    Variances are pooled over n - 2 degrees of freedom. Constant neurons give 0; neurons that are constant over each
    but differ between them give infinity with the sign of the difference.

    Raises:
        RelationNeuronsError: As for `average_precision`, for a relation without negatives, and for infinite scores.
    """

    def formula(difference: Tensor, inner: Tensor, outer: Tensor, n: int, m: int) -> Tensor:
        pooled = ((inner + outer) / max(n + m - 2, 1)).sqrt()
        return torch.where(difference == 0, 0, difference / pooled)

    return _from_moments(formula, scores, labels, mask)


def point_biserial(scores: Scores, labels: Labels, mask: Weights = None) -> Found:
    """Pearson's correlation of label and activation, in [-1, 1]; constant neurons give 0.

    For one relation it orders neurons as `standardised_mean_difference` does, but for rounding.

    Raises:
        RelationNeuronsError: As for `average_precision`, for a relation without negatives, and for infinite scores.
    """

    def formula(difference: Tensor, inner: Tensor, outer: Tensor, n: int, m: int) -> Tensor:
        between = difference * math.sqrt(n * m / (n + m))
        return torch.where(between == 0, 0, between / (inner + outer + between.square()).sqrt())

    return _from_moments(formula, scores, labels, mask)


def contrast_score(scores: Scores, labels: Labels, mask: Weights = None) -> Found:
    """Root mean square over the positives of the activation minus the negatives' mean, in units of the activation.

    After the change score of "Finding Safety Neurons in Large Language Models" (Chen et al., 2024, arXiv:2406.14144)
    and its published code: there the root mean square, over the tokens of responses, of the difference between two
    models' activations on the same token, before and after alignment. Adapted: the two conditions are prompts of the
    relation and of others in one model; as these do not pair up, the second activation is the mean over the negatives;
    the root mean square is over prompts. As there, the sign of the change does not count, and large neurons score high.

    Raises:
        RelationNeuronsError: As for `average_precision`, for a relation without negatives, and for infinite scores.
    """

    def formula(difference: Tensor, inner: Tensor, outer: Tensor, n: int, m: int) -> Tensor:
        return (inner / n + difference.square()).sqrt()

    return _from_moments(formula, scores, labels, mask)


def activation_probability_entropy(scores: Scores, labels: Labels, mask: Weights = None) -> Found:
    """How unevenly a neuron fires over relations, in nats, after LAPE (Tang et al., 2024, arXiv:2402.16438).

    Per neuron, the share of each relation's positives with an activation above 0, these divided by their sum, and the
    entropy of that: low entropy is specific. LAPE scores neurons only; here log(number of relations) minus entropy goes
    to the relation of the largest share (to each of them if several share it) and, negated, to the others, so that 0 is
    even firing. Neurons that never fire give 0; negatives do not count; infinities are allowed. LAPE counts tokens, and
    reads what follows the activation function, whose sign is that of site `gate`. It also drops neurons with no share
    in the top 5 % of all; that is left out, so a neuron that fires on a single prompt scores highest.

    Raises:
        RelationNeuronsError: As for `average_precision`, and for fewer than two relations.
    """
    scores = torch.as_tensor(scores)
    labels, mask = checked(scores, labels, mask, nan=False)
    if labels.shape[1] < 2:
        raise refuse("There is one relation", expected="at least two: the entropy is of firing over relations")
    return _in_chunks(_unevenness, scores, labels, mask, size=16)


SCORERS: Mapping[str, Callable[..., Tensor]] = {
    "average_precision": average_precision,
    "auroc": auroc,
    "standardised_mean_difference": standardised_mean_difference,
    "point_biserial": point_biserial,
    "activation_probability_entropy": activation_probability_entropy,
    "contrast_score": contrast_score,
}
"""All scorers by name; the paper's comes first."""


def _with_negatives(scores: Scores, labels: Labels, mask: Weights) -> tuple[Tensor, Tensor, Tensor]:
    scores = torch.as_tensor(scores)
    labels, mask = checked(scores, labels, mask, nan=False)
    empty = (~(~labels & mask).any(dim=0)).nonzero().flatten().tolist()
    if empty:
        raise refuse(f"Relation(s) number {empty} have no negative example", expected="at least one for each relation")
    return scores, labels, mask


def _in_chunks(
    compute: Callable[[Tensor, Tensor, Tensor], Tensor], scores: Tensor, labels: Tensor, mask: Tensor, size: int
) -> Found:
    """Score as many neurons at a time as fit the working memory, of which an element of `scores` takes `size` bytes."""
    width = max(1, CHUNK_BYTES // (len(scores) * size))
    found = []
    for part in scores.split(width, dim=1):
        refuse_nan(part)
        found.append(compute(part, labels, mask).float())
    return torch.cat(found, dim=1)


def _auroc(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    ordered, order = scores.T.contiguous().sort(dim=1)  # [neuron, example]
    ends = torch.ones_like(ordered, dtype=torch.bool)  # the last of a run of equal scores
    ends[:, :-1] = ordered[:, 1:] != ordered[:, :-1]

    def up_to_ends(taken: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.where(ends, taken[order].cumsum(dim=1, dtype=torch.int32), 0).cummax(dim=1).values
        return counts, counts.diff(dim=1, prepend=torch.zeros_like(counts[:, :1]))

    rows = []
    for positive, negative in zip((labels & mask).T, (~labels & mask).T, strict=True):
        _, gained = up_to_ends(positive)
        below, tied = up_to_ends(negative)  # `below` counts the tied ones too
        wins = (gained.long() * (2 * below - tied)).sum(dim=1)
        rows.append(wins.double() / (2 * positive.sum() * negative.sum()))
    return torch.stack(rows)


def _from_moments(formula: Formula, scores: Scores, labels: Labels, mask: Weights) -> Found:
    """A score made of the difference of means, both sums of squares about the means, and both numbers of examples."""
    scores, labels, mask = _with_negatives(scores, labels, mask)

    def compute(values: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        if torch.isinf(values).any():
            raise refuse("Some scores are infinite", do="use float32 activations, or a scorer by rank such as auroc")
        rows = []
        for positive, negative in zip((labels & mask).T, (~labels & mask).T, strict=True):
            mean, inner = _moments(values[positive].double())
            other, outer = _moments(values[negative].double())
            rows.append(formula(mean - other, inner, outer, int(positive.sum()), int(negative.sum())))
        return torch.stack(rows)

    return _in_chunks(compute, scores, labels, mask, size=48)


def _moments(values: Float[Tensor, "example neuron"]) -> tuple[Tensor, Tensor]:
    """The mean and the sum of squares about it; exact for constants, as the first value is taken off first."""
    shifted = values - values[0]
    mean = shifted.mean(dim=0)
    return values[0] + mean, (shifted - mean).square().sum(dim=0)


def _unevenness(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    positive = (labels & mask).double()
    shares = positive.T @ (scores > 0).double() / positive.sum(dim=0)[:, None]
    total = shares.sum(dim=0)
    entropy = torch.special.entr(shares / total.clamp(min=torch.finfo(torch.float64).tiny)).sum(dim=0)
    specificity = torch.where(total > 0, math.log(len(shares)) - entropy, 0).clamp(min=0)
    return torch.where(shares == shares.amax(dim=0), specificity, -specificity)
