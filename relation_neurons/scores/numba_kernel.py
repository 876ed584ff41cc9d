"""Compiled loops of `relation_neurons.scores.cpu_kernel`: packing and scoring of sort keys.

Scoring keeps the numbers of positives and examples not yet visited, for four relations per 64-bit
word.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy import ndarray


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    plain = inspect.unwrap(function)
    try:
        compiled: Callable[..., Any] = numba.njit(nogil=True, cache=True)(plain)
    except RuntimeError:  # no writable cache folder: compile in every process
        compiled = numba.njit(nogil=True)(plain)
    return compiled


@_compiled
def pack(bits: ndarray, first: int, keys: ndarray, half: Any, low: Any, sign: Any) -> None:
    """Write sort keys followed by the example's index; eight at a time, to fill cache lines."""
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
            value = value ^ sign if value == sign else value  # -0 equals 0
            flip = low if value >= sign else sign  # negative numbers sort in reverse
            keys[j, i] = ((value ^ flip) << half) | np.uint32(i)


@_compiled
def score_sorted(
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
    """Visit examples by increasing score: those not yet visited score at least as high."""
    highest = infinity | sign
    at_tie = np.zeros(16, dtype=np.uint64)
    sums = np.zeros(16)
    for j in range(keys.shape[0]):
        row = keys[j]
        is_nan = (row[-1] >> half) > highest or (row[0] >> half) < (highest ^ low)
        sums[:] = np.nan if is_nan else 0.0
        _pass(row, lanes, totals, only, starts, several, at_tie, sums, half, low)
        for number in range(out.shape[0]):
            out[number, first + j] = sums[number]


@_compiled
def _pass(
    row: ndarray,
    lanes: ndarray,
    totals: ndarray,
    only: ndarray,
    starts: ndarray,
    several: ndarray,
    at_tie: ndarray,
    sums: ndarray,
    half: Any,
    low: Any,
) -> None:
    """Sum the precisions of one neuron.

    The first half of `at_tie` holds the counts at the start of the current group of equal scores.
    Within a group, counts are written to the second half, which is never read: an unconditional
    write is faster than an unpredictable branch.
    """
    previous = ~(row[0] >> half)
    s0, s1, s2, s3 = totals[0], totals[1], totals[2], totals[3]
    h0, h1, h2, h3 = totals[4], totals[5], totals[6], totals[7]
    for i in range(len(row)):
        key, example = row[i] >> half, row[i] & low
        half_start = np.uint64(0) if key != previous else np.uint64(8)
        previous = key
        at_tie[half_start], at_tie[half_start + np.uint64(1)] = s0, s1
        at_tie[half_start + np.uint64(2)], at_tie[half_start + np.uint64(3)] = s2, s3
        at_tie[half_start + np.uint64(4)], at_tie[half_start + np.uint64(5)] = h0, h1
        at_tie[half_start + np.uint64(6)], at_tie[half_start + np.uint64(7)] = h2, h3
        relation = np.uint64(only[example])
        if relation < np.uint64(16):
            sums[relation] += _precision(at_tie, relation)
        elif relation == np.uint64(255):
            for place in range(starts[example], starts[example + 1]):
                sums[several[place]] += _precision(at_tie, several[place])
        s0 -= lanes[example, 0]
        s1 -= lanes[example, 1]
        s2 -= lanes[example, 2]
        s3 -= lanes[example, 3]
        h0 -= lanes[example, 4]
        h1 -= lanes[example, 5]
        h2 -= lanes[example, 6]
        h3 -= lanes[example, 7]


@_compiled
def _precision(at_tie: ndarray, relation: Any) -> float:
    """The precision of a relation over the examples not yet visited."""
    word, shift = relation >> np.uint64(2), (relation & np.uint64(3)) << np.uint64(4)
    seen = (at_tie[word] >> shift) & np.uint64(0xFFFF)
    hits = (at_tie[word + np.uint64(4)] >> shift) & np.uint64(0xFFFF)
    return float(hits) / float(seen)
