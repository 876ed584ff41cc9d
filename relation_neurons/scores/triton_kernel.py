"""Average precision of every neuron for every relation in one fused Triton kernel."""

from __future__ import annotations

import os
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

MAX_EXAMPLES = 2**14
"""During sorting, a score's key and the index of its example share one non-negative integer."""

RELATIONS_PER_LAUNCH = 32
"""An example's labels and mask share one int32 (up to 16 relations) or int64 (up to 32)."""

BUFFER_BYTES = 64 * 2**20
"""Memory for transposed scores; most of a chunk then stays in the 60 MB cache of a Hopper GPU."""

INFINITY_BITS = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80, torch.float32: 0x7F800000}
"""Bits of +infinity for each type that is supported; larger ones are NaN."""
_INDEX_BITS = tl.constexpr(14)
_INDEX_MASK = tl.constexpr(2**14 - 1)
_COUNT_BITS = tl.constexpr(15)  # counts go up to 16384; two of them fit in an int32
_COUNT_MASK = tl.constexpr(2**15 - 1)


def average_precision_triton(
    scores: Float[Tensor, "example neuron"],
    labels: Bool[Tensor, "example relation"],
    mask: Bool[Tensor, "example relation"],
) -> Float[Tensor, "relation neuron"]:
    """Average precision of every neuron for every relation, as scikit-learn defines it.

    Equal scores share one threshold. Each program sorts one neuron on chip, once for all relations.
    Device memory beyond the result is `BUFFER_BYTES` and, while masks are packed, at most 20 MB.

    Reading columns of row-major scores would cost one 32-byte sector per score, and several neurons
    per program do not fit in the registers. Scores are therefore transposed in chunks, which moves
    every score three times (read, write, read).

    Args:
        scores: float32, float16 or bfloat16; infinities are allowed. A neuron with a NaN scores NaN.
        labels: True for positives.
        mask: True for the examples included in a relation's score.

    Returns:
        float32, on the device of `scores`. Counts are exact, quotients and sums float64, as on a CPU.

    Raises:
        ValueError: A shape, dtype or device is not supported, there are more than `MAX_EXAMPLES`
            examples, or a relation has no positives.
    """
    _check(scores, labels, mask)
    n_examples, n_neurons = scores.shape
    n_relations = labels.shape[1]
    out = torch.empty((n_relations, n_neurons), dtype=torch.float32, device=scores.device)
    groups = [slice(i, i + RELATIONS_PER_LAUNCH) for i in range(0, n_relations, RELATIONS_PER_LAUNCH)]
    packed = [(*_packed(labels[:, group], mask[:, group]), out[group]) for group in groups]
    # Rows start at multiples of 16; otherwise Triton's scans take three times longer.
    stride = triton.cdiv(max(1, n_examples), 16) * 16
    width = max(1, min(n_neurons, BUFFER_BYTES // (scores.element_size() * stride)))
    buffer = torch.empty((width, stride), dtype=scores.dtype, device=scores.device)
    for start in range(0, n_neurons, width):
        part = scores[:, start : start + width]
        by_neuron = buffer[: part.shape[1], :n_examples].copy_(part.T)
        for words, totals, rows in packed:
            with torch.cuda.device_of(scores):  # Triton launches on the current device
                _launch(by_neuron, words, totals, rows[:, start : start + width])
    return out


def _launch(
    by_neuron: Float[Tensor, "neuron example"],
    words: Int[Tensor, " example"],
    totals: Int[Tensor, " relation"],
    out: Float[Tensor, "relation neuron"],
) -> None:
    n_neurons, n_examples = by_neuron.shape
    block = max(64, triton.next_power_of_2(n_examples))
    bits = 8 * by_neuron.element_size()
    _kernel[(n_neurons,)](
        by_neuron.view(torch.int16 if bits == 16 else torch.int32),
        words,
        totals,
        out,
        n_examples,
        len(totals),
        by_neuron.stride(0),
        out.stride(0),
        BLOCK=block,
        HALF=words.element_size() * 4,
        BITS=bits,
        INFINITY=INFINITY_BITS[by_neuron.dtype],
        # 16 elements per thread. With 64 registers for each, two programs of 8192 elements, or one of 16384, fill half
        # the threads of a Hopper multiprocessor; without the limit only one of 8192 fits, and it stalls at its own
        # barriers. Keys of float32 are twice as wide.
        num_warps=max(1, block // 512),
        maxnreg=64 if bits == 16 else 128,
    )


def _packed(
    labels: Bool[Tensor, "example relation"], mask: Bool[Tensor, "example relation"]
) -> tuple[Int[Tensor, " example"], Int[Tensor, " relation"]]:
    """A word per example (low half: labels, high half: mask), and each relation's packed totals."""
    n_relations = labels.shape[1]
    half, dtype = (16, torch.int32) if n_relations <= 16 else (32, torch.int64)
    hits = labels & mask
    shifts = torch.arange(n_relations, device=labels.device)
    # Distinct bits: their sum is their union. The kernel masks the sign bit if it is set.
    words = ((hits.long() << shifts) + (mask.long() << (shifts + half))).sum(dim=1)
    totals = (mask.sum(dim=0) << _COUNT_BITS.value) + hits.sum(dim=0)
    return words.to(dtype), totals.int()


def _check(scores: Tensor, labels: Tensor, mask: Tensor) -> None:
    if scores.dtype not in INFINITY_BITS:
        raise ValueError(f"scores are {scores.dtype}; expected float32, float16 or bfloat16")
    if labels.dtype != torch.bool or mask.dtype != torch.bool:
        raise ValueError(f"labels are {labels.dtype} and mask {mask.dtype}; expected booleans")
    if scores.ndim != 2 or labels.ndim != 2 or len(labels) != len(scores) or mask.shape != labels.shape:
        raise ValueError(f"shapes do not match: {tuple(scores.shape)}, {tuple(labels.shape)}, {tuple(mask.shape)}")
    if len(scores) > MAX_EXAMPLES:
        raise ValueError(f"{len(scores)} examples; the fused kernel sorts at most {MAX_EXAMPLES}")
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not (scores.is_cuda or interpreted) or {labels.device, mask.device} != {scores.device}:
        raise ValueError(f"{scores.device}, {labels.device}, {mask.device}; expected one CUDA device")
    empty = (~(labels & mask).any(dim=0)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"relation(s) number {empty} have no positive example")


@triton.jit(do_not_specialize=["n_relations"])
@no_type_check
def _kernel(  # not type-checked, like those below: a checker's wrapper hides the source from Triton
    scores, words, totals, out, n_examples, n_relations, scores_stride, out_stride,
    BLOCK: tl.constexpr, HALF: tl.constexpr, BITS: tl.constexpr, INFINITY: tl.constexpr,
):  # fmt: skip
    neuron = tl.program_id(0).to(tl.int64)
    positions = tl.arange(0, BLOCK)
    bits = tl.load(scores + neuron * scores_stride + positions, mask=positions < n_examples, other=0)
    bits = bits.to(tl.int32 if BITS == 16 else tl.int64) & ((1 << BITS) - 1)
    has_nan = tl.max(bits & ((1 << (BITS - 1)) - 1)) > INFINITY
    # Ascending: groups start here where they end in descending order, so scans run forwards.
    ordered = tl.sort((_ascending(bits, BITS) << _INDEX_BITS) | positions)
    index = (ordered & _INDEX_MASK).to(tl.int32)
    # Padding is outside every relation's mask, so its position does not matter.
    word = tl.load(words + index, mask=index < n_examples, other=0)
    starts = _starts(ordered >> _INDEX_BITS, positions)
    for relation in range(n_relations):
        total = tl.load(totals + relation)
        value = _average_precision(word, starts, total, relation, HALF)
        tl.store(out + relation * out_stride + neuron, tl.where(has_nan, float("nan"), value))


@triton.jit
@no_type_check
def _ascending(bits, BITS: tl.constexpr):
    """Keys of so many bits in the order of the floating-point numbers; -0 and +0 have the same key."""
    sign: tl.constexpr = 1 << (BITS - 1)
    bits = tl.where(bits == sign, 0, bits)
    return tl.where(bits >= sign, (1 << BITS) - 1 - bits, bits + sign)


@triton.jit
@no_type_check
def _starts(keys, positions):
    """Whether a group of equal keys starts here, by a scan: a block cannot read neighbours."""
    first = tl.associative_scan((keys << _INDEX_BITS) | positions, 0, _first_of_group)
    return (first & _INDEX_MASK).to(tl.int32) == positions


@triton.jit
@no_type_check
def _average_precision(word, starts, total, relation, HALF: tl.constexpr):
    """Mean over positives of hits / seen at the end of their group; both counts share one int32."""
    hit = ((word >> relation) & 1).to(tl.int32)
    seen = ((word >> (relation + HALF)) & 1).to(tl.int32)
    counts = (seen << _COUNT_BITS) | hit
    lower = tl.cumsum(counts, 0) - counts
    # `lower` never decreases, so its latest value at a group start is the largest so far.
    lower = tl.associative_scan(tl.where(starts, lower, 0), 0, _larger)
    upper = total - lower  # examples that score at least as high
    hits, counted = upper & _COUNT_MASK, upper >> _COUNT_BITS
    precision = hits.to(tl.float64) / tl.maximum(counted, 1).to(tl.float64)
    n_positives = total & _COUNT_MASK
    return (tl.sum(tl.where(hit == 1, precision, 0.0)) / n_positives.to(tl.float64)).to(tl.float32)


@triton.jit
@no_type_check
def _first_of_group(left, right):
    return tl.where((left >> _INDEX_BITS) == (right >> _INDEX_BITS), left, right)


@triton.jit
@no_type_check
def _larger(left, right):
    return tl.maximum(left, right)
