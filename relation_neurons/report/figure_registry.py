"""Which figures each experiment has: a function of its tables for every label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import refuse
from relation_neurons.figures import (
    answer_flows_figure,
    answer_trajectories_figure,
    concept_overlap_figure,
    controls_figure,
    dose_figure,
    dose_slider_figure,
    drops_figure,
    error_kinds_figure,
    flips_figure,
    frequency_figure,
    language_bars_figure,
    languages_figure,
    layer_distribution_figure,
    mean_dose_figure,
    methods_figure,
    multiplicity_figure,
    neuron_types_figure,
    overlap_matrix_figure,
    pairs_figure,
    perplexity_figure,
    slices_figure,
    steps_figure,
    summary_figure,
    templates_figure,
)
from relation_neurons.figures.single_neuron import NEURON_FIGURES
from relation_neurons.results.experiment_result import ExperimentResult

Drawings = Mapping[str, tuple[Callable[..., go.Figure], tuple[str, ...]]]


def _twice(draw: Callable[..., go.Figure], label: str, tables: tuple[str, ...], **options: object) -> Drawings:
    """The same figure for both measures."""
    return {
        f"{label}_logprob": (partial(draw, measure="logprob", **options), tables),
        f"{label}_accuracy": (partial(draw, measure="correct", **options), tables),
    }


def _fates(facts: pd.DataFrame, answers: pd.DataFrame) -> go.Figure:
    """The fates of facts at the ks that were asked."""
    return answer_trajectories_figure(facts, ks=sorted(answers["k"].unique().tolist()))


def _flows(facts: pd.DataFrame, answers: pd.DataFrame) -> go.Figure:
    """The answers at some of the ks that were asked."""
    return answer_flows_figure(facts, ks=sorted(answers["k"].unique().tolist()))


FIGURES: Mapping[str, Drawings] = {
    "summary": {
        "summary": (summary_figure, ("summary", "controls")),
        "accuracy": (partial(summary_figure, measure="correct"), ("summary", "controls")),
    },
    "layers": {"layers": (layer_distribution_figure, ("layers",))},
    "overlap": {
        "pairs": (overlap_matrix_figure, ("pairs",)),
        "multiplicity": (multiplicity_figure, ("multiplicity",)),
    },
    "intra": _twice(controls_figure, "effects", ("effects",), panel="facts"),
    "inter": {**_twice(pairs_figure, "effects", ("effects",)), "flips": (flips_figure, ("flips",))},
    "sweep": {
        **_twice(dose_figure, "dose", ("effects", "others")),
        **_twice(mean_dose_figure, "mean_dose", ("effects", "others")),
        **_twice(dose_slider_figure, "slider", ("effects", "others")),
    },
    "cumulativity": {
        "steps": (steps_figure, ("steps",)),
        "fates": (_fates, ("facts", "answers")),
        "flows": (_flows, ("facts", "answers")),
        **_twice(slices_figure, "slices", ("slices",)),
        **_twice(controls_figure, "together", ("together",)),
    },
    "languages": {
        **_twice(languages_figure, "languages", ("effects", "by_language")),
        **_twice(language_bars_figure, "bars", ("effects",)),
        **_twice(drops_figure, "drops", ("by_language",), by="language"),
    },
    "templates": _twice(templates_figure, "templates", ("effects", "pooled")),
    "concepts": {"overlaps": (concept_overlap_figure, ("overlaps",))},
    "perplexity": {"perplexity": (perplexity_figure, ("perplexity", "states"))},
    "frequency": {"frequency": (frequency_figure, ("frequency",))},
    "neuron-types": {
        **_twice(neuron_types_figure, "types", ("effects", "pooled")),
        **_twice(drops_figure, "drops", ("pooled",), by="site"),
    },
    "errors": {"kinds": (error_kinds_figure, ("kinds",))},
    "confounds": {
        **_twice(controls_figure, "selections", ("selections",), panel="selection"),
        **_twice(controls_figure, "controls", ("controls",), panel="match"),
    },
    "neuron": NEURON_FIGURES,
    "methods": _twice(methods_figure, "methods", ("methods",)),
}
"""For each experiment by name and each label: what draws it, and the tables that it is given."""


def draw(name: str, result: ExperimentResult) -> dict[str, go.Figure]:
    """The figures of an experiment by label; those whose tables are empty are left out.

    Raises:
        RelationNeuronsError: Tables that another version of this package wrote, without what figures need.
    """
    try:
        return {
            label: make(*(result.tables[table] for table in tables))
            for label, (make, tables) in FIGURES.get(name, {}).items()
            if all(len(result.tables[table]) for table in tables)
        }
    except KeyError as error:
        raise refuse(
            f"The tables of {name} have no {error}, which its figures are drawn from",
            do=f"reproduce {name} again with this version",
        ) from error
