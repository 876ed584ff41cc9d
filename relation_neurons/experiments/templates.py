"""Neurons found with one set of templates, tested with another (paper, Figure 8).

The paper finds neurons with one template set and asks the same facts in a second one. Where a relation has one
template, the neurons may be the template's as well as the relation's. Finding and testing with either set tells them
apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.study import Case, Study
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import FALLS, MEASURES, RATIO, RISES, WHAT, compare, share_of_drop
from relation_neurons.statistics.formatting import interval_text, name_list, range_text

QUESTION = "Does the drop hold when neurons found with one template set are tested with the other?"
TemplateSet = Literal["main", "zs"]
OTHER: dict[TemplateSet, TemplateSet] = {"main": "zs", "zs": "main"}
SETS = tuple(OTHER)
CELL = ["ablated", "detected", "asked"]


@dataclass(frozen=True)
class TemplatesConfig:
    """Find each relation's neurons with either template set, and ask its facts in either."""

    n_template_controls: int | None = None
    """Random control sets per relation and template set; by default the study's."""

    def __post_init__(self) -> None:
        require_at_least(self, n_template_controls=2)


def templates(study: Study, config: TemplatesConfig = TemplatesConfig()) -> ExperimentResult:
    """The paper's second template set, crossed: found with `main` or `zs`, asked with `main` or `zs`.

    Relations without a second template set are left out; the others are each other's negatives.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated`, `detected` and `asked`; `pooled`, the same over all
        relations (`ablated` is `all`); `crossing`, from `crossings`, with rows for `all` as well; `overlap`, per
        relation the neurons `shared` by the two sets of `k`, their `coefficient` shared / k, and how many would be
        `expected` of two random sets; and `answers`.
    """
    part, left_out = _with_both(study)
    if part is None:
        tables = dict.fromkeys(("effects", "pooled", "crossing", "overlap", "answers"), pd.DataFrame())
        nothing = f"Fewer than two relations have a second template set, so nothing was asked.{_left_out(left_out)}"
        return ExperimentResult("templates", QUESTION, tables, (nothing,))
    prompted = {name: replace(part.config.prompts, template_set=name) for name in SETS}
    selections = {name: replace(part.selection, prompts=one) for name, one in prompted.items()}
    targets = {(name, found): part.target(name, selection=selections[found]) for name in part.names for found in SETS}
    own_cases, control_cases = [], []
    for (name, found), target in targets.items():
        drawn = part.controls(target, n=config.n_template_controls, selection=selections[found])
        for asked in SETS:
            prompts = part.evaluation(name, prompted[asked])
            labels = {"ablated": name, "detected": found, "asked": asked}
            own_cases.append(Case(target, prompts, labels))
            control_cases += [Case(one, prompts, labels | {"draw": draw}) for draw, one in enumerate(drawn)]
    own, controls, seed = part.changes(own_cases), part.changes(control_cases), study.config.seed
    pooled = [table.assign(ablated="all") for table in (own, controls)]
    tables = {
        "effects": compare(own, controls, by=CELL, seed=seed),
        "pooled": compare(*pooled, by=CELL, seed=seed),
        "crossing": pd.concat([crossings(one, seed=seed) for one in (own, pooled[0])], ignore_index=True),
        "overlap": overlaps(targets, len(neuron_space(part.model, part.config.site))),
        "answers": own,
    }
    shown = (tables[name] for name in ("effects", "pooled", "crossing", "overlap"))
    return ExperimentResult("templates", QUESTION, tables, verdict(*shown, left_out=left_out))


def crossings(own: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The drop under neurons found with the other template set, as a share of that under those found with the same.

    Args:
        own: From `Study.changes`, with the labels `ablated`, `detected` and `asked`.
        seed: Of resamples.

    Returns:
        A row per `ablated`, `asked` and `measure`: `n`, facts; the effects `same` and `crossed`; `ratio` of the two
        with `_low` and `_high`, see `languages.share_of_drop`.
    """
    rows = []
    for measure, (name, asked) in product(MEASURES, own[["ablated", "asked"]].drop_duplicates().to_numpy()):
        group = own[(own["ablated"] == name) & (own["asked"] == asked)]
        by_fact = group.groupby(["relation", "fact", "detected"], sort=False)[f"d_{measure}"].mean().unstack("detected")
        crossed, same = by_fact[OTHER[asked]].to_numpy(), by_fact[asked].to_numpy()
        ratio = share_of_drop(crossed, same, seed=seed)
        rows.append((name, asked, measure, len(same), same.mean(), crossed.mean(), *ratio[:3]))
    return pd.DataFrame(rows, columns=["ablated", "asked", "measure", "n", "same", "crossed", *RATIO])


def overlaps(targets: Mapping[tuple[str, TemplateSet], NeuronSet], n_neurons: int) -> pd.DataFrame:
    """How many neurons the sets found with the two template sets share, of `n_neurons` that there are."""
    rows = []
    for name in dict.fromkeys(name for name, _ in targets):
        main, zs = (targets[name, found] for found in SETS)
        shared, k = main.overlap(zs), len(main)
        rows.append((name, k, shared, shared / k, k * k / n_neurons))
    return pd.DataFrame(rows, columns=["ablated", "k", "shared", "coefficient", "expected"])


def verdict(
    effects: pd.DataFrame,
    pooled: pd.DataFrame,
    crossing: pd.DataFrame,
    overlap: pd.DataFrame,
    *,
    left_out: Sequence[str] = (),
) -> tuple[str, ...]:
    """What the tables say."""
    sentences = []
    for measure, what in WHAT.items():
        rows, over_all, shares = (table[table["measure"] == measure] for table in (effects, pooled, crossing))
        cells = []
        for row in over_all.to_dict("records"):
            there = rows[(rows["detected"] == row["detected"]) & (rows["asked"] == row["asked"])]
            counts = [int((there["verdict"] == side).sum()) for side in (FALLS, RISES)]
            rises = f", rises in {counts[1]}" if counts[1] else ""
            cells.append(
                f"{row['detected']} -> {row['asked']} {counts[0]} of {len(there)}{rises} "
                f"(pooled {interval_text(row)}, controls {row['random']:+.2f}, {row['verdict']})"
            )
        kept = [
            f"{row['asked']} {row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
            for row in shares[shares["ablated"] == "all"].dropna(subset="ratio").to_dict("records")
        ]
        sentences.append(
            f"{what} falls beyond chance and beyond matched random neurons, by templates of finding -> asking, in: "
            f"{name_list(cells)}, n = {range_text(rows['n'])} facts a relation, Holm-corrected over all "
            f"cells. The pooled change under neurons found with the other set, as a share of that under those found "
            f"with the set that is asked, where the interval of the latter lies below zero: {name_list(kept)}."
        )
    sentences.append(
        f"The two sets of neurons share {overlap['coefficient'].median():.0%} (median over relations, "
        f"{overlap['coefficient'].min():.0%} to {overlap['coefficient'].max():.0%}; by chance "
        f"{(overlap['expected'] / overlap['k']).median():.1%}).{_left_out(left_out)}"
    )
    return (holds(effects), *sentences)


def holds(effects: pd.DataFrame) -> str:
    """In how many relations a drop that is shown with one template set is shown with the other as well."""
    parts = []
    for measure, what in WHAT.items():
        falls = effects[(effects["measure"] == measure) & (effects["verdict"] == FALLS)]
        cells = set(falls[CELL].itertuples(index=False, name=None))
        same = [(name, found) for name, found, asked in cells if found == asked]
        kept = [(name, found) for name, found in same if (name, found, OTHER[found]) in cells]
        parts.append(f"{what[0].lower()}{what[1:]} {len(kept)} of {len(same)}")
    return (
        "Of the drops that are shown with neurons found and tested with one template set, so many are shown when they "
        f"are tested with the other (pairs of relation and set): {', '.join(parts)}."
    )


def _with_both(study: Study) -> tuple[Study | None, list[str]]:
    """The study of those relations that have both template sets, none if they are too few, and the others."""
    able = tuple(relation for relation in study.relations if relation.templates_zs)
    left_out = [relation.name for relation in study.relations if not relation.templates_zs]
    if not left_out:
        return study, []
    if len(able) < 2:
        return None, left_out
    part = Study(study.model, able, study.config, show=study.show)
    part.answers, part.folder = study.answers, study.folder
    return part, left_out


def _left_out(names: Sequence[str]) -> str:
    return f" Without a second template set and left out: {', '.join(names)}." if names else ""
