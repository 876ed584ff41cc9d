"""The same question on the tests' models whose weights are written, not trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

import relation_neurons as rn
from benchmarks.injected_parts.scoring import rank_by_all, recovery
from tests.planted import plant
from tests.planted_properties import plant_properties

CONFIG = rn.PromptConfig(shots=0, n_evaluation=15)


def planted_recovery(seeds: Sequence[int]) -> pd.DataFrame:
    """The tables of `recovery` on three planted models for each seed, with their names and the seed.

    `planted`: few neurons for each relation, and some for each subject. `properties`: eight relations, of which two
    share neurons and one disturbs another. `one of 16`: as many neurons fire on each relation, but one alone does
    anything.
    """
    tables = []
    for seed in seeds:
        for name, model, relations, truth in _models(seed):
            prompts = rn.make_prompts(relations, CONFIG).detection
            depth = max(map(len, truth.values()))
            tables.append(recovery(rank_by_all(model, prompts, depth, seed=seed), truth).assign(model=name, seed=seed))
    return pd.concat(tables, ignore_index=True)


def _models(seed: int) -> Iterator[tuple[str, Any, Sequence[rn.Relation], Mapping[str, rn.NeuronSet]]]:
    planted, properties = plant(seed), plant_properties(seed)
    yield "planted", planted.model, planted.relations, planted.neurons
    yield "properties", properties.model, properties.relations, properties.neurons
    single = plant_properties(seed, cumulative=False)
    yield "one of 16", single.model, single.relations, single.carriers
