"""Choose k, site, shots and validation without looking at any evaluation fact.

The detection facts of each relation are split once more; neurons are found on one part and ablated on the other.
Writes a table with a row per relation and setting; docs/decisions/0002-defaults.md is what was read from it.

    python benchmarks/choose_defaults.py --out choice.parquet
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import relation_neurons as rn
from relation_neurons.experiments.ablation import (
    CLEAN,
    Condition,
    Selection,
    keep_right,
    measure,
    select_neurons,
    summarise,
)
from relation_neurons.experiments.pipeline import DEMO_RELATIONS
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
    for shots in options.shots:
        prompts = rn.make_prompts(relations, rn.PromptConfig(shots=shots, n_evaluation=N_INNER, split_seed=1))
        for settings in measure_settings(model, prompts, options):
            tables.append(settings.assign(shots=shots))
            pd.concat(tables).to_parquet(options.out)


def detection_only(relations: tuple[Relation, ...]) -> tuple[Relation, ...]:
    """The relations without the facts that a run evaluates."""
    splits = split_relations(relations)
    return tuple(dataclasses.replace(one, facts=splits[one.name].detection) for one in relations)


def measure_settings(model: Any, prompts: rn.Prompts, options: argparse.Namespace) -> Any:
    """A summary per site, validation and k; prints one line for each."""
    clean = rn.recall(model, prompts.evaluation)
    answers = rn.recall(model, prompts.detection) if options.validation != ["none"] else None
    for site in options.sites:
        everything = rn.collect_activations(model, prompts.detection, site=site)
        for validation in options.validation:
            try:
                activations = validated(everything, answers, validation)
            except rn.RelationNeuronsError as error:
                print(f"site {site} validation {validation}: {error}", flush=True)
                continue
            for k in options.k:
                start = time.monotonic()
                selection = select_neurons(activations, k=k, n_controls=N_CONTROLS, seed=0)
                table = measure(model, inner_conditions(prompts.evaluation, selection), keep=use(clean))
                summary = summarise(table).assign(site=site, validation=validation, k=k)
                report(summary, time.monotonic() - start)
                yield summary


def validated(everything: rn.Activations, answers: pd.DataFrame | None, rule: str) -> rn.Activations:
    """The activations of the prompts that the model answers rightly by a rule."""
    if rule == "none":
        return everything
    kept = keep_right(everything.prompts, answers, rule, at_least=5)
    rows = [row for row, prompt in enumerate(everything.prompts) if prompt in set(kept)]
    return dataclasses.replace(everything, values=everything.values[rows], prompts=kept)


def inner_conditions(prompts: tuple[rn.Prompt, ...], selection: Selection) -> list[Condition]:
    """As in a run, but each relation's neurons meet only a few facts of every other relation."""
    own = {name: tuple(p for p in prompts if p.relation == name) for name in selection.targets}
    found = [Condition(CLEAN, prompts)]
    for name, target in selection.targets.items():
        others = tuple(p for other, asked in own.items() if other != name for p in asked[:N_OTHER])
        found.append(Condition(name, own[name] + others, (rn.Intervention(target),)))
        controls = selection.controls[name]
        found += [Condition(control.name, own[name], (rn.Intervention(control),)) for control in controls]
    return found


def use(clean: pd.DataFrame) -> Any:
    """Take the clean answers from the table that there is."""
    return lambda condition, make: clean if condition.name == CLEAN else make()


def report(summary: pd.DataFrame, seconds: float) -> None:
    """One line for a setting."""
    rows = summary[summary["measure"] == "logprob"]
    setting = " ".join(f"{name} {rows[name].iloc[0]}" for name in ("site", "validation", "k"))
    means = " ".join(f"{part} {rows[f'{part}_mean'].mean():+.2f}" for part in ("own", "other", "random"))
    below = int((rows["own_minus_random_high"] < 0).sum())
    above = int((rows["own_minus_random_low"] > 0).sum())
    print(f"{setting:<32} {means} below {below} above {above} of {len(rows)} ({seconds:.0f} s)", flush=True)
    print(np.round(rows.set_index("relation")["own_minus_random_mean"], 2).to_dict(), flush=True)


if __name__ == "__main__":
    main()
