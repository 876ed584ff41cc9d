"""Average precision of each neuron's activation as a classifier of a relation's prompts."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray
from sklearn.metrics import average_precision_score
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.scores.cpu_kernel import can_rank, rank_average_precision
from relation_neurons.validation import validated

CHUNK_BYTES = 256 * 2**20
"""Working memory of the PyTorch implementation, for any input size."""
MOVED_BYTES = 2**30
"""Scores that are moved to another device at a time."""


@validated
def average_precision(
    scores: Float[Tensor, "example neuron"] | Float[ndarray, "example neuron"],
    labels: Shaped[Tensor, "example ..."] | Shaped[ndarray, "example ..."],
    mask: Bool[Tensor, "example ..."] | Bool[ndarray, "example ..."] | None = None,
    *,
    device: str | torch.device | None = None,
) -> Float[Tensor, "relation neuron"]:
    """Average precision of every neuron for every relation, as in scikit-learn (paper, section 3).

    AP = sum over thresholds t of (recall_t - recall_{t-1}) * precision_t. Equal scores share one
    threshold. Each neuron is sorted once for all relations. Counts are integers and sums float64,
    so the result is exact up to rounding. Implementations: `scores.cpu_kernel` on a CPU if
    possible, `scores.triton_kernel` on a GPU for up to 16,384 examples, otherwise plain PyTorch.

    Args:
        scores: Activations of any float type; infinities are allowed.
        labels: True for positives; [example] or [example, relation].
        mask: True for the examples included in a relation's score; None means all.
        device: Where to compute; scores elsewhere are moved there, `MOVED_BYTES` at a time. By default where they are.

    Returns:
        Average precision in float32, on the device of `scores`.

    Raises:
        RelationNeuronsError: There are NaN scores, shapes do not match, labels are not boolean, or
            a relation has no positives.

    Example:
        >>> scores = torch.tensor([[0.9], [0.8], [0.8], [0.1]])
        >>> average_precision(scores, torch.tensor([True, True, False, False]))
        tensor([[0.8333]])
    """
    scores = torch.as_tensor(scores)
    labels, mask = checked(scores, labels, mask, nan=False)
    if device is None or torch.device(device) == scores.device:
        return _computed(scores, labels, mask)
    there = labels.to(device), mask.to(device)
    parts = scores.split(max(1, MOVED_BYTES // (len(scores) * scores.element_size())), dim=1)
    return torch.cat([_computed(part.to(device), *there).to(scores.device) for part in parts], dim=1)


def _computed(
    scores: Float[Tensor, "example neuron"],
    labels: Bool[Tensor, "example relation"],
    mask: Bool[Tensor, "example relation"],
) -> Float[Tensor, "relation neuron"]:
    """By the best implementation for the device of the scores."""
    if can_rank(scores):
        ranked = torch.from_numpy(rank_average_precision(scores, (labels & mask).numpy(), mask.numpy()))
        refuse_nan(ranked)
        return ranked.float()
    fused = _fused(scores, labels, mask) if scores.is_cuda else None
    if fused is not None:
        refuse_nan(fused)
        return fused
    return average_precision_torch(scores, labels, mask)


def _fused(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor | None:
    """The result of the fused kernel, or None if it does not apply; warns if the kernel fails."""
    try:
        from relation_neurons.scores import triton_kernel
    except ImportError:
        return None
    if scores.dtype not in triton_kernel.INFINITY_BITS or len(scores) > triton_kernel.MAX_EXAMPLES:
        return None
    try:
        return triton_kernel.average_precision_triton(scores, labels, mask)
    except Exception as error:  # Triton raises many kinds of errors when it cannot compile for a device
        warnings.warn(f"The fused kernel failed ({error}); using the slower PyTorch implementation", stacklevel=3)
        return None


def average_precision_torch(
    scores: Float[Tensor, "example neuron"],
    labels: Bool[Tensor, "example relation"],
    mask: Bool[Tensor, "example relation"],
) -> Float[Tensor, "relation neuron"]:
    """`average_precision` in plain PyTorch on any device, with `CHUNK_BYTES` of working memory."""
    n_examples, n_neurons = scores.shape
    out = torch.empty((labels.shape[1], n_neurons), dtype=torch.float32, device=scores.device)
    # Per element: the key, its rank (int64), booleans, two counts and two float64 temporaries.
    width = max(1, CHUNK_BYTES // (n_examples * 48))
    for start in range(0, n_neurons, width):
        part = slice(start, start + width)
        refuse_nan(scores[:, part])
        out[:, part] = _average_precision(scores[:, part], labels, mask)
    return out


def difference_from_scikit_learn(
    result: Float[Tensor, "relation neuron"],
    scores: Float[Tensor, "example neuron"],
    labels: Bool[ndarray, "example relation"],
    mask: Bool[ndarray, "example relation"],
    *,
    n: int = 200,
    seed: int = 0,
) -> float:
    """Largest absolute difference from scikit-learn's average precision in a random sample.

    Args:
        result: The result of `average_precision` for the other arguments.
        scores: Activations.
        labels: True for positives.
        mask: True for the examples included in a relation's score.
        n: Number of pairs of a neuron and a relation in the sample.
        seed: Seed of the sample.
    """
    generator = np.random.default_rng(seed)
    worst = 0.0
    for relation, neuron in generator.integers(result.shape, size=(n, 2)):
        part = mask[:, relation]
        values = scores[:, neuron].float().numpy(force=True)
        expected = average_precision_score(labels[part, relation], values[part])
        worst = max(worst, abs(expected - float(result[relation, neuron])))
    return worst


def _average_precision(
    scores: Float[Tensor, "example neuron"],
    labels: Bool[Tensor, "example relation"],
    mask: Bool[Tensor, "example relation"],
) -> Float[Tensor, "relation neuron"]:
    ordered, order = scores.T.contiguous().sort(dim=1, descending=True)  # [neuron, example]
    ends = torch.ones_like(ordered, dtype=torch.bool)  # the last of each group of equal scores
    ends[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    rows = []
    for positive, included in zip((labels & mask).T, mask.T, strict=True):
        hits = positive[order].cumsum(dim=1, dtype=torch.int32)
        seen = included[order].cumsum(dim=1, dtype=torch.int32)
        hits_at_ends = torch.where(ends, hits, 0).cummax(dim=1).values
        gained = hits_at_ends.diff(dim=1, prepend=torch.zeros_like(hits[:, :1]))
        precision = hits.double() / seen.clamp(min=1)
        rows.append((gained * precision).sum(dim=1) / positive.sum())
    return torch.stack(rows).float()


def refuse_nan(scores: Tensor) -> None:
    """Raise an error if a score is NaN."""
    if torch.isnan(scores).any():
        raise refuse("Some scores are NaN", do="check the model and its activations; NaN cannot be ranked")


def checked(
    scores: Tensor, labels: Tensor | ndarray, mask: Tensor | ndarray | None, *, nan: bool = True
) -> tuple[Bool[Tensor, "example relation"], Bool[Tensor, "example relation"]]:
    """Validate the arguments of a scorer and return labels and mask as [example, relation].

    Args:
        scores: As for `average_precision`.
        labels: As for `average_precision`.
        mask: As for `average_precision`.
        nan: Whether to check the scores for NaN.

    Returns:
        Labels and mask, on the device of `scores`.

    Raises:
        RelationNeuronsError: As for `average_precision`.
    """
    labels = torch.as_tensor(labels, device=scores.device)
    mask = torch.ones_like(labels) if mask is None else torch.as_tensor(mask, device=scores.device)
    if labels.dtype != torch.bool or mask.dtype != torch.bool:
        raise refuse(f"labels are {labels.dtype} and mask {mask.dtype}", expected="booleans")
    if scores.ndim != 2 or labels.ndim not in (1, 2) or len(labels) != len(scores) or mask.shape != labels.shape:
        raise refuse(
            f"scores have shape {tuple(scores.shape)}, labels {tuple(labels.shape)}, mask {tuple(mask.shape)}",
            expected="[example, neuron], [example, relation] and the shape of the labels",
        )
    if nan:
        refuse_nan(scores)
    labels, mask = labels.reshape(len(labels), -1), mask.reshape(len(mask), -1)
    empty = (~(labels & mask).any(dim=0)).nonzero().flatten().tolist()
    if empty:
        raise refuse(f"Relation(s) number {empty} have no positive example", expected="at least one for each relation")
    return labels, mask
