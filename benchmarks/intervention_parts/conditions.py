"""Many conditions: one stream, a loop over conditions, and one prompt at a time."""

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
"""Numbers of prompts per condition."""
MOST_ALONE = 6
"""Largest number of prompts run one at a time; the time of the others is extrapolated."""
PATIENCE = 8.0
"""Seconds after which a grid of conditions is not repeated again."""


def conditions(bench: Bench) -> list[Row]:
    """Compare one stream of conditions with a loop over conditions and with one prompt at a time."""
    rows = []
    for shots in SHOTS:
        for generate in (False, True):
            for each in PROMPTS_EACH:
                grid = make_grid(bench, shots, each)
                about = {"shots": shots, "generate": generate, "conditions": len(grid), "prompts each": each}
                rows += [about | row for row in measure_grid(bench, grid, generate)]
    return rows


def make_grid(bench: Bench, shots: int, each: int) -> list[rn.Condition]:
    """The same prompts without ablation and with random sets; on a CPU limited to one batch."""
    n = N_CONDITIONS if bench.device.type == "cuda" else min(N_CONDITIONS, MAX_ROWS // each)
    prompts = tuple(bench.prompts[shots][:each])
    sets = [random_set(bench.model, "gate", K, seed) for seed in range(1, n)]
    return [rn.Condition("clean", prompts), *(rn.Condition(s.name, prompts, (rn.Intervention(s),)) for s in sets)]


def measure_grid(bench: Bench, grid: Sequence[rn.Condition], generate: bool) -> list[Row]:
    """Rows of one grid, whose contenders must agree."""
    pairs = [(condition, prompt) for condition in grid for prompt in condition.prompts]
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(MOST_ALONE, len(pairs))).round().astype(int))
    alone = [rn.Condition(pairs[i][0].name, (pairs[i][1],), pairs[i][0].interventions) for i in chosen]
    sampled = f"one prompt at a time (on {len(alone)})"
    timed = compare(
        bench,
        {
            "one stream": partial(rn.recall_under, bench.model, grid, generate=generate),
            "loop over conditions": partial(loop, bench.model, grid, generate),
            sampled: partial(loop, bench.model, alone, generate),
        },
        PATIENCE,
    )
    expected = timed["one stream"].result
    must_agree(expected, timed["loop over conditions"].result, "loop over conditions")
    must_agree(expected.iloc[chosen], timed[sampled].result, sampled)
    return table(timed, {sampled: len(pairs) / len(alone)})


def loop(model: Any, grid: Iterable[rn.Condition], generate: bool) -> pd.DataFrame:
    """Run one condition after the other, each by `ablate` and `recall`."""
    tables = []
    for condition in grid:
        interventions = condition.interventions
        with rn.ablate(model, interventions[0].neurons) if interventions else contextlib.nullcontext():
            tables.append(rn.recall(model, condition.prompts, condition=condition.name, generate=generate))
    return pd.concat(tables, ignore_index=True)
