"""Neurons by each scorer, in one study: selectivity, object halves, stability, necessity and sufficiency.

The figures of docs/results/causal_neurons.md come from it. Everything is kept in the folder, so that it can be resumed.

    python -m benchmarks.causal_neurons --out runs/causal-smollm2
    python -m benchmarks.causal_neurons --model gemma3-270m --relations paper --shots 0 --out runs/causal-gemma3
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import relation_neurons as rn
from benchmarks.rows_json import rows_json
from relation_neurons.experiments.carry_over import CarryOverConfig
from relation_neurons.experiments.faithfulness import FaithfulnessConfig
from relation_neurons.experiments.runner import reproduce
from relation_neurons.experiments.scorer_comparison import MethodsConfig
from relation_neurons.experiments.stability import StabilityConfig
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.scores.scoring import scorer_names
from relation_neurons.storage.fingerprint import versions

KS = (50, 100, 200, 400)
COMPARED = ("average_precision", "attribution_t", "average_precision_x_attribution_t")
OPTIONS: dict[str, Any] = {
    "methods": MethodsConfig(ks=KS, n_other=1, n_method_controls=2),
    "carry-over": CarryOverConfig(scorers=COMPARED, n_other=1, n_carry_over_controls=2),
    "stability": StabilityConfig(scorers=COMPARED, n_samples=3),
    "faithfulness": FaithfulnessConfig(
        scorers=("average_precision", "average_precision_x_attribution_t"),
        ks=(),
        shares=(0.01, 0.1, 0.5, 1.0),
        n_circuit_controls=2,
        n_induction_controls=2,
        n_asked=1,
    ),
}

TABLES = {
    "methods": ("equal_cost", "methods", "against_first"),
    "carry-over": ("pooled", "shares", "other"),
    "stability": ("stability",),
    "faithfulness": ("average", "average_areas", "induction", "ranges"),
}
"""What is written of each experiment."""


def stored(path: Path, study: str, results: Sequence[ExperimentResult]) -> str:
    """The JSON file at a path with the tables of one study put in; those of other studies stay."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = {
        f"{study}, {result.name}: {table}": json.loads(
            result.tables[table].to_json(orient="records", double_precision=5)
        )
        for result in results
        for table in TABLES.get(result.name, ())
    }
    return rows_json({**kept, **found, "versions": versions()})


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--relations", nargs="*", default=["shipped"])
    parser.add_argument("--shots", type=int, default=2)
    parser.add_argument("--n-detection", type=int, default=48)
    parser.add_argument("--n-evaluation", type=int, default=12)
    parser.add_argument("--scorers", nargs="*", default=list(scorer_names()), help="of compare-methods")
    parser.add_argument("--controls", type=int, default=2, help="control sets of each scorer in compare-methods")
    parser.add_argument("--experiments", nargs="*", default=list(OPTIONS), choices=list(OPTIONS))
    parser.add_argument("--out", type=Path, default=Path("runs/causal-neurons"))
    parser.add_argument("--json", type=Path, help="a file that gets the main tables, beside those of other studies")
    options = parser.parse_args()
    prompts = rn.PromptConfig(shots=options.shots, n_detection=options.n_detection, n_evaluation=options.n_evaluation)
    study = rn.StudyConfig(
        model=options.model,
        relations=tuple(options.relations),
        site="post",
        k=max(KS),
        validation="none",
        prompts=prompts,
    )
    chosen = OPTIONS | {
        "methods": replace(OPTIONS["methods"], scorers=tuple(options.scorers), n_method_controls=options.controls)
    }
    started = time.process_time()
    results = reproduce(options.experiments, study, options.out, options=chosen)
    for result in results:
        print(f"## {result.name}", *result.verdict, sep="\n- ", flush=True)
    if options.json:
        label = f"{options.model}, {' '.join(options.relations)} relations"
        options.json.write_text(stored(options.json, label, results), encoding="utf-8")
    print(f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
