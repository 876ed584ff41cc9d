"""Effect of storing activations in 16 bits on average precision and on the selected neurons.

python benchmarks/storage_precision.py --relations shipped
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table

import relation_neurons as rn

DTYPES = (torch.float16, torch.bfloat16)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--relations", nargs="*", default=["shipped"])
    parser.add_argument("--sites", nargs="*", default=["post", "gate"])
    parser.add_argument("--k", nargs="*", type=int, default=[200, 3000])
    options = parser.parse_args()
    model = rn.load_model(options.model)
    prompts = rn.make_prompts(rn.load_relations(*options.relations)).detection
    table = Table("site", "stored as", "mean change of AP", "largest", *(f"top {k} kept" for k in options.k))
    for site in options.sites:
        activations = rn.collect_activations(model, prompts, site=site)
        for row in compare(activations, options.k):
            table.add_row(site, *row)
    Console(width=120).print(table)


def compare(activations: rn.Activations, ks: list[int]) -> list[list[str]]:
    """A row per type: mean and largest change of AP, and mean and lowest share of top-k neurons kept."""
    contrast = rn.contrast(activations.prompts)
    exact = rn.average_precision(activations.values, *contrast)
    rows = []
    for dtype in DTYPES:
        rounded = rn.average_precision(activations.values.to(dtype), *contrast)
        change = (rounded - exact).abs()
        cells = [str(dtype).removeprefix("torch."), f"{float(change.mean()):.1e}", f"{float(change.max()):.1e}"]
        for k in ks:
            kept = [share_kept(a, b, k) for a, b in zip(exact, rounded, strict=True)]
            cells.append(f"{sum(kept) / len(kept):.1%} (lowest {min(kept):.1%})")
        rows.append(cells)
    return rows


def share_kept(exact: torch.Tensor, rounded: torch.Tensor, k: int) -> float:
    """Share of the top k neurons that are the same; ties are broken by position."""
    best = [set(ap.argsort(descending=True, stable=True)[:k].tolist()) for ap in (exact, rounded)]
    return len(best[0] & best[1]) / k


if __name__ == "__main__":
    main()
