"""How well each neuron's activation tells a relation's prompts from others: pure functions of arrays."""

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
"""Working memory of the PyTorch path, whatever the size of its input."""


@validated
def average_precision(
    scores: Float[Tensor, "example neuron"] | Float[ndarray, "example neuron"],
    labels: Shaped[Tensor, "example ..."] | Shaped[ndarray, "example ..."],
    mask: Bool[Tensor, "example ..."] | Bool[ndarray, "example ..."] | None = None,
) -> Float[Tensor, "relation neuron"]:
    """Average precision of every neuron for every relation, as scikit-learn defines it (paper, section 3).

    AP = sum over thresholds t of (recall_t - recall_before) * precision_t. Equal scores share one threshold. One sort
    of each neuron serves all relations; counts are integers and sums float64, so the result is exact to rounding. On a
    CPU the compiled path of `scores.cpu_kernel` is taken where it can be, on a GPU with 16-bit scores the fused kernel
    of `scores.triton_kernel`, else plain PyTorch.

    Args:
        scores: Activations; any float type, infinities allowed.
        labels: True on the positives; [example] or [example, relation].
        mask: True on the examples that take part in a relation; none means all.

    Returns:
        float32, in the device of `scores`.

    Raises:
        RelationNeuronsError: NaN scores, lengths that differ, labels that are not booleans, or a relation without
            positives.

    Example:
        >>> scores = torch.tensor([[0.9], [0.8], [0.8], [0.1]])
        >>> average_precision(scores, torch.tensor([True, True, False, False]))
        tensor([[0.8333]])
    """
    scores = torch.as_tensor(scores)
    labels, mask = checked(scores, labels, mask, nan=False)
    if can_rank(scores):
        ranked = rank_average_precision(scores, (labels & mask).numpy(), mask.numpy())
        found = torch.from_numpy(ranked)
        refuse_nan(found)
        return found.float()
    fused = _fused(scores, labels, mask) if scores.is_cuda else None
    if fused is not None:
        refuse_nan(fused)
        return fused
    return average_precision_torch(scores, labels, mask)


def _fused(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor | None:
    """The result of the fused kernel, or none where it does not apply; a warning where it should and does not run."""
    try:
        from relation_neurons.scores import triton_kernel
    except ImportError:
        return None
    if scores.dtype not in (torch.float16, torch.bfloat16) or len(scores) > triton_kernel.MAX_EXAMPLES:
        return None
    try:
        return triton_kernel.average_precision_triton(scores, labels, mask)
    except Exception as error:  # Triton raises many kinds of errors when it cannot compile for a device
        warnings.warn(f"The fused kernel failed ({error}); plain PyTorch takes over, more slowly", stacklevel=3)
        return None


def average_precision_torch(
    scores: Float[Tensor, "example neuron"],
    labels: Bool[Tensor, "example relation"],
    mask: Bool[Tensor, "example relation"],
) -> Float[Tensor, "relation neuron"]:
    """`average_precision` in plain PyTorch, on any device; needs `CHUNK_BYTES` beside its input."""
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
    found: Float[Tensor, "relation neuron"],
    scores: Float[Tensor, "example neuron"],
    labels: Bool[ndarray, "example relation"],
    mask: Bool[ndarray, "example relation"],
    *,
    n: int = 200,
    seed: int = 0,
) -> float:
    """Largest difference between `average_precision` and scikit-learn's over randomly drawn neurons and relations.

    Args:
        found: What `average_precision` gave for the other arguments.
        scores: Activations.
        labels: True on the positives.
        mask: True on the examples that take part.
        n: How many pairs of a neuron and a relation to draw.
        seed: Chooses them.
    """
    generator = np.random.default_rng(seed)
    worst = 0.0
    for relation, neuron in generator.integers(found.shape, size=(n, 2)):
        part = mask[:, relation]
        values = scores[:, neuron].float().numpy(force=True)
        expected = average_precision_score(labels[part, relation], values[part])
        worst = max(worst, abs(expected - float(found[relation, neuron])))
    return worst


def _average_precision(
    scores: Float[Tensor, "example neuron"],
    labels: Bool[Tensor, "example relation"],
    mask: Bool[Tensor, "example relation"],
) -> Float[Tensor, "relation neuron"]:
    ordered, order = scores.T.contiguous().sort(dim=1, descending=True)  # [neuron, example]
    ends = torch.ones_like(ordered, dtype=torch.bool)  # the last of a run of equal scores
    ends[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    rows = []
    for positive, taking_part in zip((labels & mask).T, mask.T, strict=True):
        hits = positive[order].cumsum(dim=1, dtype=torch.int32)
        seen = taking_part[order].cumsum(dim=1, dtype=torch.int32)
        hits_at_ends = torch.where(ends, hits, 0).cummax(dim=1).values
        gained = hits_at_ends.diff(dim=1, prepend=torch.zeros_like(hits[:, :1]))
        precision = hits.double() / seen.clamp(min=1)
        rows.append((gained * precision).sum(dim=1) / positive.sum())
    return torch.stack(rows).float()


def refuse_nan(scores: Tensor) -> None:
    """Raise if there is a NaN, which nothing can be ranked by."""
    if torch.isnan(scores).any():
        raise refuse("Some scores are NaN", do="check the model and its activations; nothing can be ranked by NaN")


def checked(
    scores: Tensor, labels: Tensor | ndarray, mask: Tensor | ndarray | None, *, nan: bool = True
) -> tuple[Bool[Tensor, "example relation"], Bool[Tensor, "example relation"]]:
    """Labels and mask as [example, relation] on the scores' device, after a look at everything.

    Raises:
        RelationNeuronsError: As `average_precision`; NaN only if `nan`.
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
