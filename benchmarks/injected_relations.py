"""Scorers on relations whose neurons are known: trained into them, after the INJ benchmark of Chang et al. (2024).

"Do Localization Methods Actually Localize Memorized Data in LLMs?" (arXiv:2311.09060) trains a text into a random
share of a model's neurons and asks methods to find them. Here invented relations are trained into disjoint random sets
of SmolLM2-135M's `post` neurons, every other weight being frozen; then each scorer ranks all neurons. `--train write`
trains the neurons' output rows, as there, `--train all` their gate and up columns as well.

    python -m benchmarks.injected_relations --seeds 0 1 2 --out docs/results/injected_relations.json

Each seed's results are kept in a folder, so that seeds may run at the same time, and a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import relation_neurons as rn
from benchmarks.injected_parts.planted import planted_recovery
from benchmarks.injected_parts.relations import invented_relations
from benchmarks.injected_parts.scoring import ablations, rank_by_all, recovery, with_intervals
from benchmarks.injected_parts.training import WEIGHTS, Recipe, draw, inject
from benchmarks.rows_json import rows_json
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.scores.scoring import scorer_names
from relation_neurons.statistics.intervals import CHANGES, SHARES
from relation_neurons.storage.fingerprint import versions

MODEL, SHARE = "smollm2-135m", 0.01
KNOWN = ("country_capital", "person_occupation", "company_hq")
"""Relations that the model has learned before; negatives, and a measure of what training damages."""
N_DETECTION, N_EVALUATION, N_ABLATED = 16, 8, 6
"""Facts of each relation that scorers read, that are held out from them, and on which ablations are judged."""
METHODS = ("gradient", "relp")
RECOVERED = {"share": SHARES, "uniform": None, "matched": None}
"""Columns that are summarised; expected shares are exact, and vary over units only as sets of neurons do."""
Rows = list[dict[str, object]]


def measure(seed: int, recipe: Recipe) -> dict[str, Rows]:
    """Inject, rank, compare, ablate, for one seed."""
    model = rn.load_model(MODEL, device="cpu", dtype=torch.float32)
    invented, known = invented_relations(), rn.load_relations(*KNOWN)
    names, clock = [relation.name for relation in invented], {"start": time.process_time()}
    sizes = {"n_detection": N_DETECTION, "n_evaluation": N_EVALUATION}
    every = rn.make_prompts(invented, rn.PromptConfig(shots=0, templates="all", n_evaluation=N_EVALUATION))
    read = rn.make_prompts([*invented, *known], rn.PromptConfig(shots=0, templates="all", **sizes)).detection
    asked = rn.make_prompts([*invented, *known], rn.PromptConfig(shots=0, templates="cycle", **sizes)).evaluation
    truth, before = draw(model, names, SHARE, seed), copies(model)
    health = [*state(model, asked, "before")]
    learned = inject(model, every.detection + every.evaluation, truth, recipe, seed)
    only_chosen_changed(model, before, truth, recipe)
    clock["training"] = time.process_time()
    health += state(model, asked, "after")
    rankings = rank_by_all(model, read, len(truth[names[0]]), methods=METHODS, seed=seed)
    clock["ranking"] = time.process_time()
    tables = {"recovery": recovery(rankings, truth)}
    chosen = {name: ranking for name, ranking in rankings.items() if name in scorer_names()}
    tables["ablations"] = ablations(model, first_facts(asked, N_ABLATED), truth, chosen, seed)
    clock["ablations"] = time.process_time()
    spent = {name: clock[name] - start for name, start in zip(list(clock)[1:], clock.values(), strict=False)}
    training = {"epochs": len(learned), "learned": learned[-1], "n_prompts": len(every.detection + every.evaluation)}
    rows = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
    rows |= {"health": health, "training": [training | {f"seconds_{name}": round(one) for name, one in spent.items()}]}
    mark = {"train": recipe.weights, "seed": seed}
    return {name: [mark | row for row in table] for name, table in rows.items()}


def state(model: Any, prompts: Any, when: str) -> Rows:
    """Recall of every relation, and the loss on neutral sentences in nats per token."""
    table = rn.recall(model, prompts)
    table["first_token"] = table["first_token_rank"] == 1
    means = table.groupby("relation", sort=False)[["correct_string", "first_token", "logprob"]].mean()
    n = table["relation"].value_counts()
    rows: Rows = [{"when": when, "what": one, "n": int(n[one]), **row} for one, row in means.T.to_dict().items()]
    texts = [text for name in KNOWN for text in rn.neutral_sentences(name)]
    loss = rn.perplexity(model, texts)
    nats = float(loss["nll"].sum() / loss["n_tokens"].sum())
    return [*rows, {"when": when, "what": "neutral sentences", "n": len(texts), "nats": nats}]


def copies(model: Any) -> dict[str, Tensor]:
    """Copies of all weights."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def only_chosen_changed(
    model: Any, before: Mapping[str, Tensor], truth: Mapping[str, rn.NeuronSet], recipe: Recipe
) -> None:
    """Check that every weight but those of the chosen neurons is bit-equal to before.

    Raises:
        RuntimeError: A weight outside was changed, or a matrix that is trained was not.
    """
    chosen = {(layer, index) for one in truth.values() for _, layer, index in one}
    for name, weight in model.named_parameters():
        changed, place = weight != before[name], name.split(".")
        if place[-1] in WEIGHTS[recipe.weights]:
            neurons = changed.any(dim=1 if place[-1] == "W_out" else 0).nonzero().flatten().tolist()
            outside = {(int(place[1]), index) for index in neurons} - chosen
            if outside or not neurons:
                raise RuntimeError(f"{name}: {len(neurons)} neurons have changed, {len(outside)} of them not chosen")
        elif changed.any():
            raise RuntimeError(f"{name} has changed")


def summary(parts: list[dict[str, Rows]]) -> dict[str, Rows]:
    """Means over (seed, relation) units with 95 % intervals."""
    tables = {name: pd.DataFrame([row for part in parts for row in part[name]]) for name in parts[0]}
    changes = {"logprob": None, "recalled": CHANGES, "clean": SHARES}
    return {
        "recovery": with_intervals(tables["recovery"], ("train", "at", "scorer"), RECOVERED),
        "ablations": with_intervals(tables["ablations"], ("train", "neurons", "group"), changes),
        "training": [row for part in parts for row in part["training"]],
        "health": [row for part in parts for row in part["health"]],
    }


def main() -> None:
    """Measure what is missing, and summarise all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train", nargs="+", choices=list(WEIGHTS), default=["write"], help="weights of a neuron")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--folder", type=Path, default=Path("build/injected"), help="keeps each seed's results")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for weights in options.train:
        for seed in options.seeds:
            file = options.folder / f"{weights}-{seed}.json"
            if not file.exists():
                recipe = Recipe(weights, options.learning_rate, epochs=options.epochs)
                file.write_text(json.dumps(measure(seed, recipe)), encoding="utf-8")
            parts.append(json.loads(file.read_text(encoding="utf-8")))
    planted = with_intervals(planted_recovery(options.seeds), ("model", "at", "scorer"), RECOVERED)
    settings = {"model": MODEL, "share": SHARE, "known": KNOWN, "detection": N_DETECTION, "ablated": N_ABLATED}
    asked = {key: value for key, value in vars(options).items() if key not in ("out", "folder")}
    result = {**asked, **settings, **summary(parts), "planted": planted, "versions": versions()}
    print(rows_json(result))
    if options.out:
        options.out.write_text(rows_json(result), encoding="utf-8")


if __name__ == "__main__":
    main()
