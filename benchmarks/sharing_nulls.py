"""False positive rates of the tests of shared neurons where relations share nothing.

`models`: small models whose relations are randomly assigned labels (`tests/planted_properties.py`), as a user would
test them, and with the pair that shares most ablated whether or not it shares more than chance. `activations`: arrays
in which relations are labels, or differ in independent random directions, with heavy tails and with neurons that are
mixtures of few features. Three designs of the contrasts of a pair stand side by side: with the same relations as
negatives of both (`same_exact`), with disjoint halves of their facts (`facts_exact`), and with disjoint relations, the
last as used (`apart`) and by the exact null alone, without the correction for correlated neurons (`apart_exact`).

Run from the root of the repository: `python -m benchmarks.sharing_nulls --seeds 200`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from scipy import stats

import relation_neurons as rn
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.overlap import pair_sets, pair_table, pairs_above
from relation_neurons.experiments.sharing import share_effects, sharing, split
from relation_neurons.experiments.study import Study
from relation_neurons.scores.average_precision import average_precision
from relation_neurons.statistics.effects import ABOVE, FALLS, SHOWN
from relation_neurons.statistics.hypothesis_tests import adjust
from relation_neurons.statistics.overdispersion import dispersed_tail, dispersion
from tests.planted_properties import plant_nothing

N_RELATIONS, N_FACTS, N_NEURONS, K = 8, 25, 2000, 40
K_IN_MODELS = 60
RANKS: Mapping[str, int | None] = {"independent neurons": None, "100 features": 100, "20 features": 20}
NULL = stats.hypergeom(N_NEURONS, K, K)


@dataclass(frozen=True)
class Config:
    """Count false positives over null models and arrays."""

    seeds: int = 200
    """Number of models, and of arrays of each kind."""
    common: tuple[float, ...] = (0.0, 0.3)
    """Strength of effects that a set of neurons has on all facts alike; see `plant_nothing`."""
    parts: tuple[str, ...] = ("activations", "models")
    """What to count in."""
    neurons: tuple[str, ...] = tuple(RANKS)
    """How neurons of the arrays depend on each other."""
    workers: int = 2
    """Number of processes."""
    out: Path = Path("docs/results/sharing_nulls.json")
    """File for the counts; others in it are kept."""


def in_model(seed: int, common: float) -> dict[str, bool]:
    """Whether any pair of a model is above chance, and whether any difference has a verdict."""
    torch.set_num_threads(1)
    planted = plant_nothing(seed, common=common)
    prompts = rn.PromptConfig(shots=0, n_evaluation=10, split_seed=seed)
    config = StudyConfig(k=K_IN_MODELS, site="post", n_controls=20, validation="none", prompts=prompts, seed=seed)
    study = Study(planted.model, planted.relations, config)
    pairs = pair_table(study)
    most = pairs.sort_values("share", ascending=False, kind="stable").head(1)
    chosen = pair_sets(study, list(zip(most["first"], most["second"], strict=True)))
    forced = share_effects(study, {pair: split(*both) for pair, both in chosen.items()}, n_controls=20)
    verdicts = forced["differences"]["verdict"]
    found = sharing(study).tables["differences"] if pairs_above(pairs) else None
    return {
        "overlap": bool((pairs["verdict"] == ABOVE).any()),
        "sharing": found is not None and len(found) > 0 and bool(found["verdict"].isin(SHOWN).any()),
        "sharing, the pair that shares most": bool(verdicts.isin(SHOWN).any()),
        "sharing, the pair that shares most, falls": bool((verdicts == FALLS).any()),
    }


def in_activations(seed: int, features: int | None, tails: str, differ: bool) -> dict[str, bool]:
    """Whether any pair of relations that share nothing is above chance, by each design."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(seed)
    relation = np.repeat(np.arange(N_RELATIONS), N_FACTS)
    values = _values(generator, relation, features, tails, differ)
    found = {}
    for design in ("same", "facts", "apart"):
        labels, mask = _contrasts(generator, relation, design)
        highest = _best(values, labels, mask)
        counts = _common(highest[::2], highest[1::2])
        exact = NULL.sf(counts - 1)
        found[f"{design}_exact"] = bool((adjust(exact, "holm") < 0.05).any())
    lowest = _best(-values, labels, mask)
    mean, variance = float(NULL.mean()), float(NULL.var())
    opposed = np.concatenate([_common(highest[::2], lowest[1::2]), _common(lowest[::2], highest[1::2])])
    factor = dispersion(opposed, np.full(len(opposed), mean), np.full(len(opposed), variance))
    p = np.maximum(exact, dispersed_tail(counts, np.full(len(counts), mean), np.full(len(counts), factor * variance)))
    return {"apart": bool((adjust(p, "holm") < 0.05).any()), **found}


def _values(
    generator: np.random.Generator, relation: np.ndarray, features: int | None, tails: str, differ: bool
) -> Any:
    def draw(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape) if tails == "normal" else generator.standard_t(2, shape)

    width = features or N_NEURONS
    latent = draw(len(relation), width)
    if differ:
        latent = latent + draw(N_RELATIONS, width)[relation]
    if features is None:
        return latent
    noise = 0.3 * np.sqrt(features) * generator.standard_normal((len(relation), N_NEURONS))
    return latent @ generator.standard_normal((features, N_NEURONS)) + noise


def _contrasts(generator: np.random.Generator, relation: np.ndarray, design: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels and mask, two columns per pair of relations."""
    labels, mask = [], []
    for pair in itertools.combinations(range(N_RELATIONS), 2):
        others = [np.flatnonzero(relation == one) for one in generator.permutation(N_RELATIONS) if one not in pair]
        if design == "same":
            pools: Sequence[Any] = [others, others]
        elif design == "apart":
            pools = [others[::2], others[1::2]]
        else:
            shuffled = [generator.permutation(rows) for rows in others]
            pools = [[rows[turn::2] for rows in shuffled] for turn in (0, 1)]
        for own, pool in zip(pair, pools, strict=True):
            labels.append(relation == own)
            mask.append(labels[-1].copy())
            each = 4 * N_FACTS // len(pool)
            mask[-1][np.concatenate([generator.permutation(rows)[:each] for rows in pool])] = True
    return np.array(labels).T, np.array(mask).T


def _best(values: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    scores = average_precision(torch.from_numpy(values.astype(np.float32)), labels, mask)
    return np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :K]


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.array([len(np.intersect1d(*both)) for both in zip(first, second, strict=True)])


def counted(results: Sequence[Mapping[str, bool]], labels: Mapping[str, object]) -> list[dict[str, object]]:
    """How many models or arrays have any false positive, with Wilson intervals."""
    rows = []
    for name in results[0]:
        n_shown = sum(result[name] for result in results)
        interval = stats.binomtest(n_shown, len(results)).proportion_ci(method="wilson")
        share = {"share": n_shown / len(results), "low": round(interval.low, 4), "high": round(interval.high, 4)}
        rows.append({**labels, "test": name, "shown": n_shown, "n": len(results), **share})
    return rows


def main(config: Config) -> None:
    """Count over all seeds and write a table."""
    kept = json.loads(config.out.read_text(encoding="utf-8")) if config.out.exists() else {}
    with ProcessPoolExecutor(config.workers) as pool:
        for part in config.parts:
            if part == "models":
                settings: Sequence[Mapping[str, object]] = [{"common": common} for common in config.common]
            else:
                settings = [
                    {"neurons": name, "tails": tails, "differ": differ}
                    for name in config.neurons
                    for tails in ("normal", "t2")
                    for differ in (False, True)
                ]
            for labels in settings:
                count = partial(in_model, **labels) if part == "models" else partial(_labelled, **labels)
                rows = counted(list(pool.map(count, range(config.seeds))), labels)
                others = [row for row in kept.get(part, []) if any(row[name] != labels[name] for name in labels)]
                kept[part] = others + rows
                config.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
                print(*rows, sep="\n", flush=True)


def _labelled(seed: int, neurons: str, tails: str, differ: bool) -> dict[str, bool]:
    return in_activations(seed, RANKS[neurons], tails, differ)


if __name__ == "__main__":
    main(tyro.cli(Config))
