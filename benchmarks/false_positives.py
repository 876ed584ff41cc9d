"""False positive rates of the experiments' tests in models without relation neurons.

Each seed makes a small model whose relations are randomly assigned labels
(`tests/planted_properties.py`), runs the experiments, and counts p-values below 5 % and significant
verdicts after Holm's correction. Run from the root of the repository:
`python -m benchmarks.false_positives --seeds 200`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from scipy import stats

import relation_neurons as rn
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.cumulativity import CumulativityConfig, cumulativity
from relation_neurons.experiments.inter_relation import InterConfig, inter
from relation_neurons.experiments.intra_relation import IntraConfig, intra
from relation_neurons.experiments.k_sweep import SweepConfig, sweep
from relation_neurons.experiments.overlap import overlap
from relation_neurons.experiments.properties import properties
from relation_neurons.experiments.study import Study
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import SHOWN
from tests.planted_properties import GROUP, plant_nothing

KS = (2, 8, GROUP)
N_RELATIONS = 5
TESTS = {
    "own facts": ("intra", "effects"),
    "pairs of relations": ("inter", "effects"),
    "slope over k": ("sweep", "trend"),
    "slope over k, pooled": ("sweep", "pooled_trend"),
    "synergy": ("cumulativity", "synergy"),
    "synergy, pooled": ("cumulativity", "pooled_synergy"),
    "gains in one direction": ("inter", "gains"),
    "slices": ("cumulativity", "slices"),
    "overlap of pairs": ("overlap", "pairs"),
}


@dataclass(frozen=True)
class Config:
    """Count false positives over models without relation neurons."""

    seeds: int = 200
    """Number of models."""
    common: tuple[float, ...] = (0.0, 0.3)
    """Strength of effects that a set of neurons has on all facts alike; see `plant_nothing`."""
    experiments: tuple[str, ...] = ("intra", "inter", "sweep", "cumulativity", "overlap")
    """Experiments to run."""
    workers: int = 2
    """Number of processes."""
    out: Path = Path("docs/results/false_positives.json")
    """File for the counts."""


def count_in_model(seed: int, common: float, experiments: tuple[str, ...]) -> dict[str, tuple[int, int, bool]]:
    """For each test and measure: p-values, those below 5 %, and whether any verdict is significant."""
    torch.set_num_threads(1)
    planted = plant_nothing(seed, common=common)
    prompts = rn.PromptConfig(shots=0, n_evaluation=10, split_seed=seed)
    config = StudyConfig(k=GROUP, site="post", n_controls=20, validation="none", prompts=prompts, seed=seed)
    study = Study(planted.model, planted.relations[:N_RELATIONS], config)
    run: dict[str, Callable[[], ExperimentResult]] = {
        "intra": lambda: intra(study, IntraConfig(n_detection_tested=0)),
        "inter": lambda: inter(study, InterConfig(n_cross_controls=20, n_mechanism_controls=0)),
        "sweep": lambda: sweep(study, SweepConfig(ks=KS, scale=False, n_sweep_controls=20, n_other=1)),
        "cumulativity": lambda: cumulativity(
            study, CumulativityConfig(ks=KS, scale=False, n_slices=2, n_slice_controls=20)
        ),
        "overlap": lambda: overlap(study),
    }
    results = {name: run[name]() for name in experiments}
    counts = {}
    for name, (experiment, table) in TESTS.items():
        if experiment not in results:
            continue
        rows = results[experiment].tables[table]
        for measure, group in rows.groupby("measure") if "measure" in rows else [("all", rows)]:
            p = group["p"].dropna()
            shown = bool(group["verdict"].isin(SHOWN).any()) if "verdict" in group else False
            counts[f"{name}, {measure}"] = (len(p), int((p < 0.05).sum()), shown)
    for name, rows in properties(results).table.groupby("property"):
        counts[f"property: {name}"] = (len(rows), 0, bool(rows["shown"].any()))
    return counts


def main(config: Config) -> None:
    """Count over all seeds and write a table."""
    rows = []
    for common in config.common:
        with ProcessPoolExecutor(config.workers) as pool:
            results = list(
                pool.map(partial(count_in_model, common=common, experiments=config.experiments), range(config.seeds))
            )
        for name in results[0]:
            counts = np.array([result[name] for result in results])
            any_shown = int(counts[:, 2].sum())
            interval = stats.binomtest(any_shown, config.seeds).proportion_ci(method="wilson")
            rows.append(
                {
                    "common": common,
                    "test": name,
                    "n_tests": int(counts[:, 0].sum()),
                    "below_5_percent": round(float(counts[:, 1].sum() / counts[:, 0].sum()), 4),
                    "models_with_a_verdict": any_shown,
                    "models": config.seeds,
                    "share": round(any_shown / config.seeds, 4),
                    "low": round(interval.low, 4),
                    "high": round(interval.high, 4),
                }
            )
        print(pd.DataFrame(rows).to_string())
    config.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config))
