"""Average precision on a CPU, in little more time than sorting takes.

Scores are converted to order-preserving integer keys with the index of the example in the low bits,
so that sorting plain integers (vectorised in NumPy) also sorts the examples. One compiled pass over
the sorted keys then computes the scores of 16 relations (`relation_neurons.scores.numba_kernel`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

BLOCK = 64
"""Neurons that a thread processes at a time, so that their keys fit in the processor's cache."""
MAX_EXAMPLES = 2**16 - 1
"""Counts are kept in 16 bits."""
RELATIONS_AT_ONCE = 16
NO_LABEL, SEVERAL_LABELS = 254, 255
"""Codes used instead of the index of an example's only relation."""
INFINITY = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80, torch.float32: 0x7F800000}
"""Bits of +infinity; larger values are NaN."""


def can_rank(scores: Tensor) -> bool:
    """Whether `rank_average_precision` supports these scores; never without numba."""
    fits = scores.device.type == "cpu" and scores.dtype in INFINITY and len(scores) <= MAX_EXAMPLES
    return fits and _compiled() is not None


def rank_average_precision(
    scores: Float[Tensor, "example neuron"],
    labels: Bool[ndarray, "example relation"],
    mask: Bool[ndarray, "example relation"],
) -> Float[ndarray, "relation neuron"]:
    """Average precision in float64, for scores accepted by `can_rank`: up to 65,535 examples.

    Each neuron is sorted once for any number of relations; 16 relations share one pass over what is sorted.
    Working memory: 64 keys per example for each of PyTorch's threads, of 4 bytes (8 for float32).

    Args:
        scores: Activations; the result of a neuron with a NaN is NaN.
        labels: True for positives; must be a subset of `mask`.
        mask: True for the examples included in a relation's score.
    """
    compiled = _compiled()
    assert compiled is not None, "can_rank checks that numba is installed"
    pack, score_sorted = compiled
    bits, half = _bits(scores), 8 * scores.element_size()
    key_type = np.uint32 if half == 16 else np.uint64
    constants = [key_type(value) for value in (half, 2**half - 1, 2 ** (half - 1), INFINITY[scores.dtype])]
    n_relations, n_neurons = labels.shape[1], scores.shape[1]
    out = np.empty((n_relations, n_neurons))
    starts = range(0, n_relations, RELATIONS_AT_ONCE)
    parts = [slice(start, start + RELATIONS_AT_ONCE) for start in starts]
    passes = [(_examples(labels[:, part], mask[:, part]), out[part]) for part in parts]

    def work(neurons: range) -> None:
        buffer = np.empty((BLOCK, len(bits)), dtype=key_type)
        for first in neurons[::BLOCK]:
            keys = buffer[: min(BLOCK, neurons.stop - first)]
            pack(bits, first, keys, *constants[:3])
            keys.sort(axis=1)
            for examples, rows in passes:
                score_sorted(keys, *examples, rows, first, *constants)

    n_threads = torch.get_num_threads()
    share = -(-n_neurons // (n_threads * BLOCK)) * BLOCK
    shares = [range(n_neurons)[start : start + share] for start in range(0, n_neurons, share)]
    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(work, shares))
    out /= labels.sum(axis=0)[:, None]
    return out


def _examples(
    labels: Bool[ndarray, "example relation"], mask: Bool[ndarray, "example relation"]
) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray, ndarray]:
    """Arguments of the compiled pass: masks, positives, single labels, multiple labels."""
    rows = np.zeros((len(mask), RELATIONS_AT_ONCE), dtype=bool)
    rows[:, : mask.shape[1]] = mask
    included = rows.sum(axis=0, dtype=np.uint16).view("<u8").astype(np.uint64)
    positives = np.zeros(RELATIONS_AT_ONCE, dtype=np.int64)
    positives[: labels.shape[1]] = labels.sum(axis=0)
    n_labels = labels.sum(axis=1)
    only = np.select([n_labels == 0, n_labels == 1], [NO_LABEL, labels.argmax(axis=1)], SEVERAL_LABELS)
    starts = np.concatenate([[0], n_labels.cumsum()])
    several = np.nonzero(labels)[1].astype(np.uint64)
    masks = np.packbits(rows, axis=1, bitorder="little").view("<u2").ravel().astype(np.uint16)
    return masks, included, positives, only.astype(np.uint8), starts, several


def _bits(scores: Tensor) -> ndarray:
    """The bits of the scores as unsigned integers, without a copy if they are contiguous."""
    signed = torch.int16 if scores.element_size() == 2 else torch.int32
    bits = scores.contiguous().view(signed).numpy()
    return bits.view(np.uint16 if scores.element_size() == 2 else np.uint32)


@functools.cache
def _compiled() -> tuple[Callable[..., None], Callable[..., None]] | None:
    try:
        from relation_neurons.scores import numba_kernel
    except ImportError:
        return None
    return numba_kernel.pack, numba_kernel.score_sorted
