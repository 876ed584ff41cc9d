"""What this package does on a GPU, in at most six minutes: average precision, collection, and the paper's grid at 7B.

python -m benchmarks.gpu --out docs/results/gpu.json

The model has Llama-2-7B's shape and random weights in bfloat16, made on the GPU. Its answers are meaningless, its work
is not: 12 relations' sets of 3,000 neurons, 10 seeds, 850 prompts, each under 13 conditions. `--small` runs the same on
any machine in half a minute, to try the script.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers.initialization import no_init_weights

import relation_neurons as rn
from benchmarks.average_precision_contenders import Data, make_data, ours, torch_path
from benchmarks.llama_2_7b import LLAMA_2_7B, _tokenizer
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import run_batches
from relation_neurons.models.hooked_model import forward, neuron_space
from relation_neurons.models.types import HookedModel
from relation_neurons.models.wrapping import hook_llama
from relation_neurons.neurons.controls import random_sets
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode
from relation_neurons.storage.fingerprint import versions

SMALL = {"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4}
N_RELATIONS = 12
REPEATS = 3


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--prompts", type=int, default=850)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = time.perf_counter()
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}
    found["bf16 matrix TFLOP/s"] = matrix_rate(device, 512 if options.small else 8192)
    found["average precision"] = average_precision_rows(device, options.small)
    model = random_llama(device, SMALL if options.small else {})
    found["parameters outside embeddings"] = weights = n_weights(model)
    n = min(options.prompts, 24) if options.small else options.prompts
    prompts = paper_prompts(n)
    found["collection"] = collection(model, prompts)
    for name, generate, seeds in (("grid", False, options.seeds), ("grid, whole answers", True, 1)):
        found[name] = grid(model, prompts, 1 if options.small else seeds, generate=generate)
        rate = found[name]["tokens/s"] * 2 * weights / 1e12
        found[name] |= {"TFLOP/s": rate, "share of the matrix rate": rate / found["bf16 matrix TFLOP/s"]}
        print(name, json.dumps(found[name]), flush=True)
    found |= {"peak GB": peak_gb(device), "seconds in all": time.perf_counter() - started, "versions": versions()}
    show(found)
    if options.out:
        options.out.write_text(json.dumps(_rounded(found), indent=2) + "\n")


def matrix_rate(device: str, size: int) -> float:
    """TFLOP/s of one bfloat16 matrix product of random numbers."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: left @ right, repeats=10) / 1e12


def average_precision_rows(device: str, small: bool) -> list[dict[str, Any]]:
    """Seconds for all neurons of Llama-2-7B on 10,200 prompts; slow ones on a part, scaled up."""
    n_examples, n_neurons = (400, 2000) if small else (850 * N_RELATIONS, 835_584)
    ways: list[tuple[str, Callable[[Data], Any], str, str, int]] = [
        ("by default, float32", ours, device, "float32", 1),
        ("by default, float16", ours, device, "float16", 1),
        ("torch, float32", torch_path, device, "float32", 20),
        ("numpy and numba on the CPU, float32", ours, "cpu", "float32", 100),
    ]
    rows: list[dict[str, Any]] = []
    for name, way, where, dtype, part in ways:
        data = make_data(n_examples, n_neurons // part, N_RELATIONS, dtype=dtype, device=where)
        way(data)
        rows.append({"way": name, "seconds": seconds_of(partial(way, data)) * part, "measured on": n_neurons // part})
        print(rows[-1], flush=True)
        del data
    return rows


def random_llama(device: str, changes: dict[str, int]) -> HookedModel:
    """A Llama-2-7B with random weights as a `HookedTransformer`."""
    shape = {**LLAMA_2_7B, **changes}
    if changes:
        shape["num_key_value_heads"] = shape["num_attention_heads"]
    torch.manual_seed(0)
    with no_init_weights(), torch.device(device):
        llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).to(torch.bfloat16)
    with torch.no_grad():
        for name, weight in llama.named_parameters():
            weight.fill_(1.0) if "norm" in name else weight.normal_(0, 0.02)
    return hook_llama(llama.eval(), _tokenizer(), name="llama-2-7b-random")


def n_weights(model: HookedModel) -> int:
    """Weights that every token is multiplied by, those of the embeddings aside."""
    return sum(weight.numel() for name, weight in model.named_parameters() if "embed" not in name and weight.ndim > 1)


def paper_prompts(n: int) -> tuple[Prompt, ...]:
    """So many prompts of twelve shipped relations, evenly."""
    relations = rn.load_relations("shipped")[:N_RELATIONS]
    config = rn.PromptConfig(shots=0, n_detection=10, n_evaluation=-(-n // N_RELATIONS) + 10, templates="all")
    by_relation = {
        relation.name: [one for one in rn.make_prompts(relations, config).evaluation if one.relation == relation.name]
        for relation in relations
    }
    longest = max(map(len, by_relation.values()))
    dealt = [some[turn] for turn in range(longest) for some in by_relation.values() if turn < len(some)]
    return tuple(dealt[:n])


def collection(model: HookedModel, prompts: tuple[Prompt, ...]) -> dict[str, float]:
    """Prompts a second of plain passes over all prompts, and of those that pool every neuron at site `ffn`."""
    tasks = [Task(one) for one in encode(model, prompts)]

    def read(batch: Any, cache: Any) -> list[None]:
        forward(model, *batch.read(), cache, keep=0)
        return [None] * len(batch.rows)

    plain = seconds_of(lambda: run_batches(model, tasks, read))
    pooled = seconds_of(lambda: rn.collect_activations(model, prompts, site="ffn", keep_on=model.cfg.device))
    return {"plain prompts/s": len(prompts) / plain, "pooled prompts/s": len(prompts) / pooled, "ratio": pooled / plain}


def grid(model: HookedModel, prompts: tuple[Prompt, ...], n_seeds: int, *, generate: bool) -> dict[str, float]:
    """Each prompt under 13 conditions, clean and with one of twelve sets of 3,000 neurons ablated, for every seed."""
    space, n_tokens = neuron_space(model, "ffn"), sum(len(one.ids) for one in encode(model, prompts))
    target = NeuronSet(tuple(random_sets_of(model, min(3000, len(space) // 40))), "target")
    sets = [random_sets(target, space, n=N_RELATIONS, seed=seed, disjoint=False) for seed in range(n_seeds)]
    conditions = [
        rn.Condition(f"{seed} {number}", prompts, () if number == 0 else (rn.Intervention(some[number - 1]),))
        for seed, some in enumerate(sets)
        for number in range(N_RELATIONS + 1)
    ]
    rn.recall_under(model, conditions[:2], generate=generate)
    seconds = seconds_of(lambda: rn.recall_under(model, conditions, generate=generate), repeats=1)
    answers = len(conditions) * len(prompts)
    return {
        "answers": answers,
        "seconds": seconds,
        "answers/s": answers / seconds,
        "tokens/s": n_tokens * len(conditions) / seconds,  # of the prompts; those of the answers are not counted
    }


def random_sets_of(model: HookedModel, k: int) -> list[Any]:
    """The first k neurons of a drawn order."""
    space = neuron_space(model, "ffn")
    drawn = torch.randperm(len(space), generator=torch.Generator().manual_seed(0))[:k].numpy()
    sites, layers, indices = space.locate(drawn)
    return [rn.Neuron(*place) for place in zip(sites, layers.tolist(), indices.tolist(), strict=True)]


def seconds_of(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median of several runs, each until the GPU is done."""
    times = []
    for _ in range(repeats):
        _wait()
        begun = time.perf_counter()
        work()
        _wait()
        times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_gb(device: str) -> float:
    """The most memory that PyTorch had of the GPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else float("nan")


def show(found: dict[str, Any]) -> None:
    """Print a table."""
    table = Table("what", "figure", title=str(found["device"]))
    for name, value in found.items():
        if name == "average precision":
            for row in value:
                table.add_row(f"average precision: {row['way']}", f"{row['seconds']:.3g} s")
        elif isinstance(value, dict) and name != "versions":
            for part, number in value.items():
                table.add_row(f"{name}: {part}", f"{number:,.4g}")
        elif isinstance(value, int | float):
            table.add_row(name, f"{value:,.4g}")
    Console(width=100).print(table)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
