"""Choose the default scorer without using any evaluation facts.

As in `choose_defaults`, the detection facts of each relation are split again: neurons are found on one part, and
selectivity curves (`compare-methods`) are measured on the other. Writes a table with a row per site, scorer and
measure, on which docs/decisions/0021-scorer.md is based, and keeps answers in a folder, so that it can be resumed.

    python -m benchmarks.choose_scorer --out runs/choose-scorer
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd

import relation_neurons as rn
from benchmarks.choose_defaults import detection_only
from relation_neurons.experiments.registry import DEMO_RELATIONS
from relation_neurons.experiments.scorer_comparison import MethodsConfig, methods
from relation_neurons.experiments.study import Study
from relation_neurons.progress import bar
from relation_neurons.storage.fingerprint import versions

SCORERS = ("average_precision", "attribution", "attribution_t", "average_precision_x_attribution_t")
N_INNER = 20


def main() -> None:
    """Parse, run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--relations", nargs="*", default=list(DEMO_RELATIONS))
    parser.add_argument("--sites", nargs="*", default=["gate", "post"])
    parser.add_argument("--ks", nargs="*", type=int, default=[50, 100, 200, 400])
    parser.add_argument("--out", type=Path, default=Path("runs/choose-scorer"))
    options = parser.parse_args()
    model, tables = rn.load_model(options.model), {}
    relations = detection_only(rn.load_relations(*options.relations))
    for site in options.sites:
        started = time.monotonic()
        prompts = rn.PromptConfig(n_evaluation=N_INNER, split_seed=1)
        config = rn.StudyConfig(site=site, k=max(options.ks), validation="none", prompts=prompts)
        study = Study(model, relations, config, show=bar)
        study.keep_in(options.out / site)
        chosen = MethodsConfig(scorers=SCORERS, ks=tuple(options.ks), n_other=2, n_method_controls=2)
        found = methods(study, chosen)
        for name in ("equal_cost", "methods"):
            tables.setdefault(name, []).append(found.tables[name].assign(site=site))
        print(f"{site}: {time.monotonic() - started:.0f} s", *found.verdict, sep="\n", flush=True)
    content = {name: json.loads(pd.concat(parts).to_json(orient="records")) for name, parts in tables.items()}
    content |= {"model": options.model, "relations": options.relations, "versions": versions()}
    (options.out / "choose_scorer.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
