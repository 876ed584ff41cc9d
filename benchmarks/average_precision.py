"""Speed of average precision: this package, other implementations, and hardware limits.

All contenders run on the same data in one process, several times. The table gives medians and ratios
to the values-only sort. Slow contenders run on fewer neurons (column `neurons`), and their time is
extrapolated.

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
import warnings
from pathlib import Path

import numpy as np
import torch
from average_precision_contenders import CONTENDERS, Data, make_data, ours, scikit_learn_loop, seconds_of
from rich.console import Console
from rich.table import Table


def measure(data: Data, repeats: int) -> list[dict[str, object]]:
    """Median times of all contenders, and their largest error compared with scikit-learn."""
    rows = []
    for name, (function, most) in CONTENDERS.items():
        part = Data(data.scores[:, :most].contiguous(), data.labels, data.mask)
        n_neurons = part.scores.shape[1]
        try:
            result = function(Data(part.scores[:, :64].contiguous(), *part[1:]))  # warm up
        except ImportError as error:
            rows.append({"name": name, "error": str(error)})
            continue
        expected = None if result is None else scikit_learn_loop(_first_neurons(part, result))
        error = None if result is None else float(np.abs(result - expected).max())
        times = [seconds_of(function, part) for _ in range(repeats if n_neurons > 100 else 1)]
        scale = data.scores.shape[1] / n_neurons
        rows.append({"name": name, "neurons": n_neurons, "seconds": statistics.median(times) * scale, "error": error})
    return rows


def _first_neurons(data: Data, result: np.ndarray) -> Data:
    return Data(data.scores[:, : result.shape[1]], data.labels, data.mask)


def growth(n_examples: int, n_neurons: int, n_relations: int, repeats: int) -> list[dict[str, object]]:
    """Time of this package for twice as many neurons, examples or relations."""
    sizes = [(n_examples, n_neurons, n_relations)]
    sizes += [(n_examples, n_neurons * 2, n_relations), (n_examples * 2, n_neurons, n_relations)]
    sizes += [(n_examples, n_neurons, n_relations * 2), (n_examples, n_neurons, n_relations * 4)]
    rows = []
    for size in sizes:
        data = make_data(*size)
        ours(Data(data.scores[:, :64].contiguous(), *data[1:]))
        seconds = statistics.median(seconds_of(ours, data) for _ in range(repeats))
        row = {"examples": size[0], "neurons": size[1], "relations": size[2], "seconds": seconds}
        rows.append({**row, "ratio": seconds / rows[0]["seconds"] if rows else 1.0})
    return rows


def mapped(n_examples: int, n_neurons: int, n_relations: int, folder: Path) -> list[dict[str, object]]:
    """One pass over float16 scores in a memory-mapped file, and the peak memory outside the file."""
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
        seconds = seconds_of(ours, Data(scores, small.labels, small.mask))
        stop.set()
        watcher.join()
    row = {"neurons": n_neurons, "seconds": seconds, "file MB": size * 2 / 1e6}
    return [{**row, "extra MB": (peak[0] - before) / 1e6, "whole process MB": peak[0] / 1e6}]


def _anonymous_bytes() -> int:
    """Anonymous resident memory of this process in bytes (Linux only)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def show(rows: list[dict[str, object]], title: str) -> None:
    """Print a table, with ratios to the values-only sort if it was measured."""
    floor = next(
        (row["seconds"] for row in rows if "sort" in str(row.get("name")) and "floor" in str(row.get("name"))), None
    )
    table = Table(title=title)
    for column in [*rows[0], *(["ratio to sort"] if floor else [])]:
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
    parser.add_argument("--growth", action="store_true", help="measure scaling instead of contenders")
    parser.add_argument("--mapped", type=Path, metavar="FOLDER", help="time and memory with scores in a file")
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
        Console().print("Measured on the CPU. The fused kernel needs a GPU and --device cuda.")
    show(rows, f"{size[0]:,} examples x {size[1]:,} neurons x {size[2]} relations, {options.dtype}, {machine}")
    if options.out:
        about = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
        record = {"size": size, "dtype": options.dtype, "machine": machine, "versions": about, "rows": rows}
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
