"""How well estimates of what single neurons contribute agree with their true ablation.

python benchmarks/attribution_agreement.py runs/agreement --neurons 2000 --prompts 100
python benchmarks/attribution_agreement.py runs/agreement --methods integrated_gradients --some-prompts 10

Half of the neurons are drawn at random from all; the other half are those of the rest that write most, by mean
|activation| times the norm of their output row. Each is ablated alone on every prompt. Correlations are over pairs of a
neuron and a prompt, and over neurons of the means over prompts, which scorers use. Intervals resample neurons, with
all their prompts. Neurons are ablated in parts, in random order; what is in the folder is not computed again, and with
--collect the table is made of the parts that are there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

import relation_neurons as rn
from relation_neurons.experiments.registry import DEMO_RELATIONS
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.logit_attribution import output_norms
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.storage.fingerprint import versions

SITE = "post"
GROUPS = ("random", "largest writes")
PART = 50
"""Neurons that are ablated and stored together."""
N_RESAMPLES = 1000


def prompts_of(n: int, seed: int, shots: int = 0) -> list[Prompt]:
    """Detection prompts of the demo's relations, drawn at random."""
    every = rn.make_prompts(rn.load_relations(*DEMO_RELATIONS), rn.PromptConfig(shots=shots)).detection
    return [every[place] for place in np.random.default_rng(seed).permutation(len(every))[:n]]


def chosen_neurons(model: object, prompts: Sequence[Prompt], n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of neurons of both groups in random order, and the group of each."""
    activations = rn.collect_activations(model, prompts, site=SITE)
    norms = [output_norms(model, SITE, layer) for layer in range(model.cfg.n_layers)]
    writes = (activations.values.abs().mean(dim=0) * torch.cat(norms)).numpy()
    generator = np.random.default_rng(seed)
    drawn = generator.choice(len(writes), n - n // 2, replace=False)
    writes[drawn] = 0
    places = np.concatenate([drawn, np.argsort(-writes, kind="stable")[: n // 2]])
    order = generator.permutation(n)
    return places[order], np.repeat([0, 1], [n - n // 2, n // 2])[order]


def ablate_parts(model: object, prompts: Sequence[Prompt], places: np.ndarray, folder: Path) -> None:
    """Ablate every neuron alone, part by part, and store each part with its processor seconds."""
    space = neuron_space(model, SITE)
    for start in range(0, len(places), PART):
        file, some = folder / f"exact-{start:05}.npz", places[start : start + PART]
        if not file.exists():
            sites, layers, indices = space.locate(some)
            neurons = [rn.Neuron(*place) for place in zip(sites, layers.tolist(), indices.tolist(), strict=True)]
            started = time.process_time()
            found = rn.attribute(model, prompts, site=SITE, method="exact", neurons=neurons)
            save(file, values=found.values[:, some].numpy(), seconds=time.process_time() - started)
            print(file.name, flush=True)


def save(file: Path, **arrays: object) -> None:
    """Store arrays, so that a file is there whole or not at all."""
    part = file.with_suffix(".part.npz")
    np.savez(part, **arrays)
    part.rename(file)


def estimated(
    model: object, prompts: Sequence[Prompt], places: np.ndarray, method: str, folder: Path
) -> tuple[np.ndarray, float]:
    """Estimates for the chosen neurons, kept in the folder, and their processor seconds."""
    file = folder / f"{method}-{len(prompts)}.npz"
    if not file.exists():
        started = time.process_time()
        values = rn.attribute(model, prompts, site=SITE, method=method).values[:, places]
        save(file, values=values.numpy(), seconds=time.process_time() - started)
        print(file.name, flush=True)
    kept = np.load(file)
    return kept["values"].astype(float), float(kept["seconds"])


def agreement(estimate: np.ndarray, exact: np.ndarray, groups: np.ndarray) -> Iterator[dict[str, object]]:
    """Correlations over pairs and over neurons, of each group, with intervals over neurons."""
    for number, group in enumerate(GROUPS):
        both = estimate[:, groups == number], exact[:, groups == number]
        for over, (one, two) in {"pairs": both, "neurons": tuple(part.mean(axis=0)[None] for part in both)}.items():
            row: dict[str, object] = {"group": group, "over": over, "n": one.size}
            for name, ranked in (("pearson", False), ("spearman", True)):
                low, high = resampled(one, two, ranked)
                row |= {name: correlation(one, two, ranked), f"{name}_low": low, f"{name}_high": high}
            row |= {"rms_exact": float(np.sqrt((two**2).mean()))}
            yield row | {"rms_error": float(np.sqrt(((one - two) ** 2).mean()))}


def as_markdown(rows: Sequence[dict[str, object]]) -> str:
    """The rows of the table in the results."""
    return "\n".join(
        "| `{method}` | {group} | {over} | {n:,} | {pearson:.2f} ({pearson_low:.2f} to {pearson_high:.2f}) | "
        "{spearman:.2f} ({spearman_low:.2f} to {spearman_high:.2f}) | {rms_error:.3f} | {rms_exact:.3f} |".format(**row)
        for row in rows
    )


def correlation(one: np.ndarray, two: np.ndarray, ranked: bool) -> float:
    """Pearson's or, of ranks, Spearman's."""
    first, second = (rankdata(part.ravel()) if ranked else part.ravel() for part in (one, two))
    return float(np.corrcoef(first, second)[0, 1])


def resampled(one: np.ndarray, two: np.ndarray, ranked: bool) -> tuple[float, float]:
    """A 95 % interval from neurons drawn with replacement."""
    generator, n = np.random.default_rng(0), one.shape[1]
    draws = (generator.integers(n, size=n) for _ in range(N_RESAMPLES))
    low, high = np.quantile([correlation(one[:, draw], two[:, draw], ranked) for draw in draws], [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Ablate, estimate, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--neurons", type=int, default=2000)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--methods", nargs="*", default=["gradient", "relp"])
    parser.add_argument("--some-prompts", type=int, help="only the first so many prompts for the estimates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--collect", action="store_true", help="ablate nothing more")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    model = rn.load_model(options.model, device="cpu")
    prompts = prompts_of(options.prompts, options.seed)
    places, groups = chosen_neurons(model, prompts, options.neurons, options.seed)
    if not options.collect:
        ablate_parts(model, prompts, places, options.folder)
    some, rows, seconds = prompts[: options.some_prompts], [], {}
    parts = {int(file.stem[6:]): np.load(file) for file in sorted(options.folder.glob("exact-?????.npz"))}
    done = np.concatenate([np.arange(start, min(start + PART, len(places))) for start in parts])
    exact = np.concatenate([part["values"] for part in parts.values()], axis=1)[: len(some)].astype(float)
    seconds["exact"] = {"seconds": sum(float(part["seconds"]) for part in parts.values()), "n_prompts": len(prompts)}
    for method in options.methods:
        found, took = estimated(model, some, places, method, options.folder)
        seconds[method] = {"seconds": took, "n_prompts": len(some)}
        rows += [{"method": method} | row for row in agreement(found[:, done], exact, groups[done])]
    asked = {"model": options.model, "neurons": len(done), "prompts": len(prompts), "seed": options.seed, "site": SITE}
    result = {**asked, "estimated_prompts": len(some), "seconds": seconds, "agreement": rows, "versions": versions()}
    print(json.dumps(result, indent=1), as_markdown(rows), sep="\n")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
