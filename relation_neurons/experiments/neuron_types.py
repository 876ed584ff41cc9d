"""Neurons of each matrix on its own (paper, Figures 24 to 29)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from relation_neurons.errors import RelationNeuronsError, refuse, require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import NeuronSpace, SiteName, expand_site, named_site
from relation_neurons.neurons.ranking import PAPER_K, scaled_k
from relation_neurons.results import transfer_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.results.sentences import critical
from relation_neurons.statistics.effects import compare, pooled
from relation_neurons.validation import validated

QUESTION = "Which kind of neurons carries the relations: attention's, or the MLP's gate, up or down?"


@validated
@dataclass(frozen=True)
class NeuronTypesConfig:
    """Rank the neurons of each site on their own, ablate the best, and test the relation's facts."""

    sites: tuple[SiteName, ...] = ("all", "attn", "up", "gate", "down")
    """Sites, beside the study's own."""
    site_k: int | None = None
    """Neurons per relation and site; by default 3,000 of Llama-2-7B's at the site, and the same share of a smaller
    model's. At the study's own site it is the study's."""
    n_type_controls: int = 25
    """Random control sets per relation and site."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", tuple(map(named_site, self.sites)))
        require_at_least(self, site_k=1, n_type_controls=2)
        if not self.sites:
            raise refuse("There is no site", expected="at least one, such as attn")


def neuron_types(study: Study, config: NeuronTypesConfig = NeuronTypesConfig()) -> ExperimentResult:
    """The paper's comparison of neuron types, each with controls matched at its own site.

    Sites that the model does not have, such as gate without a gated MLP, are left out.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated` and `site`, with `k` and the `share` of the site's
        neurons that it is, and `per_thousand`, the effect per thousand neurons, with `_low` and `_high`; `pooled`, the
        same over all relations (`ablated` is `all`); `answers`; and `critical`, the critical neurons of all sites.
    """
    spaces, left_out = _spaces(study, config)
    sizes = {site: _size(study, config, site, space) for site, space in spaces.items()}
    cases = []
    for site, k in sizes.items():
        selection = replace(study.selection, site=site)
        for name in study.names:
            target, labels = study.target(name, k, selection), {"ablated": name, "site": site}
            cases.append(Case(target, study.evaluation(name), labels, selection))
    (own, controls), seed = study.with_controls(cases, n=config.n_type_controls, pooled=True), study.config.seed
    effects = compare(own, controls, by=["ablated", "site"], seed=seed)
    everywhere = compare(*pooled(own, controls), by=["ablated", "site"], seed=seed)
    tables = {
        "effects": _with_size(effects, sizes, spaces),
        "pooled": _with_size(everywhere, sizes, spaces),
        "answers": own,
        "critical": _critical(study, sizes),
    }
    sentences = transfer_verdicts.neuron_types(tables["effects"], tables["pooled"], left_out)
    sentences += (critical(tables["critical"], "these sites", kept=study.config.keep_critical),)
    return ExperimentResult("neuron_types", QUESTION, tables, sentences)


def _critical(study: Study, sites: Iterable[str]) -> pd.DataFrame:
    parts = dict.fromkeys(part for site in sites for part in expand_site(site))
    return pd.concat([study.critical.at(part) for part in parts], ignore_index=True)


def _spaces(study: Study, config: NeuronTypesConfig) -> tuple[dict[str, NeuronSpace], list[str]]:
    """The neurons at each site that the model has, the widest sites first, and the sites that it has not."""
    spaces, left_out = {}, []
    for site in dict.fromkeys((*config.sites, study.config.site)):
        expand_site(site)
        try:
            spaces[str(site)] = neuron_space(study.model, site)
        except RelationNeuronsError:
            left_out.append(str(site))
    # What was read for a wide site is not read again for the sites in it.
    return dict(sorted(spaces.items(), key=lambda item: -len(item[1]))), left_out


def _size(study: Study, config: NeuronTypesConfig, site: str, space: NeuronSpace) -> int:
    if site == study.config.site:
        return study.k
    k = scaled_k(PAPER_K, space) if config.site_k is None else config.site_k
    if k > len(space):
        raise refuse(f"k is {k}", expected=f"1 to {len(space)}, the number of neurons at '{site}'")
    return k


def _with_size(table: pd.DataFrame, sizes: dict[str, int], spaces: dict[str, NeuronSpace]) -> pd.DataFrame:
    table = table.copy()
    k = table["site"].map(sizes)
    table.insert(2, "k", k)
    table.insert(3, "share", k / table["site"].map({site: len(space) for site, space in spaces.items()}))
    for end in ("", "_low", "_high"):
        table[f"per_thousand{end}"] = 1000 * table[f"effect{end}"] / k
    return table
