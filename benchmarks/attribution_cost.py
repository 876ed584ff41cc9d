"""What `rn.attribute` costs beside the activation pass: processor time and peak memory.

python benchmarks/attribution_cost.py --out attribution_cost.json

Every pass is made in a process of its own, which has loaded the model, so that the peak is its own; activations and
gradients take turns, so that both meet the same load of the machine, and the median over the repeats is given.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

import relation_neurons as rn
from relation_neurons.experiments.registry import DEMO_RELATIONS
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.storage.fingerprint import versions

READS = ("activations", "gradient", "relp")
MB = 2**20


def cost(model: str, what: str, n: int, seed: int, shots: int) -> dict[str, float]:
    """Processor seconds and peak memory of one pass, in this process."""
    torch.set_num_threads(1)
    loaded = rn.load_model(model, device="cpu")
    every = rn.make_prompts(rn.load_relations(*DEMO_RELATIONS), rn.PromptConfig(shots=shots)).detection
    prompts = [every[place] for place in np.random.default_rng(seed).permutation(len(every))[:n]]
    read(loaded, prompts[:4], what)  # whatever is set up once
    started = time.process_time()
    read(loaded, prompts, what)
    seconds = time.process_time() - started
    return {"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB}


def read(model: object, prompts: list[Prompt], what: str) -> None:
    """One pass."""
    if what == "activations":
        rn.collect_activations(model, prompts)
    else:
        rn.attribute(model, prompts, method=what)


def main() -> None:
    """Measure every pass without and with examples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=160)
    parser.add_argument("--shots", type=int, nargs="*", default=[0, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    costs: dict[str, dict[str, object]] = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for shots in options.shots:
            rounds = []
            for _ in range(options.repeats):
                jobs = {what: (options.model, what, options.prompts, options.seed, shots) for what in READS}
                rounds.append({what: pool.apply(cost, job) for what, job in jobs.items()})
                print(shots, rounds[-1], flush=True)
            costs[f"{shots} shots"] = table = {"rounds": rounds}
            for key in ("seconds", "peak_mb"):
                for what in READS:
                    ratios = [one[what][key] / one["activations"][key] for one in rounds]
                    table[f"{what} {key}"] = median(one[what][key] for one in rounds)
                    table[f"{what} {key} / activations"] = median(ratios)
    asked = {key: value for key, value in vars(options).items() if key != "out"}
    result = {**asked, "site": "post", "costs": costs, "versions": versions()}
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
