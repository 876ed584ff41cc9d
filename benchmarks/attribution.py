"""Estimates of what single neurons contribute against their true ablation, and what they cost.

python benchmarks/attribution.py --neurons 2000 --prompts 100
python benchmarks/attribution.py --neurons 80 --prompts 40 --path-prompts 3 --out docs/results/attribution.json

Half of the neurons are drawn at random from all; the others write most, by mean |activation| times the norm of their
output row. Each is ablated alone on every prompt. Correlations are over pairs of a neuron and a prompt, and over
neurons of the means over prompts, which scorers use. The time and the peak memory of a pass are taken in a process of
its own, which has loaded the model.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr

import relation_neurons as rn
from relation_neurons.experiments.registry import DEMO_RELATIONS
from relation_neurons.models.logit_attribution import output_norms
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.storage.fingerprint import versions

SITE = "post"
GROUPS = ("random", "largest writes")
MB = 2**20


def prompts_of(n: int, seed: int, shots: int) -> list[Prompt]:
    """Detection prompts of the demo's relations, drawn at random."""
    every = rn.make_prompts(rn.load_relations(*DEMO_RELATIONS), rn.PromptConfig(shots=shots)).detection
    return [every[place] for place in np.random.default_rng(seed).permutation(len(every))[:n]]


def chosen_neurons(model: object, prompts: Sequence[Prompt], n: int, seed: int) -> tuple[list[rn.Neuron], list[str]]:
    """Neurons of both groups, and the group of each."""
    activations = rn.collect_activations(model, prompts, site=SITE)
    space, norms = activations.space, [output_norms(model, SITE, layer) for layer in range(model.cfg.n_layers)]
    writes = activations.values.abs().mean(dim=0) * torch.cat(norms)
    largest = writes.argsort(descending=True)[: n // 2].numpy()
    rest = np.setdiff1d(np.arange(len(space)), largest)
    flat = np.concatenate([np.random.default_rng(seed).choice(rest, n - n // 2, replace=False), largest])
    sites, layers, indices = space.locate(flat)
    neurons = [rn.Neuron(*place) for place in zip(sites, layers.tolist(), indices.tolist(), strict=True)]
    return neurons, [GROUPS[0]] * (n - n // 2) + [GROUPS[1]] * (n // 2)


def agreement(estimate: np.ndarray, exact: np.ndarray, groups: Sequence[str]) -> list[dict[str, object]]:
    """Correlations over pairs and over neurons, of all neurons and of each group."""
    rows: list[dict[str, object]] = []
    for group in ("all", *GROUPS):
        kept = np.array([group in ("all", one) for one in groups])
        for over, (one, two) in {
            "pairs": (estimate[:, kept].ravel(), exact[:, kept].ravel()),
            "neurons": (estimate[:, kept].mean(axis=0), exact[:, kept].mean(axis=0)),
        }.items():
            row = {"group": group, "over": over, "n": len(one), "pearson": float(pearsonr(one, two).statistic)}
            row |= {"spearman": float(spearmanr(one, two).statistic), "rms_exact": float(np.sqrt((two**2).mean()))}
            rows.append(row | {"rms_error": float(np.sqrt(((one - two) ** 2).mean()))})
    return rows


def compare(options: argparse.Namespace) -> dict[str, object]:
    """Every method beside the true ablation, with processor seconds."""
    model, found = rn.load_model(options.model, device="cpu"), {}
    prompts = prompts_of(options.prompts, options.seed, options.shots)
    neurons, groups = chosen_neurons(model, prompts, options.neurons, options.seed)
    seconds, rows = {}, []

    def timed(method: str, some: Sequence[Prompt], **more: object) -> np.ndarray:
        started = time.process_time()
        result = rn.attribute(model, some, site=SITE, method=method, **more)
        seconds[method] = {"seconds": time.process_time() - started, "n_prompts": len(some)}
        print(method, seconds[method], flush=True)
        return result.values[:, result.space.flatten(neurons)].double().numpy()

    for method in ("gradient", "relp"):
        found[method] = timed(method, prompts)
    if options.path_prompts:
        found["integrated_gradients"] = timed("integrated_gradients", prompts[: options.path_prompts])
    exact = timed("exact", prompts, neurons=neurons)
    few = options.path_prompts or len(prompts)
    for method, estimate in found.items():
        rows += [{"method": method} | row for row in agreement(estimate, exact[: len(estimate)], groups)]
        if method != "integrated_gradients" and few < len(prompts):
            same = agreement(estimate[:few], exact[:few], groups)
            rows += [{"method": f"{method}, the same {few} prompts"} | row for row in same]
    return {"seconds": seconds, "agreement": rows}


def cost(model: str, what: str, n: int, seed: int, shots: int) -> dict[str, float]:
    """Processor seconds and peak memory of one pass, in this process."""
    torch.set_num_threads(1)
    loaded = rn.load_model(model, device="cpu")
    prompts = prompts_of(n, seed, shots)
    read = {"activations": rn.collect_activations, "gradient": rn.attribute, "relp": _relevance}[what]
    read(loaded, prompts[:4])  # whatever is set up once
    started = time.process_time()
    read(loaded, prompts)
    seconds = time.process_time() - started
    return {"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB}


def _relevance(model: object, prompts: Sequence[Prompt]) -> rn.Attributions:
    return rn.attribute(model, prompts, method="relp")


def main() -> None:
    """Compare the methods and measure costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--neurons", type=int, default=2000)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--path-prompts", type=int, default=0, help="prompts for integrated gradients; they take long")
    parser.add_argument("--cost-prompts", type=int, default=160, help="0 leaves costs out")
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    costs: dict[str, dict[str, dict[str, float]]] = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for shots in (0, 2) if options.cost_prompts else ():
            for what in ("activations", "gradient", "relp"):
                job = (options.model, what, options.cost_prompts, options.seed, shots)
                one = costs.setdefault(f"{shots} shots", {})[what] = pool.apply(cost, job)
                print(f"{shots} shots", what, one, flush=True)
    for table in costs.values():
        for what in ("gradient", "relp"):
            table[f"{what} / activations"] = {key: table[what][key] / table["activations"][key] for key in table[what]}
    asked = {key: value for key, value in vars(options).items() if key != "out"}
    result = {**asked, "site": SITE, "costs": costs, **compare(options), "versions": versions()}
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
