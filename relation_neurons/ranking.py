"""Average precision on a CPU at a small multiple of the time of one sort.

Scores become order-preserving integer keys with the example's number in their low bits, so that a sort of plain
integers (vectorised in NumPy) also says which example is where. One compiled pass over the sorted keys then serves all
relations: it keeps the numbers of positives and of examples not yet passed, four relations to a 64-bit word.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

BLOCK = 64
"""Neurons that a thread handles at a time; its keys stay in the processor's cache."""
MAX_EXAMPLES = 2**16 - 1
"""Counts are kept in 16 bits."""
RELATIONS_AT_ONCE = 16
NO_LABEL, SEVERAL_LABELS = 254, 255
"""In place of the number of an example's one relation."""
INFINITY = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80, torch.float32: 0x7F800000}
"""Bits of +infinity; what lies beyond is NaN."""


def can_rank(scores: Tensor) -> bool:
    """Whether `rank_average_precision` takes these scores; where numba is absent it takes none."""
    fits = scores.device.type == "cpu" and scores.dtype in INFINITY and len(scores) <= MAX_EXAMPLES
    return fits and _compiled() is not None


def rank_average_precision(
    scores: Float[Tensor, "example neuron"],
    labels: Bool[ndarray, "example relation"],
    weights: Bool[ndarray, "example relation"],
) -> Float[ndarray, "relation neuron"]:
    """Average precision in float64, for float16, bfloat16 or float32 scores of up to 65,535 examples on a CPU.

    Beside the result it needs, for each of PyTorch's threads, 64 x examples keys of 4 bytes (8 for float32).

    Args:
        scores: Activations; where one is NaN, the result of its neuron is NaN.
        labels: True on the positives, which take part.
        weights: True on the examples that take part.
    """
    bits, infinity = _bits(scores), INFINITY[scores.dtype]
    out = np.empty((labels.shape[1], scores.shape[1]))
    for first in range(0, labels.shape[1], RELATIONS_AT_ONCE):
        part = slice(first, first + RELATIONS_AT_ONCE)
        _rank_block(bits, infinity, labels[:, part], weights[:, part], out[part])
    return out


def _rank_block(
    bits: ndarray,
    infinity: int,
    labels: Bool[ndarray, "example relation"],
    weights: Bool[ndarray, "example relation"],
    out: ndarray,
) -> None:
    """Fill `out` for up to 16 relations; each thread takes a share of the neurons, a block at a time."""
    compiled = _compiled()
    assert compiled is not None, "can_rank says whether numba is there"
    pack, walk = compiled
    half = 8 * bits.itemsize
    key_type = np.uint32 if half == 16 else np.uint64
    constants = [key_type(value) for value in (half, 2**half - 1, 2 ** (half - 1), infinity)]
    examples = _examples(labels, weights)

    def work(neurons: range) -> None:
        buffer = np.empty((BLOCK, len(bits)), dtype=key_type)
        for first in neurons[::BLOCK]:
            keys = buffer[: min(BLOCK, neurons.stop - first)]
            pack(bits, first, keys, *constants[:3])
            keys.sort(axis=1)
            walk(keys, *examples, out, first, *constants)

    n_threads = torch.get_num_threads()
    share = -(-bits.shape[1] // (n_threads * BLOCK)) * BLOCK
    shares = [range(bits.shape[1])[start : start + share] for start in range(0, bits.shape[1], share)]
    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(work, shares))
    out /= labels.sum(axis=0)[:, None]


def _examples(
    labels: Bool[ndarray, "example relation"], weights: Bool[ndarray, "example relation"]
) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray]:
    """What the pass needs to know of each example: lanes, their totals, the one label, and where several stand."""
    lanes = np.concatenate([_lanes(weights), _lanes(labels)], axis=1)
    n_labels = labels.sum(axis=1)
    only = np.select([n_labels == 0, n_labels == 1], [NO_LABEL, labels.argmax(axis=1)], SEVERAL_LABELS)
    starts = np.concatenate([[0], n_labels.cumsum()])
    return lanes, lanes.sum(axis=0), only.astype(np.uint8), starts, np.nonzero(labels)[1].astype(np.uint64)


def _bits(scores: Tensor) -> ndarray:
    """The scores' own bits as unsigned integers, not copied where they are contiguous."""
    signed = torch.int16 if scores.element_size() == 2 else torch.int32
    bits = scores.contiguous().view(signed).numpy()
    return bits.view(np.uint16 if scores.element_size() == 2 else np.uint32)


def _lanes(truth: Bool[ndarray, "example relation"]) -> ndarray:
    """Each example's row of booleans as 16-bit numbers in four 64-bit words."""
    rows = np.zeros((len(truth), RELATIONS_AT_ONCE), dtype=np.uint16)
    rows[:, : truth.shape[1]] = truth
    return rows.view("<u8").astype(np.uint64)


@functools.cache
def _compiled() -> tuple[Callable[..., None], Callable[..., None]] | None:
    try:
        import numba
    except ImportError:
        return None
    compile_: Any = numba.njit(nogil=True, cache=True)
    return compile_(inspect.unwrap(_pack)), compile_(inspect.unwrap(_walk))


def _pack(bits: ndarray, first: int, keys: ndarray, half: Any, low: Any, sign: Any) -> None:
    """Write sortable keys with the example's number behind them; eight rows at a time, so that writes are whole."""
    n_neurons, n_examples = keys.shape
    whole = n_examples - n_examples % 8
    for i in range(0, whole, 8):
        for j in range(n_neurons):
            keys[j, i] = bits[i, first + j]
            keys[j, i + 1] = bits[i + 1, first + j]
            keys[j, i + 2] = bits[i + 2, first + j]
            keys[j, i + 3] = bits[i + 3, first + j]
            keys[j, i + 4] = bits[i + 4, first + j]
            keys[j, i + 5] = bits[i + 5, first + j]
            keys[j, i + 6] = bits[i + 6, first + j]
            keys[j, i + 7] = bits[i + 7, first + j]
    for i in range(whole, n_examples):
        for j in range(n_neurons):
            keys[j, i] = bits[i, first + j]
    for j in range(n_neurons):
        for i in range(n_examples):
            value = keys[j, i]
            value = value ^ sign if value == sign else value  # -0 is 0
            flip = low if value >= sign else sign  # negative numbers sort in reverse
            keys[j, i] = ((value ^ flip) << half) | np.uint32(i)


def _walk(
    keys: ndarray,
    lanes: ndarray,
    totals: ndarray,
    only: ndarray,
    starts: ndarray,
    several: ndarray,
    out: ndarray,
    first: int,
    half: Any,
    low: Any,
    sign: Any,
    infinity: Any,
) -> None:
    """Pass from the lowest score to the highest; what is left at a positive is all that scores at least as high."""
    highest = infinity | sign
    # What was left when the run of equal scores began; the second half takes what is written within a run, for to
    # write always and not be read is faster than a branch that cannot be foretold.
    at_tie = np.zeros(16, dtype=np.uint64)
    sums = np.zeros(16)
    for j in range(keys.shape[0]):
        row = keys[j]
        previous = ~(row[0] >> half)
        is_nan = (row[-1] >> half) > highest or (row[0] >> half) < (highest ^ low)
        sums[:] = np.nan if is_nan else 0.0
        s0, s1, s2, s3 = totals[0], totals[1], totals[2], totals[3]
        h0, h1, h2, h3 = totals[4], totals[5], totals[6], totals[7]
        for i in range(keys.shape[1]):
            key, example = row[i] >> half, row[i] & low
            to = np.uint64(0) if key != previous else np.uint64(8)
            previous = key
            at_tie[to], at_tie[to + np.uint64(1)] = s0, s1
            at_tie[to + np.uint64(2)], at_tie[to + np.uint64(3)] = s2, s3
            at_tie[to + np.uint64(4)], at_tie[to + np.uint64(5)] = h0, h1
            at_tie[to + np.uint64(6)], at_tie[to + np.uint64(7)] = h2, h3
            relation = np.uint64(only[example])
            if relation < np.uint64(16):
                word, shift = relation >> np.uint64(2), (relation & np.uint64(3)) << np.uint64(4)
                seen = (at_tie[word] >> shift) & np.uint64(0xFFFF)
                hits = (at_tie[word + np.uint64(4)] >> shift) & np.uint64(0xFFFF)
                sums[relation] += float(hits) / float(seen)
            elif relation == np.uint64(255):
                for place in range(starts[example], starts[example + 1]):
                    relation = several[place]
                    word, shift = relation >> np.uint64(2), (relation & np.uint64(3)) << np.uint64(4)
                    seen = (at_tie[word] >> shift) & np.uint64(0xFFFF)
                    hits = (at_tie[word + np.uint64(4)] >> shift) & np.uint64(0xFFFF)
                    sums[relation] += float(hits) / float(seen)
            s0 -= lanes[example, 0]
            s1 -= lanes[example, 1]
            s2 -= lanes[example, 2]
            s3 -= lanes[example, 3]
            h0 -= lanes[example, 4]
            h1 -= lanes[example, 5]
            h2 -= lanes[example, 6]
            h3 -= lanes[example, 7]
        for number in range(out.shape[0]):
            out[number, first + j] = sums[number]
