"""Average precision of every neuron for every relation: this package, others, and what the hardware could do.

Everything runs on the same data in one process, several times; the table gives medians, scaled to all neurons where a
contender is too slow to run on them all (said in the column `neurons`), and ratios to the values-only sort.

    python benchmarks/average_precision.py --out average_precision.json
    python benchmarks/average_precision.py --growth
    python benchmarks/average_precision.py --neurons 835584 --mapped .
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.scores import average_precision_torch


class Data(NamedTuple):
    """Synthetic activations with four negatives for each positive, as in the paper."""

    scores: torch.Tensor  # [example, neuron]
    labels: np.ndarray  # [example, relation]
    weights: np.ndarray  # [example, relation]


def make_data(
    n_examples: int, n_neurons: int, n_relations: int, *, dtype: str = "float16", device: str = "cpu"
) -> Data:
    """Normal scores; each example belongs to one relation."""
    generator = np.random.default_rng(0)
    own = generator.integers(n_relations, size=n_examples)
    labels = own[:, None] == np.arange(n_relations)
    weights = labels.copy()
    for relation in range(n_relations):
        others = np.flatnonzero(own != relation)
        drawn = generator.permutation(others)[: 4 * labels[:, relation].sum()]
        weights[drawn, relation] = True
    torch.manual_seed(0)
    scores = torch.empty((n_examples, n_neurons), dtype=getattr(torch, dtype), device=device).normal_()
    return Data(scores, labels, weights)


def ours(data: Data) -> np.ndarray:
    """The public function."""
    return rn.average_precision(data.scores, data.labels, data.weights).numpy(force=True)


def torch_path(data: Data) -> np.ndarray:
    """One sort and masked cumulative sums in plain PyTorch."""
    labels, weights = (torch.as_tensor(part, device=data.scores.device) for part in (data.labels, data.weights))
    return average_precision_torch(data.scores, labels, weights).numpy(force=True)


def scikit_learn_loop(data: Data) -> np.ndarray:
    """One call per neuron and relation."""
    values = data.scores.float().numpy(force=True)
    return np.array([_scikit_learn_neuron(values[:, n], data.labels, data.weights) for n in range(values.shape[1])]).T


def scikit_learn_pool(data: Data) -> np.ndarray:
    """The same over a pool of processes."""
    values = data.scores.float().numpy(force=True)
    columns = [values[:, n] for n in range(values.shape[1])]
    with ProcessPoolExecutor() as pool:
        rows = pool.map(
            _scikit_learn_neuron, columns, [data.labels] * len(columns), [data.weights] * len(columns), chunksize=16
        )
        return np.array(list(rows)).T


def _scikit_learn_neuron(values: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> list[float]:
    return [average_precision_score(labels[part, relation], values[part]) for relation, part in enumerate(weights.T)]


def torchmetrics_loop(data: Data) -> np.ndarray:
    """Binary average precision of torchmetrics, neuron by neuron.

    It applies a sigmoid by itself when some score is outside [0, 1]; we apply it always, so that relations agree.
    """
    from torchmetrics.functional.classification import binary_average_precision

    values = torch.sigmoid(data.scores.float())
    labels, weights = torch.as_tensor(data.labels).long(), torch.as_tensor(data.weights)
    return np.array(
        [
            [float(binary_average_precision(values[part, n], labels[part, relation])) for n in range(values.shape[1])]
            for relation, part in enumerate(weights.T)
        ]
    )


def numpy_argsort(data: Data) -> np.ndarray:
    """One argsort per neuron and cumulative sums; takes ties in the order they come, so it is not exact."""
    order = np.argsort(-data.scores.numpy(force=True), axis=0)
    out = []
    for label, weight in zip((data.labels & data.weights).T, data.weights.T, strict=True):
        hits, seen = label[order].cumsum(axis=0), weight[order].cumsum(axis=0)
        out.append((label[order] * hits / np.maximum(seen, 1)).sum(axis=0) / label.sum())
    return np.array(out)


def values_only_sort(data: Data) -> None:
    """Floor: a sort of as many integers as there are scores, in one call: 32 bits on a CPU, 16 on a GPU."""
    if data.scores.is_cuda:
        shape = data.scores.shape[::-1]
        bits = torch.randint(-(2**15), 2**15, shape, dtype=torch.int16, device=data.scores.device)
        values_only_sort.seconds = _seconds(lambda _: bits.sort(dim=1), data)
        return
    keys = np.random.default_rng(0).integers(2**32, size=(data.scores.shape[1], data.scores.shape[0]), dtype=np.uint32)
    start = time.perf_counter()
    keys.sort(axis=1)
    values_only_sort.seconds = time.perf_counter() - start


def one_read(data: Data) -> None:
    """Floor: add up all bits of the scores once."""
    if data.scores.is_cuda:
        data.scores.view(torch.int16).sum()
        return
    data.scores.view(torch.int16).contiguous().numpy(force=True).view(np.uint64).sum()


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
"""Function and how many neurons it is given at most; the rest is extrapolated."""


def measure(data: Data, repeats: int) -> list[dict[str, object]]:
    """Medians of all contenders, in turn, each against the reference's result."""
    rows = []
    for name, (function, most) in CONTENDERS.items():
        part = Data(data.scores[:, :most].contiguous(), data.labels, data.weights)
        n_neurons = part.scores.shape[1]
        try:
            found = function(Data(part.scores[:, :64].contiguous(), *part[1:]))  # warm up
        except ImportError as error:
            rows.append({"name": name, "error": str(error)})
            continue
        worst = None if found is None else float(np.abs(found - scikit_learn_loop(_narrow(part, found))).max())
        times = [_seconds(function, part) for _ in range(repeats if n_neurons > 100 else 1)]
        scale = data.scores.shape[1] / n_neurons
        rows.append({"name": name, "neurons": n_neurons, "seconds": statistics.median(times) * scale, "error": worst})
    return rows


def _narrow(data: Data, found: np.ndarray) -> Data:
    return Data(data.scores[:, : found.shape[1]], data.labels, data.weights)


def _seconds(function: Callable[[Data], object], data: Data) -> float:
    if data.scores.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    function(data)
    if data.scores.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return getattr(function, "seconds", seconds)  # the floor leaves out the making of its keys


def growth(n_examples: int, n_neurons: int, n_relations: int, repeats: int) -> list[dict[str, object]]:
    """Time of this package when neurons, examples or relations double."""
    sizes = [(n_examples, n_neurons, n_relations)]
    sizes += [(n_examples, n_neurons * 2, n_relations), (n_examples * 2, n_neurons, n_relations)]
    sizes += [(n_examples, n_neurons, n_relations * 2), (n_examples, n_neurons, n_relations * 4)]
    rows = []
    for size in sizes:
        data = make_data(*size)
        ours(Data(data.scores[:, :64].contiguous(), *data[1:]))
        seconds = statistics.median(_seconds(ours, data) for _ in range(repeats))
        row = {"examples": size[0], "neurons": size[1], "relations": size[2], "seconds": seconds}
        rows.append({**row, "ratio": seconds / rows[0]["seconds"] if rows else 1.0})
    return rows


def mapped(n_examples: int, n_neurons: int, n_relations: int, folder: Path) -> list[dict[str, object]]:
    """One pass over float16 scores that lie in a file, with the largest amount of memory that is not the file's."""
    small = make_data(n_examples, 1, n_relations)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        size = n_examples * n_neurons
        scores = torch.from_file(file.name, shared=True, size=size, dtype=torch.float16).view(n_examples, n_neurons)
        for rows in scores.split(100):
            rows.normal_()
        before, peak, stop = _anonymous_bytes(), [0], threading.Event()

        def watch() -> None:
            while not stop.wait(0.02):
                peak[0] = max(peak[0], _anonymous_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        seconds = _seconds(ours, Data(scores, small.labels, small.weights))
        stop.set()
        watcher.join()
    row = {"neurons": n_neurons, "seconds": seconds, "file MB": size * 2 / 1e6}
    return [{**row, "extra MB": (peak[0] - before) / 1e6, "whole process MB": peak[0] / 1e6}]


def _anonymous_bytes() -> int:
    """Resident memory of this process that is no file (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def show(rows: list[dict[str, object]], title: str) -> None:
    """Print a table; ratios are to the values-only sort where it was measured."""
    floor = next(
        (row["seconds"] for row in rows if "sort" in str(row.get("name")) and "floor" in str(row.get("name"))), None
    )
    table = Table(title=title)
    for column in [*rows[0], *(["of the sort"] if floor else [])]:
        table.add_column(column, no_wrap=True)
    for row in rows:
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
        table.add_row(*cells, *([f"{row['seconds'] / floor:.1f}x"] if floor and "seconds" in row else []))
    Console(width=120).print(table)


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=8000)
    parser.add_argument("--neurons", type=int, default=46_080)
    parser.add_argument("--relations", type=int, default=12)
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--growth", action="store_true", help="how time grows, instead of the contenders")
    parser.add_argument("--mapped", type=Path, metavar="FOLDER", help="memory and time with scores in a file there")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    size = (options.examples, options.neurons, options.relations)
    if options.mapped:
        rows = mapped(*size, options.mapped)
    elif options.growth:
        size = (options.examples, options.neurons // 8, options.relations)
        rows = growth(*size, options.repeats)
    else:
        rows = measure(make_data(*size, dtype=options.dtype, device=options.device), options.repeats)
    if options.device == "cpu":
        Console().print("On the CPU. The fused kernel was not measured: that needs a GPU and --device cuda.")
    show(rows, f"{size[0]:,} examples x {size[1]:,} neurons x {size[2]} relations, {options.dtype}, {machine}")
    if options.out:
        about = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
        record = {"size": size, "dtype": options.dtype, "machine": machine, "versions": about, "rows": rows}
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
