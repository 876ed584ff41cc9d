"""The same run over and over in one process: does memory stay flat?

python benchmarks/soak.py --times 10 --demo --out docs/results/soak.json

After each run two numbers: what the process holds, and what it holds once the C library has given back what it keeps
for later. A leak grows in both; pieces of freed memory only in the first.
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
    """Run, and write what the process held after each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--demo", action="store_true", help="the run of `make demo`, not a smaller one")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    small = {"relations": RELATIONS, "n_controls": 2, "prompts": rn.PromptConfig(n_evaluation=10, n_detection=20)}
    config = RUN if given.demo else replace(RUN, **small)
    held: dict[str, list[int]] = {"rss": [], "rss_after_trim": []}
    for number in range(given.times):
        with tempfile.TemporaryDirectory() as folder:
            run(config, Path(folder) / "run")
        gc.collect()
        held["rss"].append(psutil.Process().memory_info().rss)
        ctypes.CDLL(None).malloc_trim(0)
        held["rss_after_trim"].append(psutil.Process().memory_info().rss)
        print(number + 1, *(f"{name} {values[-1] / 2**20:.0f} MiB" for name, values in held.items()), flush=True)
    growth = {name: max(values[1:]) / values[1] - 1 for name, values in held.items() if len(values) > 1}
    found = {"growth_after_the_second": growth, "threads": torch.get_num_threads(), "versions": versions()}
    if given.out:
        given.out.write_text(json.dumps({"config": asdict(config), **held, **found}, indent=1) + "\n")
    print("Most after the second run, of what it held then:", *(f"{name} {one:+.1%}" for name, one in growth.items()))


if __name__ == "__main__":
    main()
