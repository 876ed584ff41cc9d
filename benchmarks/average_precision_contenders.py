"""Implementations of average precision for all neurons and relations, and data to compare them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.scores.average_precision import average_precision_torch


class Data(NamedTuple):
    """Synthetic activations with four negatives for each positive, as in the paper."""

    scores: torch.Tensor  # [example, neuron]
    labels: np.ndarray  # [example, relation]
    mask: np.ndarray  # [example, relation]


def make_data(
    n_examples: int, n_neurons: int, n_relations: int, *, dtype: str = "float16", device: str = "cpu"
) -> Data:
    """Normal scores; each example belongs to one relation."""
    generator = np.random.default_rng(0)
    own = generator.integers(n_relations, size=n_examples)
    labels = own[:, None] == np.arange(n_relations)
    mask = labels.copy()
    for relation in range(n_relations):
        others = np.flatnonzero(own != relation)
        drawn = generator.permutation(others)[: 4 * labels[:, relation].sum()]
        mask[drawn, relation] = True
    torch.manual_seed(0)
    scores = torch.empty((n_examples, n_neurons), dtype=getattr(torch, dtype), device=device).normal_()
    return Data(scores, labels, mask)


def ours(data: Data) -> np.ndarray:
    """The public function of this package."""
    return rn.average_precision(data.scores, data.labels, data.mask).numpy(force=True)


def torch_path(data: Data) -> np.ndarray:
    """One sort and masked cumulative sums in PyTorch."""
    labels, mask = (torch.as_tensor(part, device=data.scores.device) for part in (data.labels, data.mask))
    return average_precision_torch(data.scores, labels, mask).numpy(force=True)


def scikit_learn_loop(data: Data) -> np.ndarray:
    """One call per neuron and relation."""
    values = data.scores.float().numpy(force=True)
    return np.array([_scikit_learn_neuron(values[:, n], data.labels, data.mask) for n in range(values.shape[1])]).T


def scikit_learn_pool(data: Data) -> np.ndarray:
    """The same in a pool of processes."""
    values = data.scores.float().numpy(force=True)
    columns = [values[:, n] for n in range(values.shape[1])]
    with ProcessPoolExecutor() as pool:
        rows = pool.map(
            _scikit_learn_neuron, columns, [data.labels] * len(columns), [data.mask] * len(columns), chunksize=16
        )
        return np.array(list(rows)).T


def _scikit_learn_neuron(values: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> list[float]:
    return [average_precision_score(labels[part, relation], values[part]) for relation, part in enumerate(mask.T)]


def torchmetrics_loop(data: Data) -> np.ndarray:
    """Binary average precision of torchmetrics, neuron by neuron.

    It applies a sigmoid if any score is outside [0, 1]; here it is always applied, for consistency.
    """
    from torchmetrics.functional.classification import binary_average_precision

    values = torch.sigmoid(data.scores.float())
    labels, mask = torch.as_tensor(data.labels).long(), torch.as_tensor(data.mask)
    return np.array(
        [
            [float(binary_average_precision(values[part, n], labels[part, relation])) for n in range(values.shape[1])]
            for relation, part in enumerate(mask.T)
        ]
    )


def numpy_argsort(data: Data) -> np.ndarray:
    """One argsort per neuron and cumulative sums; ties are broken arbitrarily, so it is not exact."""
    order = np.argsort(-data.scores.numpy(force=True), axis=0)
    results = []
    for label, weight in zip((data.labels & data.mask).T, data.mask.T, strict=True):
        hits, seen = label[order].cumsum(axis=0), weight[order].cumsum(axis=0)
        results.append((label[order] * hits / np.maximum(seen, 1)).sum(axis=0) / label.sum())
    return np.array(results)


def values_only_sort(data: Data) -> None:
    """Lower bound: sort as many integers as there are scores, on as many threads (32 bits on a CPU, 16 on a GPU)."""
    if data.scores.is_cuda:
        shape = data.scores.shape[::-1]
        bits = torch.randint(-(2**15), 2**15, shape, dtype=torch.int16, device=data.scores.device)
        values_only_sort.seconds = seconds_of(lambda _: bits.sort(dim=1), data)
        return
    keys = np.random.default_rng(0).integers(2**32, size=(data.scores.shape[1], data.scores.shape[0]), dtype=np.uint32)
    n_threads = torch.get_num_threads()
    with ThreadPoolExecutor(n_threads) as threads:
        start = time.perf_counter()
        list(threads.map(lambda rows: rows.sort(axis=1), np.array_split(keys, n_threads)))
        values_only_sort.seconds = time.perf_counter() - start


def one_read(data: Data) -> None:
    """Lower bound: read all scores once."""
    if data.scores.is_cuda:
        data.scores.view(torch.int16).sum()
        return
    data.scores.view(torch.int16).contiguous().numpy(force=True).view(np.uint64).sum()


def seconds_of(function: Callable[[Data], object], data: Data) -> float:
    """Time of one call."""
    if data.scores.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    function(data)
    if data.scores.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return getattr(function, "seconds", seconds)  # the sort excludes the time to make its keys


CONTENDERS: dict[str, tuple[Callable[[Data], np.ndarray | None], int]] = {
    "this package": (ours, 10**9),
    "its PyTorch path": (torch_path, 4096),
    "numpy argsort, ties ignored": (numpy_argsort, 2048),
    "torchmetrics, a loop": (torchmetrics_loop, 24),
    "scikit-learn, a loop": (scikit_learn_loop, 48),
    "scikit-learn, processes": (scikit_learn_pool, 96),
    "floor: values-only sort": (values_only_sort, 10**9),
    "floor: one read": (one_read, 10**9),
}
"""Function and largest number of neurons that it runs on; the time of the rest is extrapolated."""
