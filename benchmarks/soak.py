"""The same run over and over in one process: does memory stay flat?

python benchmarks/soak.py --times 10 --out docs/results/soak.json
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from pathlib import Path

import psutil
import torch

import relation_neurons as rn
from relation_neurons.pipeline import RunConfig, run
from relation_neurons.runs import versions

RELATIONS = ("country_capital", "country_language", "person_occupation")


def main() -> None:
    """Run, and write what the process held after each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--relations", nargs="+", default=RELATIONS, help="`demo` are those of `run`")
    parser.add_argument("--n-evaluation", type=int, default=10)
    parser.add_argument("--n-detection", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    chosen = {} if given.relations == ["demo"] else {"relations": tuple(given.relations)}
    prompts = rn.PromptConfig(n_evaluation=given.n_evaluation, n_detection=given.n_detection)
    config = RunConfig(model=given.model, n_controls=2, prompts=prompts, **chosen)
    held = []
    for _ in range(given.times):
        with tempfile.TemporaryDirectory() as folder:
            run(config, Path(folder) / "run")
        gc.collect()
        held.append(psutil.Process().memory_info().rss)
        print(f"{len(held)}: {held[-1] / 2**20:.0f} MiB, {held[-1] / held[0] - 1:+.1%}")
    growth = max(held[1:]) / held[1] - 1 if len(held) > 1 else 0.0
    found = {"rss": held, "growth_after_the_second": growth, "threads": torch.get_num_threads(), "versions": versions()}
    if given.out:
        given.out.write_text(json.dumps({"config": vars(given) | {"out": None}, **found}, indent=1) + "\n")
    print(f"Most after the second run: {growth:+.1%} of what it held then")


if __name__ == "__main__":
    main()
