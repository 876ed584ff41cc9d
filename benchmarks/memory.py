"""Memory needed to select neurons, compared with its estimate.

python benchmarks/memory.py --sites gate ffn --out docs/results/memory.json

Each measurement runs in its own process, which loads the model, runs the detection prompts and ranks
the neurons. Its peak memory (`ru_maxrss`) minus the memory before is compared with the estimate.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import torch

import relation_neurons as rn
from relation_neurons.experiments.session import prepare
from relation_neurons.inference.memory_estimate import estimate
from relation_neurons.inference.memory_plan import FIXED
from relation_neurons.storage.fingerprint import versions


def measure(site: str, model: str, kept: bool) -> dict[str, object]:
    """Estimate and measurement in bytes, in this process."""
    before = psutil.Process().memory_info().rss
    config = replace(rn.StudyConfig(model=model, site=site, validation="none"), prompts=rn.PromptConfig())
    prompts = rn.make_prompts(rn.load_relations(*config.relations), config.prompts)
    found = estimate(model, prompts.detection, site, shards=kept)
    estimated = found.plan.estimate.ram(found.rows) - FIXED
    with tempfile.TemporaryDirectory() as folder:
        study = prepare(config, say=lambda line: None)
        if kept:
            study.keep_in(Path(folder) / "study")
        study.ranking()
    measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    rows = {"site": site, "kept": kept, "n_prompts": len(prompts.detection), "rows": found.rows}
    return rows | {"estimated": estimated, "measured": measured, "ratio": estimated / measured}


def main() -> None:
    """Measure every site, with and without storing activations on disk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", nargs="+", default=["gate", "ffn"])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    jobs = [(site, options.model, kept) for site in options.sites for kept in (False, True)]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        rows = [pool.apply(measure, job) for job in jobs]
    for row in rows:
        print(f"{row['site']}, kept: {row['kept']}: estimated {row['estimated'] / 1e6:.0f} MB, ", end="")
        print(f"measured {row['measured'] / 1e6:.0f} MB, ratio {row['ratio']:.2f}")
    if options.out:
        about = {"model": options.model, "threads": torch.get_num_threads(), "versions": versions()}
        options.out.write_text(json.dumps({**about, "measurements": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
