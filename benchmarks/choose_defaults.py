"""Choose k, site, shots and validation without using any evaluation facts.

The detection facts of each relation are split again; neurons are selected on one part and ablated on
the other. Writes a table with a row per relation and setting, on which
docs/decisions/0002-defaults.md is based.

    python benchmarks/choose_defaults.py --out choice.parquet
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import relation_neurons as rn
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.registry import DEMO_RELATIONS
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.summary import summarise
from relation_neurons.relations.relation import Relation
from relation_neurons.relations.splits import split_relations

N_INNER = 24
N_OTHER = 3
N_CONTROLS = 2


def main() -> None:
    """Parse, run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--relations", nargs="*", default=list(DEMO_RELATIONS))
    parser.add_argument("--shots", nargs="*", type=int, default=[2])
    parser.add_argument("--sites", nargs="*", default=["post", "gate", "ffn"])
    parser.add_argument("--k", nargs="*", type=int, default=[50, 100, 200, 400, 800])
    parser.add_argument("--validation", nargs="*", default=["none"])
    parser.add_argument("--out", type=Path, default=Path("choice.parquet"))
    options = parser.parse_args()
    model = rn.load_model(options.model)
    relations = detection_only(rn.load_relations(*options.relations))
    tables = []
    for shots, site, validation in itertools.product(options.shots, options.sites, options.validation):
        config = rn.StudyConfig(
            site=site,
            validation=validation,
            rule="string",
            n_controls=N_CONTROLS,
            prompts=rn.PromptConfig(shots=shots, n_evaluation=N_INNER, split_seed=1),
        )
        try:
            for settings in measure_settings(Study(model, relations, config), options.k):
                tables.append(settings.assign(shots=shots))
                pd.concat(tables).to_parquet(options.out)
        except rn.RelationNeuronsError as error:
            print(f"site {site} validation {validation}: {error}", flush=True)


def detection_only(relations: tuple[Relation, ...]) -> tuple[Relation, ...]:
    """The relations without the evaluation facts of a run."""
    splits = split_relations(relations)
    return tuple(dataclasses.replace(relation, facts=splits[relation.name].detection) for relation in relations)


def measure_settings(study: Study, ks: Sequence[int]) -> Iterator[pd.DataFrame]:
    """A summary per k, on each relation's own facts and a few facts of every other relation."""
    for k in ks:
        start, own, controls = time.monotonic(), [], []
        for name in study.names:
            target, labels = study.target(name, k), {"ablated": name}
            others = tuple(p for other in study.names if other != name for p in study.evaluation(other)[:N_OTHER])
            own.append(Case(target, study.evaluation(name) + others, labels))
            controls += [
                Case(control, study.evaluation(name), labels | {"draw": draw})
                for draw, control in enumerate(study.controls(target))
            ]
        table = summarise(study.changes(own), study.changes(controls), measures=("logprob", "correct"))
        settings = table.assign(site=study.config.site, validation=study.config.validation, k=k)
        report(settings, time.monotonic() - start)
        yield settings


def report(summary: pd.DataFrame, seconds: float) -> None:
    """Print the results of a setting."""
    rows = summary[summary["measure"] == "logprob"]
    setting = " ".join(f"{name} {rows[name].iloc[0]}" for name in ("site", "validation", "k"))
    means = " ".join(f"{part} {rows[part].mean():+.2f}" for part in ("own", "other", "random"))
    below = int((rows["own_minus_random_high"] < 0).sum())
    above = int((rows["own_minus_random_low"] > 0).sum())
    print(f"{setting:<32} {means} below {below} above {above} of {len(rows)} ({seconds:.0f} s)", flush=True)
    print(np.round(rows.set_index("relation")["own_minus_random"], 2).to_dict(), flush=True)


if __name__ == "__main__":
    main()
