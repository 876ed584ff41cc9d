"""Measure contenders in turn: time, memory and agreement."""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch

import relation_neurons as rn

TOLERANCE = 1e-3
"""Largest difference between log-probabilities, in nats."""

Row = dict[str, object]


@dataclass(frozen=True)
class Bench:
    """Common inputs: a model, 64 prompts by number of few-shot examples, and the number of repeats."""

    model: Any
    prompts: Mapping[int, Sequence[rn.Prompt]]
    repeats: int

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return torch.device(self.model.cfg.device)


@dataclass
class Timed:
    """Measurements of a contender: seconds per turn, peak memory growth in bytes, and last result."""

    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    result: Any = None


def compare(
    bench: Bench, contenders: Mapping[str, Callable[[], Any]], patience: float = float("inf")
) -> dict[str, Timed]:
    """Run all contenders in turn, repeatedly, until `patience` seconds have passed."""
    timings = {name: Timed() for name in contenders}
    begun = time.perf_counter()
    for _ in range(bench.repeats):
        for name, function in contenders.items():
            timed = timings[name]
            timed.result = None
            with growth(bench.device) as peak:
                start = time.perf_counter()
                timed.result = function()
                synchronise(bench.device)
                timed.seconds.append(time.perf_counter() - start)
            timed.peak = max(timed.peak, *peak)
        if time.perf_counter() - begun > patience:
            break
    return timings


def table(timings: Mapping[str, Timed], scales: Mapping[str, float] | None = None) -> list[Row]:
    """A row per contender; `scales` are factors for those that ran on a sample."""
    scaled = {name: [s * (scales or {}).get(name, 1.0) for s in timed.seconds] for name, timed in timings.items()}
    first = next(iter(scaled.values()))
    return [
        {
            "contender": name,
            "ratio": statistics.median(own / base for own, base in zip(seconds, first, strict=True)),
            "seconds": statistics.median(seconds),
            "peak MB": timings[name].peak / 1e6,
            "turns": len(seconds),
        }
        for name, seconds in scaled.items()
    ]


@contextlib.contextmanager
def growth(device: torch.device) -> Iterator[list[int]]:
    """A list that receives the peak growth of allocated (GPU) or resident (CPU, sampled) memory."""
    peak = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.append(torch.cuda.max_memory_allocated(device) - before)
        return
    trim()
    process, stop = psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def trim() -> None:
    """Return freed memory to the system if possible, so that later growth becomes visible."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def must_agree(expected: pd.DataFrame, actual: pd.DataFrame, name: str) -> None:
    """Raise an error if answers or log-probabilities differ."""
    if list(expected["correct_prefix"]) != list(actual["correct_prefix"]):
        raise RuntimeError(f"'{name}' gives different answers")
    difference = np.abs(expected["logprob"].to_numpy() - actual["logprob"].to_numpy()).max()
    if not difference <= TOLERANCE:
        raise RuntimeError(f"'{name}' gives log-probabilities that differ by {difference:.1e}")
