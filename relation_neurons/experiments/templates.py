"""Neurons found with one set of templates, tested with another (paper, Figure 8).

The paper finds neurons with one template set and tests the same facts in a second one. Where a relation has one
template, the neurons may be the template's as well as the relation's. Finding and testing with either set tells them
apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.results import transfer_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.results.sentences import without
from relation_neurons.statistics.effects import MEASURES, RATIO, compare, pooled
from relation_neurons.statistics.intervals import share_of_drop
from relation_neurons.validation import validated

QUESTION = "Does the drop hold when neurons found with one template set are tested with the other?"
TemplateSet = Literal["main", "zs"]
OTHER: dict[TemplateSet, TemplateSet] = {"main": "zs", "zs": "main"}
SETS = tuple(OTHER)
CELL = ["ablated", "detected", "tested"]


@validated
@dataclass(frozen=True)
class TemplatesConfig:
    """Find each relation's neurons with either template set, and test its facts in either."""

    n_template_controls: int | None = None
    """Random control sets per relation and template set; by default the study's."""

    def __post_init__(self) -> None:
        require_at_least(self, n_template_controls=2)


def templates(study: Study, config: TemplatesConfig = TemplatesConfig()) -> ExperimentResult:
    """The paper's second template set, crossed: found with `main` or `zs`, tested with `main` or `zs`.

    Relations without a second template set are left out; the others are each other's negatives.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated`, `detected` and `tested`; `pooled`, the same over all
        relations (`ablated` is `all`); `crossing`, from `crossings`, with rows for `all` as well; `overlap`, per
        relation the neurons `shared` by the two sets of `k`, their `coefficient` shared / k, and how many would be
        `expected` of two random sets; and `answers`.
    """
    part, left_out = _with_both(study)
    if part is None:
        tables = dict.fromkeys(("effects", "pooled", "crossing", "overlap", "answers"), pd.DataFrame())
        missing = without("a second template set", left_out)
        nothing = f"Fewer than two relations have a second template set, so nothing was tested.{missing}"
        return ExperimentResult("templates", QUESTION, tables, (nothing,))
    prompted = {name: replace(part.config.prompts, template_set=name) for name in SETS}
    selections = {name: replace(part.selection, prompts=one) for name, one in prompted.items()}
    targets = {(name, found): part.target(name, selection=selections[found]) for name in part.names for found in SETS}
    cases = []
    for (name, found), target in targets.items():
        for tested in SETS:
            labels = {"ablated": name, "detected": found, "tested": tested}
            cases.append(Case(target, part.evaluation(name, prompted[tested]), labels, selections[found]))
    (own, controls), seed = part.with_controls(cases, n=config.n_template_controls, pooled=True), study.config.seed
    over_all = pooled(own, controls)
    tables = {
        "effects": compare(own, controls, by=CELL, seed=seed),
        "pooled": compare(*over_all, by=CELL, seed=seed),
        "crossing": pd.concat([crossings(one, seed=seed) for one in (own, over_all[0])], ignore_index=True),
        "overlap": overlaps(targets, len(neuron_space(part.model, part.config.site))),
        "answers": own,
    }
    shown = [tables[name] for name in ("effects", "pooled", "crossing", "overlap")]
    return ExperimentResult("templates", QUESTION, tables, transfer_verdicts.templates(*shown, left_out=left_out))


def crossings(own: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The drop under neurons found with the other template set, as a share of that under those found with the same.

    Args:
        own: From `Study.changes`, with the labels `ablated`, `detected` and `tested`.
        seed: Of resamples.

    Returns:
        A row per `ablated`, `tested` and `measure`: `n`, facts; the effects `same` and `crossed`; `ratio` of the two
        with `_low` and `_high`, see `intervals.share_of_drop`.
    """
    rows = []
    for measure, (name, tested) in product(MEASURES, own[["ablated", "tested"]].drop_duplicates().to_numpy()):
        group = own[(own["ablated"] == name) & (own["tested"] == tested)]
        by_fact = group.groupby(["relation", "unit", "detected"], sort=False)[f"d_{measure}"].mean().unstack("detected")
        crossed, same = by_fact[OTHER[tested]].to_numpy(), by_fact[tested].to_numpy()
        ratio = share_of_drop(crossed, same, seed=seed)
        rows.append((name, tested, measure, len(same), same.mean(), crossed.mean(), *ratio[:3]))
    return pd.DataFrame(rows, columns=["ablated", "tested", "measure", "n", "same", "crossed", *RATIO])


def overlaps(targets: Mapping[tuple[str, TemplateSet], NeuronSet], n_neurons: int) -> pd.DataFrame:
    """How many neurons the sets found with the two template sets share, of `n_neurons` that there are."""
    rows = []
    for name in dict.fromkeys(name for name, _ in targets):
        main, zs = (targets[name, found] for found in SETS)
        shared, k = main.overlap(zs), len(main)
        rows.append((name, k, shared, shared / k, k * k / n_neurons))
    return pd.DataFrame(rows, columns=["ablated", "k", "shared", "coefficient", "expected"])


def _with_both(study: Study) -> tuple[Study | None, list[str]]:
    """The study of those relations that have both template sets, none if they are too few, and the others."""
    able = tuple(relation for relation in study.relations if relation.templates_zs)
    left_out = [relation.name for relation in study.relations if not relation.templates_zs]
    if not left_out:
        return study, []
    if len(able) < 2:
        return None, left_out
    return study.subset(able), left_out
