"""Repeat the same run in one process to detect memory leaks.

python benchmarks/soak.py --times 10 --demo --out docs/results/soak.json

Records the resident memory after each run, before and after the C library returns freed memory to the
system. A leak grows in both; fragmentation only in the first.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import torch

import relation_neurons as rn
from relation_neurons.experiments.registry import RUN
from relation_neurons.experiments.runner import run
from relation_neurons.storage.fingerprint import versions

RELATIONS = ("country_capital", "country_language", "person_occupation")


def main() -> None:
    """Run repeatedly, and write the memory after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--demo", action="store_true", help="the run of `make demo` instead of a smaller one")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    small = {"relations": RELATIONS, "n_controls": 2, "prompts": rn.PromptConfig(n_evaluation=10, n_detection=20)}
    config = RUN if options.demo else replace(RUN, **small)
    memory: dict[str, list[int]] = {"rss": [], "rss_after_trim": []}
    for number in range(options.times):
        with tempfile.TemporaryDirectory() as folder:
            run(config, Path(folder) / "run")
        gc.collect()
        memory["rss"].append(psutil.Process().memory_info().rss)
        ctypes.CDLL(None).malloc_trim(0)
        memory["rss_after_trim"].append(psutil.Process().memory_info().rss)
        print(number + 1, *(f"{name} {values[-1] / 2**20:.0f} MiB" for name, values in memory.items()), flush=True)
    growth = {name: max(values[1:]) / values[1] - 1 for name, values in memory.items() if len(values) > 1}
    summary = {"growth_after_the_second": growth, "threads": torch.get_num_threads(), "versions": versions()}
    if options.out:
        options.out.write_text(json.dumps({"config": asdict(config), **memory, **summary}, indent=1) + "\n")
    print("Largest growth after the second run:", *(f"{name} {share:+.1%}" for name, share in growth.items()))


if __name__ == "__main__":
    main()
