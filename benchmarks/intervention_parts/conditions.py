"""Many conditions: one stream against a loop over conditions and against one prompt at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

import relation_neurons as rn
from intervention_parts.inputs import SHOTS, K, random_set
from intervention_parts.measuring import Bench, Row, compare, must_agree, table
from relation_neurons.inference.batching import MAX_ROWS

N_CONDITIONS = 16
PROMPTS_EACH = (1, 2, 4, 16)
"""Prompts of each condition, in the grids of conditions."""
MOST_ALONE = 6
"""Prompts that are asked one at a time; the time of the others is extrapolated."""
PATIENCE = 8.0
"""Seconds after which no further turn of a grid of conditions begins."""


def conditions(bench: Bench) -> list[Row]:
    """One stream of conditions against a loop over conditions and against one prompt at a time."""
    rows = []
    for shots in SHOTS:
        for generate in (False, True):
            for each in PROMPTS_EACH:
                grid = make_grid(bench, shots, each)
                about = {"shots": shots, "generate": generate, "conditions": len(grid), "prompts each": each}
                rows += [about | row for row in measure_grid(bench, grid, generate)]
    return rows


def make_grid(bench: Bench, shots: int, each: int) -> list[rn.Condition]:
    """The clean model and random sets, each asked the same; on a CPU cut to as many as fill one batch."""
    n = N_CONDITIONS if bench.device.type == "cuda" else min(N_CONDITIONS, MAX_ROWS // each)
    prompts = tuple(bench.prompts[shots][:each])
    sets = [random_set(bench.model, "gate", K, seed) for seed in range(1, n)]
    return [rn.Condition("clean", prompts), *(rn.Condition(one.name, prompts, (rn.Intervention(one),)) for one in sets)]


def measure_grid(bench: Bench, grid: Sequence[rn.Condition], generate: bool) -> list[Row]:
    """Rows of one grid, its contenders checked against each other."""
    asks = [(condition, prompt) for condition in grid for prompt in condition.prompts]
    chosen = np.unique(np.linspace(0, len(asks) - 1, min(MOST_ALONE, len(asks))).round().astype(int))
    alone = [rn.Condition(asks[i][0].name, (asks[i][1],), asks[i][0].interventions) for i in chosen]
    sampled = f"one prompt at a time (on {len(alone)})"
    found = compare(
        bench,
        {
            "one stream": partial(rn.recall_under, bench.model, grid, generate=generate),
            "loop over conditions": partial(loop, bench.model, grid, generate),
            sampled: partial(loop, bench.model, alone, generate),
        },
        PATIENCE,
    )
    expected = found["one stream"].result
    must_agree(expected, found["loop over conditions"].result, "loop over conditions")
    must_agree(expected.iloc[chosen], found[sampled].result, sampled)
    return table(found, {sampled: len(asks) / len(alone)})


def loop(model: Any, grid: Iterable[rn.Condition], generate: bool) -> pd.DataFrame:
    """One condition after the other, each by `ablate` and `recall`."""
    tables = []
    for one in grid:
        with rn.ablate(model, one.interventions[0].neurons) if one.interventions else contextlib.nullcontext():
            tables.append(rn.recall(model, one.prompts, condition=one.name, generate=generate))
    return pd.concat(tables, ignore_index=True)
