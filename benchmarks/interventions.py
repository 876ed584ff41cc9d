"""Speed of interventions: hooks, streaming of conditions, shared prefixes and forced answers.

All contenders of a table run in turn in one process, several times, on the same prompts. Seconds are
medians; ratios are medians of the ratios to the table's first contender within each turn. Contenders
must give the same results.

    python benchmarks/interventions.py --out interventions.json
    python benchmarks/interventions.py --part hooks collection --repeats 5
    python benchmarks/interventions.py --part grid --device cuda
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from intervention_parts.conditions import conditions
from intervention_parts.grid import paper_grid
from intervention_parts.inputs import SHOTS, K, n_words, random_llama, random_set, shipped_prompts, word_prompts
from intervention_parts.measuring import Bench, Row
from intervention_parts.passes import collection, hooks
from intervention_parts.verdicts import verdict

import relation_neurons as rn
from relation_neurons.inference.batching import MAX_ROWS

PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "conditions": conditions,
    "verdict": verdict,
    "hooks": hooks,
    "collection": collection,
}
"""All parts except `grid`, which has its own model."""


def make_bench(options: argparse.Namespace) -> Bench:
    """Load the model in float32, and make prompts for it."""
    if options.small:
        model = random_llama(options.device, small=True)
        prompts = {shots: word_prompts(MAX_ROWS, n_words(model), shots) for shots in SHOTS}
    else:
        model = rn.load_model(options.model, device=options.device, dtype=torch.float32)
        prompts = {shots: shipped_prompts(shots) for shots in SHOTS}
    with rn.ablate(model, random_set(model, "gate", K, 0)):
        rn.recall(model, prompts[SHOTS[-1]][:4])  # warm up
    return Bench(model, prompts, options.repeats)


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("| " + " | ".join("---" for _ in rows[0]) + " |")
    for row in rows:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row.values()]
        print("| " + " | ".join(cells) + " |", flush=True)


def machine(device: str) -> str:
    """Name of the processor or GPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.get_num_threads()} CPU thread(s)"


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--part", nargs="+", choices=["all", *PARTS, "grid"], default=["all"], help="all but grid")
    parser.add_argument("--small", action="store_true", help="a small random model and made-up prompts instead")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    parts = list(PARTS) if "all" in options.part else [name for name in PARTS if name in options.part]
    machine_name = machine(options.device)
    results: dict[str, list[Row]] = {}
    bench = make_bench(options) if parts else None
    for name in parts:
        results[name] = PARTS[name](bench)
        show(f"{name}: {bench.model.cfg.model_name}, {machine_name}", results[name])
    bench = None
    if "grid" in options.part:
        results["grid"] = paper_grid(options.device, small=options.small)
        show(
            f"grid: random Llama{'' if options.small else ' of the size of Llama-2-7B'}, {machine_name}",
            results["grid"],
        )
    if options.out:
        versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
        record = {"model": options.model, "small": options.small, "machine": machine_name, "versions": versions}
        options.out.write_text(json.dumps(record | {"parts": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
