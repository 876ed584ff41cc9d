from inspect import unwrap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.scores import average_precision as module
from relation_neurons.scores import cpu_kernel
from relation_neurons.scores.average_precision import average_precision_torch
from relation_neurons.scores.cpu_kernel import can_rank, rank_average_precision


def sklearn_ap(values, labels, mask):
    """One call per neuron and relation, as the known pipelines do it; infinities become the largest ranks."""
    ranks = np.unique(values, return_inverse=True)[1].reshape(values.shape)  # same order and ties, no infinities
    return np.array(
        [
            [average_precision_score(y[w], ranks[w, n]) for n in range(values.shape[1])]
            for y, w in zip(labels.T, mask.T, strict=True)
        ]
    )


@st.composite
def problems(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_examples, n_neurons = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    n_relations = draw(st.integers(1, 3))
    values = generator.normal(size=(n_examples, n_neurons)).astype(np.float32)
    kind = draw(st.sampled_from(["plain", "ties", "constant", "relu", "half", "signed zeros", "infinities"]))
    if kind == "ties":
        values = np.round(values)
    elif kind == "constant":
        values[:] = 1.5
    elif kind == "relu":
        values = np.maximum(values, 0)
    elif kind == "half":
        values = values.astype(np.float16).astype(np.float32)
    elif kind == "signed zeros":
        values = np.where(values > 0, np.float32(0.0), np.float32(-0.0))
    elif kind == "infinities":
        values[generator.random(values.shape) < 0.3] = np.inf
        values[generator.random(values.shape) < 0.3] = -np.inf
    mask = generator.random((n_examples, n_relations)) < draw(st.sampled_from([0.3, 0.8, 1.0]))
    labels = generator.random((n_examples, n_relations)) < draw(st.sampled_from([0.05, 0.5, 1.0]))
    for column in range(n_relations):  # at least one positive takes part
        row = generator.integers(n_examples)
        mask[row, column] = labels[row, column] = True
    return values, labels, mask


@given(problems())
def test_equal_to_scikit_learn(problem):
    values, labels, mask = problem
    expected = sklearn_ap(values, labels, mask)
    ours = rn.average_precision(torch.from_numpy(values), torch.from_numpy(labels), torch.from_numpy(mask))
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6, rtol=0)
    plain = average_precision_torch(*map(torch.from_numpy, problem))
    np.testing.assert_allclose(plain.numpy(), expected, atol=1e-6, rtol=0)
    ranked = rank_average_precision(torch.from_numpy(values), labels & mask, mask)
    np.testing.assert_allclose(ranked, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("n_relations", [1, 16, 17, 40])
def test_more_relations_than_a_block_and_several_labels_per_example(dtype, n_relations):
    torch.manual_seed(3)
    values = torch.randn(203, 130).to(dtype)
    labels, mask = torch.rand(203, n_relations) < 0.3, torch.rand(203, n_relations) < 0.6
    labels[0] = mask[0] = True
    ranked = rank_average_precision(values, (labels & mask).numpy(), mask.numpy())
    plain = average_precision_torch(values, labels, mask)
    np.testing.assert_allclose(ranked, plain.numpy(), atol=1e-6, rtol=0)
    part = values[:, 3:50]  # not contiguous
    np.testing.assert_allclose(rn.average_precision(part, labels, mask), plain[:, 3:50], atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_many_relations_share_one_sort_and_score_bit_for_bit_as_each_block_alone(dtype, monkeypatch):
    torch.manual_seed(4)
    values = torch.randn(90, 70).to(dtype)
    labels, mask = (torch.rand(90, 37) < share for share in (0.3, 0.6))
    labels[0] = mask[0] = True
    labels, mask = (labels & mask).numpy(), mask.numpy()
    pack, score_sorted = cpu_kernel._compiled()
    packed = []
    monkeypatch.setattr(
        cpu_kernel, "_compiled", lambda: (lambda *keys: packed.append(len(keys[2])) or pack(*keys), score_sorted)
    )
    together = rank_average_precision(values, labels, mask)
    assert sum(packed) == 70
    alone = [rank_average_precision(values, labels[:, [i]], mask[:, [i]]) for i in range(37)]
    assert (together == np.concatenate(alone)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_single_nan_of_either_sign_is_found(dtype, sign):
    values = torch.randn(50, 70).to(dtype)
    values[17, 33] = sign * torch.tensor(float("nan"))
    values[3, 33] = float("inf")
    values[4, 33] = float("-inf")
    labels = torch.arange(50) < 10
    with pytest.raises(rn.RelationNeuronsError, match="NaN"):
        rn.average_precision(values, labels)


def test_without_numba_and_beyond_its_limits_pytorch_is_used(monkeypatch):
    values, labels = torch.randn(60, 4), torch.arange(60) < 20
    expected = rn.average_precision(values, labels)
    assert can_rank(values)
    assert not can_rank(values.double())
    assert not can_rank(torch.empty(2**16, 1))
    monkeypatch.setattr(cpu_kernel, "_compiled", lambda: None)
    assert not can_rank(values)
    torch.testing.assert_close(rn.average_precision(values, labels), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_is_ranked_without_rounding(dtype):
    torch.manual_seed(0)
    values = torch.randn(60, 7).to(dtype)
    labels = torch.rand(60, 2) < 0.3
    expected = sklearn_ap(values.double().numpy(), labels.numpy(), np.ones_like(labels.numpy()))
    np.testing.assert_allclose(rn.average_precision(values, labels).numpy(), expected, atol=1e-6, rtol=0)


def test_a_worked_example():
    # Thresholds 0.9: precision 1, recall 1/2; 0.8 (two tied): precision 2/3, recall 1. AP = 1/2 * 1 + 1/2 * 2/3 = 5/6.
    values = torch.tensor([[0.9], [0.8], [0.8], [0.1]])
    assert rn.average_precision(values, torch.tensor([True, True, False, False])).item() == pytest.approx(5 / 6)


def test_a_constant_neuron_scores_the_base_rate():
    labels = torch.tensor([True, False, False, False])
    assert rn.average_precision(torch.ones(4, 1), labels).item() == pytest.approx(0.25)


def test_chunks_change_nothing(monkeypatch):
    torch.manual_seed(1)
    values, labels = torch.randn(50, 33).round(decimals=1), torch.rand(50, 3) < 0.4
    everything = torch.ones_like(labels)
    whole = average_precision_torch(values, labels, everything)
    monkeypatch.setattr(module, "CHUNK_BYTES", 50 * 48 * 4)  # four neurons at a time
    assert torch.equal(average_precision_torch(values, labels, everything), whole)


def test_input_is_not_changed():
    values, labels = torch.randn(20, 3), torch.rand(20, 2) < 0.5
    labels[0] = True
    before = values.clone()
    rn.average_precision(values, labels)
    assert torch.equal(values, before)


@pytest.mark.parametrize(
    ("values", "labels", "says"),
    [
        (torch.tensor([[float("nan")], [1.0]]), torch.tensor([True, False]), "NaN"),
        (torch.ones(2, 1), torch.tensor([False, False]), "no positive"),
        (torch.ones(3, 1), torch.tensor([True, False]), "shape"),
        (torch.ones(2, 1), torch.tensor([1, 0]), "booleans"),
    ],
)
def test_invalid_scores_and_labels_are_refused(values, labels, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        unwrap(rn.average_precision)(values, labels)  # as users have it, without the tests' check of shapes


def test_masked_positives_do_not_count():
    labels, mask = torch.tensor([[True], [False]]), torch.tensor([[False], [True]])
    with pytest.raises(rn.RelationNeuronsError, match="no positive"):
        rn.average_precision(torch.ones(2, 1), labels, mask)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_equals_cpu():
    torch.manual_seed(2)
    values, labels = torch.randn(300, 500).round(decimals=2), torch.rand(300, 4) < 0.2
    on_gpu = rn.average_precision(values.cuda(), labels.cuda())
    assert torch.allclose(on_gpu.cpu(), rn.average_precision(values, labels), atol=1e-6, rtol=0)


def test_scores_on_another_device_are_moved_a_few_neurons_at_a_time(monkeypatch):
    """Here `cpu:0`, which PyTorch takes for another device than `cpu`; every neuron is ranked as where it was."""
    values, labels = torch.randn(30, 7), torch.rand(30, 2) < 0.5
    widths = []
    computed = module._computed
    monkeypatch.setattr(module, "MOVED_BYTES", 30 * 4 * 3)
    monkeypatch.setattr(module, "_computed", lambda part, *rest: widths.append(part.shape[1]) or computed(part, *rest))
    moved = rn.average_precision(values, labels, device="cpu:0")
    assert widths == [3, 3, 1]
    assert torch.equal(moved, rn.average_precision(values, labels))
