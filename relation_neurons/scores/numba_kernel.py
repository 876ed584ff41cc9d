"""Compiled loops of `relation_neurons.scores.cpu_kernel`: packing and scoring of sort keys.

Scoring keeps the numbers of examples not yet visited, for four relations per 64-bit word.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy import ndarray

SPREAD = ((np.arange(16)[:, None] >> np.arange(4)) & 1).astype("<u2").view("<u8").ravel().astype(np.uint64)
"""Four bits of a mask as four 16-bit numbers in a 64-bit word, by which counts of four relations fall at once."""


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
    masks: ndarray,
    included: ndarray,
    positives: ndarray,
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
    at_tie = np.zeros(8, dtype=np.uint64)
    hits = np.zeros((2, 16), dtype=np.int64)
    sums = np.zeros(16)
    for j in range(keys.shape[0]):
        row = keys[j]
        is_nan = (row[-1] >> half) > highest or (row[0] >> half) < (highest ^ low)
        sums[:] = np.nan if is_nan else 0.0
        hits[0, :] = positives
        _pass(row, masks, included, only, starts, several, at_tie, hits, sums, half, low)
        for number in range(out.shape[0]):
            out[number, first + j] = sums[number]


@_compiled
def _pass(
    row: ndarray,
    masks: ndarray,
    included: ndarray,
    only: ndarray,
    starts: ndarray,
    several: ndarray,
    at_tie: ndarray,
    hits: ndarray,
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
    s0, s1, s2, s3 = included[0], included[1], included[2], included[3]
    tied = np.uint64(0)  # relations with a positive in the current group
    for i in range(len(row)):
        key, example = row[i] >> half, row[i] & low
        new = key != previous
        tied = np.uint64(0) if new else tied
        place = np.uint64(0) if new else np.uint64(4)
        previous = key
        at_tie[place], at_tie[place + np.uint64(1)] = s0, s1
        at_tie[place + np.uint64(2)], at_tie[place + np.uint64(3)] = s2, s3
        relation = np.uint64(only[example])
        if relation < np.uint64(16):
            tied = _add(relation, tied, at_tie, hits, sums)
        elif relation == np.uint64(255):
            for number in range(starts[example], starts[example + 1]):
                tied = _add(several[number], tied, at_tie, hits, sums)
        mask = np.uint64(masks[example])
        s0 -= SPREAD[mask & np.uint64(15)]
        s1 -= SPREAD[(mask >> np.uint64(4)) & np.uint64(15)]
        s2 -= SPREAD[(mask >> np.uint64(8)) & np.uint64(15)]
        s3 -= SPREAD[mask >> np.uint64(12)]


@_compiled
def _add(relation: Any, tied: Any, at_tie: ndarray, hits: ndarray, sums: ndarray) -> Any:
    """Add the precision at a positive: of the examples that score at least as high, how many are positives.

    `hits` holds the positives of each relation not yet visited, and those already visited that score the same, which
    count too.
    """
    seen = (at_tie[relation >> np.uint64(2)] >> ((relation & np.uint64(3)) << np.uint64(4))) & np.uint64(0xFFFF)
    at_least = hits[0, relation]
    hits[0, relation] = at_least - 1
    if (tied >> relation) & np.uint64(1):
        at_least += hits[1, relation]
        hits[1, relation] += 1
    else:
        hits[1, relation] = 1
    sums[relation] += float(at_least) / float(np.int64(seen))
    return tied | (np.uint64(1) << relation)
