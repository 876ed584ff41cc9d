"""The fused kernel against scikit-learn and the torch path: on a GPU, or on a CPU in Triton's interpreter."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

pytest.importorskip("triton")

from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons.selection import top_k
from relation_neurons.scores import triton_kernel as fused
from relation_neurons.scores.average_precision import average_precision
from relation_neurons.scores.effect_size import by_effect_size
from relation_neurons.scores.scorers import standardised_mean_difference
from relation_neurons.scores.triton_kernel import average_precision_triton
from tests.helpers import full_only

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
N_NEURONS = 3 if INTERPRETED else 300  # the interpreter walks a scan element by element
LENGTHS = [1, 2, 3, 37, 64, 65, 130] + ([] if INTERPRETED else [512, 1000, 1025, 4095, 8000, 8192, 12345, 16383, 16384])
TOLERANCE = 1e-6
ONE_STEP = 2.0**-24
"""Between neighbours of float32 below 1: sums of float64 in another order may round to either."""

pytestmark = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(), reason="needs a CUDA device, or TRITON_INTERPRET=1"
)

SCORES = {
    "distinct": lambda n, m: torch.randn(n, m),
    "ties": lambda n, m: torch.randint(-3, 4, (n, m)),
    "mostly one group": lambda n, m: (torch.rand(n, m) < 0.05) * torch.randn(n, m),
    "constant": lambda n, m: torch.full((n, m), -1.5),
    "rectified": lambda n, m: torch.randn(n, m).relu(),
    "signed zeros": lambda n, m: torch.tensor([-1.0, -0.0, 0.0, 1.0])[torch.randint(0, 4, (n, m))],
    "infinities": lambda n, m: torch.tensor([-torch.inf, -2.0, 0.0, 3.0, torch.inf])[torch.randint(0, 5, (n, m))],
    "subnormal": lambda n, m: torch.randint(-9, 10, (n, m)) * 2.0**-24,
    "increasing": lambda n, m: torch.linspace(-9, 9, n)[:, None].expand(n, m),
    "decreasing": lambda n, m: torch.linspace(9, -9, n)[:, None].expand(n, m),
}


def slow_if_interpreted(n_examples: int) -> object:
    """A number of examples that the interpreter counts in a minute; only a full run does, and a GPU always."""
    return pytest.param(n_examples, marks=[pytest.mark.full] * INTERPRETED)


def masks(n_examples: int, n_relations: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and mask, differing by relation; every relation has a positive that takes part."""
    labels = torch.rand(n_examples, n_relations) < torch.linspace(0.1, 0.9, n_relations)
    mask = torch.rand(n_examples, n_relations) < torch.linspace(1.0, 0.4, n_relations)
    kept = torch.randint(0, n_examples, (n_relations,))
    labels[kept, range(n_relations)] = mask[kept, range(n_relations)] = True
    return labels, mask


def by_scikit_learn(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    # scikit-learn refuses infinities; numbers beyond all others rank the same.
    values = scores.double().clamp(-1e300, 1e300).numpy()
    positive, part = labels.numpy(), mask.numpy()
    rows = [
        [average_precision_score(positive[used, r], values[used, i]) for i in range(values.shape[1])]
        for r, used in enumerate(part.T)
    ]
    return np.array(rows)


def check(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> None:
    found = average_precision_triton(scores.to(DEVICE), labels.to(DEVICE), mask.to(DEVICE))
    assert found.dtype == torch.float32
    assert found.device.type == DEVICE
    assert found.shape == (labels.shape[1], scores.shape[1])
    np.testing.assert_allclose(found.cpu(), average_precision(scores, labels, mask), rtol=0, atol=ONE_STEP)
    some = scores[:, :8]
    np.testing.assert_allclose(found[:, :8].cpu(), by_scikit_learn(some, labels, mask), rtol=0, atol=TOLERANCE)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, *full_only(torch.float16, torch.bfloat16)], ids=str)
@pytest.mark.parametrize("kind", SCORES)
def test_kinds_of_scores(kind: str, dtype: torch.dtype) -> None:
    scores = SCORES[kind](100, N_NEURONS).to(dtype)
    check(scores, *masks(100))


@pytest.mark.parametrize("n_examples", LENGTHS)
@pytest.mark.parametrize("kind", ["distinct", "ties"])
def test_numbers_of_examples(kind: str, n_examples: int) -> None:
    check(SCORES[kind](n_examples, N_NEURONS).half(), *masks(n_examples, 2))


@pytest.mark.skipif(INTERPRETED, reason="too slow in the interpreter")
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("n_examples", [8000, 16384])
def test_kinds_of_scores_at_full_length(kind: str, n_examples: int) -> None:
    for dtype in (torch.bfloat16, torch.float32):
        check(SCORES[kind](n_examples, 40).to(dtype), *masks(n_examples, 17))


def test_every_16_bit_pattern_is_ordered_by_its_value() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
        numbers = every[~every.isnan()]
        scores = numbers[torch.randperm(len(numbers))[:96]][:, None]
        check(scores, *masks(96, 1))


def test_float32_scores_are_ordered_by_their_value() -> None:
    """Numbers of every exponent and both signs, many of which 16 bits would not tell apart."""
    bits = torch.randint(-(2**31), 2**31, (200,)).to(torch.int32).view(torch.float32)
    numbers = bits[~bits.isnan()][:94]
    close = torch.tensor([1.0, torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))])
    check(torch.cat([numbers, close])[:, None], *masks(len(numbers) + 2, 1))


def test_keys_of_all_patterns_increase_with_their_values() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
        numbers = every[~every.isnan()].sort().values
        bits = numbers.view(torch.int16).int() & 0xFFFF
        bits[bits == 0x8000] = 0
        keys = torch.where(bits >= 0x8000, 0xFFFF - bits, bits + 0x8000)  # as in the kernel
        torch.testing.assert_close(keys.diff().sign(), numbers.float().diff().sign().int())


@pytest.mark.parametrize("n_relations", [1, 2, 15, 16, 17, 31, 32, 33])
def test_numbers_of_relations(n_relations: int) -> None:
    check(SCORES["ties"](60, 2).half(), *masks(60, n_relations))


def test_one_positive_and_all_positive() -> None:
    labels = torch.zeros(50, 3, dtype=torch.bool)
    labels[7, 0] = labels[:, 1] = labels[49, 2] = True
    mask = torch.ones_like(labels)
    for kind in ("distinct", "ties", "constant"):
        check(SCORES[kind](50, N_NEURONS).half(), labels, mask)


def test_masked_positives_do_not_count() -> None:
    labels, mask = torch.ones(40, 1, dtype=torch.bool), torch.zeros(40, 1, dtype=torch.bool)
    labels[5] = False
    mask[[3, 5, 8]] = True
    check(SCORES["ties"](40, N_NEURONS).half(), labels, mask)


def test_padding_does_not_count_even_below_and_above_all_scores() -> None:
    for value in (-torch.inf, 0.0, torch.inf):
        check(torch.full((33, 1), value).half(), *masks(33, 2))


@pytest.mark.parametrize("n_examples", [1025, slow_if_interpreted(8000)])
def test_many_examples_keep_the_error_small(n_examples: int) -> None:
    """Sums of thousands of quotients."""
    labels = torch.rand(n_examples, 1) < 0.9
    check(torch.randn(n_examples, 1), labels, torch.ones_like(labels))


def test_an_index_and_two_counts_of_all_examples_have_bits_enough() -> None:
    assert fused.MAX_EXAMPLES - 1 <= fused._INDEX_MASK.value == 2**fused._INDEX_BITS.value - 1
    assert fused.MAX_EXAMPLES <= fused._COUNT_MASK.value == 2**fused._COUNT_BITS.value - 1
    assert fused._INDEX_BITS.value + 16 < 32 > 2 * fused._COUNT_BITS.value  # the sign is not used
    assert fused._INDEX_BITS.value + 32 < 64


@pytest.mark.parametrize("n_examples", [slow_if_interpreted(fused.MAX_EXAMPLES)])
def test_counts_of_every_example_fit(n_examples: int) -> None:
    labels = torch.ones(n_examples, 1, dtype=torch.bool)
    check(torch.zeros(n_examples, 1).half(), labels, labels)


def test_neurons_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "BUFFER_BYTES", 2 * 48 * 2)  # two neurons of 40 examples, padded to 48
    check(SCORES["ties"](40, 5).half(), *masks(40, 2))
    check(SCORES["ties"](40, 5).float(), *masks(40, 2))
    monkeypatch.setattr(fused, "BUFFER_BYTES", 1)
    check(SCORES["ties"](40, 3).half(), *masks(40, 2))


def test_scores_need_not_be_contiguous() -> None:
    scores = torch.randn(40, 8).half()
    check(scores[:, 1::3], *masks(40, 2))
    check(torch.randn(3, 40).half().T, *masks(40, 2))


def test_no_neurons() -> None:
    assert average_precision_triton(
        torch.zeros(4, 0).half().to(DEVICE), *(m.to(DEVICE) for m in masks(4, 2))
    ).shape == (2, 0)


def test_nan_affects_only_its_own_neuron() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        scores = torch.randn(40, 3).to(dtype)
        scores[3, 1], scores[4, 1] = torch.nan, -torch.nan
        found = average_precision_triton(scores.to(DEVICE), *(m.to(DEVICE) for m in masks(40, 2)))
        assert found.isnan().tolist() == [[False, True, False]] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, y, w: (s.double(), y, w), "float64"),
        (lambda s, y, w: (s, y.int(), w), "booleans"),
        (lambda s, y, w: (s, y, w[:, :1]), "shapes"),
        (lambda s, y, w: (s[:-1], y, w), "shapes"),
        (lambda s, y, w: (s, y & False, w), "no positive"),
        (lambda s, y, w: (s.repeat(2000, 1), y.repeat(2000, 1), w.repeat(2000, 1)), "at most 16384"),
    ],
)
def test_refusals(change, message: str) -> None:
    arguments = change(torch.randn(10, 2).half(), *masks(10, 2))
    with pytest.raises(ValueError, match=message):
        average_precision_triton(*(argument.to(DEVICE) for argument in arguments))


@pytest.mark.skipif(INTERPRETED, reason="measures device memory")
def test_memory_is_bounded() -> None:
    scores = torch.randn(8000, 20_000, dtype=torch.float16, device=DEVICE)
    labels, mask = (m.to(DEVICE) for m in masks(8000, 6))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    average_precision_triton(scores, labels, mask)
    assert torch.cuda.max_memory_allocated() - before < fused.BUFFER_BYTES + 16 * 2**20


def test_perfect_scores_are_exactly_equal_and_ordered_by_effect_size():
    labels, mask = masks(20, 2)
    scores = torch.randint(0, 3, (20, 6)) + 4 * labels[:, :1]  # all separate the first relation
    scores[:, 4] = scores[:, 1]
    scores[:, 5] = 1 + labels[:, 0].long()
    found = average_precision_triton(scores.half().to(DEVICE), labels.to(DEVICE), mask.to(DEVICE)).cpu()
    assert (found[0] == 1).all()
    ties = by_effect_size(scores.half(), labels, mask)
    best = top_k(found, 6, NeuronSpace("toy", 1, (("post", 6),)), ["a", "b"], ties)["a"]
    effects = standardised_mean_difference(scores.double(), labels, mask)[0]
    order = [neuron.index for neuron in best]
    assert order == sorted(range(6), key=lambda neuron: (-effects[neuron], neuron))
    assert order[0] == 5
    assert order.index(4) == order.index(1) + 1
