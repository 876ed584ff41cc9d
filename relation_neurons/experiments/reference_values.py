"""Every neuron's usual values over the detection prompts of a study, to be written in place of what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.activations.collection import Activations
from relation_neurons.experiments.study import Study
from relation_neurons.interventions.reference import Reference
from relation_neurons.interventions.values import Mean, Quantile
from relation_neurons.prompts.prompts import relation_names

COLUMNS = 4096
"""Neurons that are worked on at a time."""


@dataclass(frozen=True)
class ReferenceValues:
    """What neurons usually are, for each relation.

    Attributes:
        off: The mean over the detection prompts of all other relations.
        on: The median over the relation's own detection prompts (`on_p50` of self-conditioning, Suau et al. 2022).
    """

    off: Mapping[str, Mean]
    on: Mapping[str, Quantile]


def reference_values(study: Study) -> ReferenceValues:
    """Read the detection prompts, unless the folder of the study has these values already."""
    prompts, site = study.detection(), study.config.site
    table = study.table("rankings/reference", lambda: _reduced(study.activations(prompts)), prompts, site)
    space, counts = study.ranking().space, Counter(prompt.relation for prompt in prompts)

    def reference(name: str, n: int, column: str) -> Reference:
        return Reference(name, n, space, torch.tensor(table[column].to_numpy()[None], dtype=torch.float64))

    others = {name: len(prompts) - counts[name] for name in study.names}
    return ReferenceValues(
        {name: Mean(reference(f"all but {name}", others[name], f"off:{name}")) for name in study.names},
        {name: Quantile(reference(name, counts[name], f"on:{name}"), 0.5) for name in study.names},
    )


def _reduced(activations: Activations) -> pd.DataFrame:
    """A row per neuron, with the columns `off:<relation>` and `on:<relation>`."""
    names = relation_names(activations.prompts)
    owner = np.array([names.index(prompt.relation) for prompt in activations.prompts])
    parts = [_columns(part.double().numpy(force=True), owner) for part in activations.values.split(COLUMNS, dim=1)]
    labels = [f"{kind}:{name}" for kind in ("off", "on") for name in names]
    return pd.DataFrame(np.concatenate(parts, axis=1).T, columns=labels)


def _columns(values: Float[ndarray, "prompt neuron"], owner: ndarray) -> Float[ndarray, "column neuron"]:
    """For each relation the mean over the others' prompts, then for each the median over its own."""
    relations = range(owner.max() + 1)
    off = [values[owner != relation].mean(axis=0) for relation in relations]
    return np.stack([*off, *(np.median(values[owner == relation], axis=0) for relation in relations)])
