"""How well scorers find neurons that are known, and what ablating the neurons found does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

import relation_neurons as rn
from relation_neurons.neurons.random_overlap import overlap_table
from relation_neurons.neurons.ranking import Ranking, rank_neurons
from relation_neurons.scores.scoring import needs_attributions, scorer_names
from relation_neurons.statistics.intervals import mean_interval

INJECTED, RANDOM = "the true neurons", "random, same layers"
"""Sets that are ablated beside those that scorers choose."""
Bounds = tuple[float, float] | None


def rank_by_all(
    model: Any, prompts: Sequence[rn.Prompt], depth: int, *, methods: Sequence[str] = ("gradient",), seed: int = 0
) -> dict[str, Ranking]:
    """Rankings of the `post` neurons by every scorer, the first method of attribution being unnamed."""
    activations, found = rn.collect_activations(model, prompts), {}
    for method in methods:
        attributions = rn.attribute(model, prompts, method=method)
        for scorer in scorer_names():
            if method == methods[0] or needs_attributions(scorer):
                name = scorer if method == methods[0] else f"{scorer} ({method})"
                found[name] = rank_neurons(
                    activations, attributions=attributions, depth=depth, scorer=scorer, seed=seed
                )
    return found


def recovery(rankings: Mapping[str, Ranking], truth: Mapping[str, rn.NeuronSet]) -> pd.DataFrame:
    """How many of the best neurons are true ones.

    Args:
        rankings: One for each scorer, at least as deep as there are true neurons.
        truth: The neurons of each relation.

    Returns:
        A row for each scorer, relation and depth `at` (`k`, the number of true neurons, where precision and recall are
        the same, and `k/10`, rounded up): `count`, `share` (precision), and the shares expected of random sets,
        `uniform` and with as many neurons in each layer (`matched`), both exact.
    """
    pairs, labels = [], []
    for scorer, ranking in rankings.items():
        for name, neurons in truth.items():
            for at, size in {"k": len(neurons), "k/10": -(-len(neurons) // 10)}.items():
                labels.append({"scorer": scorer, "relation": name, "at": at, "size": size})
                pairs.append((labels[-1], ranking.top(name, size), neurons))
    table = overlap_table(pairs, next(iter(rankings.values())).space)
    for column, name in {"count": "share", "expected_uniform": "uniform", "expected": "matched"}.items():
        table[name] = table[column] / table["size"]
    return table[["scorer", "relation", "at", "size", "count", "share", "uniform", "matched"]]


def ablations(
    model: Any,
    prompts: Sequence[rn.Prompt],
    truth: Mapping[str, rn.NeuronSet],
    rankings: Mapping[str, Ranking],
    seed: int = 0,
) -> pd.DataFrame:
    """What ablating the true neurons, random ones, and the k best of each scorer does to all relations.

    Args:
        model: The model.
        prompts: Prompts of the injected relations, and of relations that the model knew before.
        truth: The neurons of each injected relation.
        rankings: One for each scorer.
        seed: Of the random sets.

    Returns:
        A row for each ablated relation, set (`neurons`) and group of facts (`own`, `other` injected relations, and
        `known` ones, which were not injected): `n` facts, and means over them of the
        change in log-probability in nats (`logprob`) and of the share whose first token is the most probable
        (`recalled`, and `clean` without ablation).
    """
    space = next(iter(rankings.values())).space
    conditions = [rn.Condition("clean", tuple(prompts), labels={"ablated": "", "neurons": ""})]
    for name, neurons in truth.items():
        (control,) = rn.random_controls(neurons, space, n=1, seed=seed)
        sets = {INJECTED: neurons, RANDOM: control}
        sets |= {scorer: ranking.top(name, len(neurons)) for scorer, ranking in rankings.items()}
        for label, chosen in sets.items():
            labels = {"ablated": name, "neurons": label}
            conditions.append(
                rn.Condition(f"{name}, {label}", tuple(prompts), (rn.Intervention(chosen),), labels=labels)
            )
    answers = rn.recall_under(model, conditions, generate=False)
    answers["recalled"] = (answers["first_token_rank"] == 1).astype(float)
    clean = answers[answers["ablated"] == ""]
    rows = []
    for (name, label), table in answers[answers["ablated"] != ""].groupby(["ablated", "neurons"], sort=False):
        change = table[["logprob", "recalled"]].to_numpy() - clean[["logprob", "recalled"]].to_numpy()
        groups = [_group(one, name, truth) for one in table["relation"]]
        changes = pd.DataFrame(change, columns=["logprob", "recalled"]).assign(clean=clean["recalled"].to_numpy())
        for group, part in changes.groupby(groups, sort=False):
            rows.append({"relation": name, "neurons": label, "group": group, "n": len(part), **part.mean().to_dict()})
    return pd.DataFrame(rows)


def _group(relation: str, ablated: object, truth: Mapping[str, rn.NeuronSet]) -> str:
    return "own" if relation == ablated else "other" if relation in truth else "known"


def with_intervals(table: pd.DataFrame, by: Sequence[str], values: Mapping[str, Bounds]) -> list[dict[str, object]]:
    """Means of some columns with 95 % intervals, over the rows of each group as units.

    Args:
        table: A row for each unit, such as a relation of a seed.
        by: Columns that name the group.
        values: The columns, and the least and greatest value of each, if there is one.

    Returns:
        For each group its names, `n` units, and for each column [mean, low, high].
    """
    rows = []
    for key, units in table.groupby(list(by), sort=False):
        row: dict[str, object] = dict(zip(by, key, strict=True)) | {"n": len(units)}
        for name, bounds in values.items():
            row[name] = [round(number, 4) for number in mean_interval(units[name].to_numpy(), bounds=bounds)[:3]]
        rows.append(row)
    return rows
