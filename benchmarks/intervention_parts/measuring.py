"""Contenders in turn: seconds, memory, and whether they agree."""

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
    """What all parts need: a model, 64 prompts for each number of solved examples, and how often to measure."""

    model: Any
    prompts: Mapping[int, Sequence[rn.Prompt]]
    repeats: int

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.model.cfg.device)


@dataclass
class Timed:
    """One contender: seconds of each turn, the largest growth of memory in bytes, and what it returned last."""

    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    result: Any = None


def compare(
    bench: Bench, contenders: Mapping[str, Callable[[], Any]], patience: float = float("inf")
) -> dict[str, Timed]:
    """Run all contenders in turn, as often as wanted or until so many seconds are spent."""
    found = {name: Timed() for name in contenders}
    begun = time.perf_counter()
    for _ in range(bench.repeats):
        for name, function in contenders.items():
            one = found[name]
            one.result = None
            with growth(bench.device) as peak:
                start = time.perf_counter()
                one.result = function()
                synchronise(bench.device)
                one.seconds.append(time.perf_counter() - start)
            one.peak = max(one.peak, *peak)
        if time.perf_counter() - begun > patience:
            break
    return found


def table(found: Mapping[str, Timed], scales: Mapping[str, float] | None = None) -> list[Row]:
    """A row for each contender; `scales` are factors for those that were run on a sample."""
    scaled = {name: [s * (scales or {}).get(name, 1.0) for s in one.seconds] for name, one in found.items()}
    first = next(iter(scaled.values()))
    return [
        {
            "contender": name,
            "ratio": statistics.median(own / base for own, base in zip(seconds, first, strict=True)),
            "seconds": statistics.median(seconds),
            "peak MB": found[name].peak / 1e6,
            "turns": len(seconds),
        }
        for name, seconds in scaled.items()
    ]


@contextlib.contextmanager
def growth(device: torch.device) -> Iterator[list[int]]:
    """A list that gets the largest growth of allocated (GPU) or resident (CPU, sampled) memory in this block."""
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
    """Hand freed memory back where the C library can, so that growth is not hidden by what earlier contenders left."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def must_agree(expected: pd.DataFrame, found: pd.DataFrame, who: str) -> None:
    """Raise if verdicts or log-probabilities differ."""
    if list(expected["correct_prefix"]) != list(found["correct_prefix"]):
        raise RuntimeError(f"'{who}' gives other verdicts")
    difference = np.abs(expected["logprob"].to_numpy() - found["logprob"].to_numpy()).max()
    if not difference <= TOLERANCE:
        raise RuntimeError(f"'{who}' gives log-probabilities that differ by {difference:.1e}")
