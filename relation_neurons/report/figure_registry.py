"""The figures of each experiment: functions of its tables by label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import refuse
from relation_neurons.figures import (
    answer_flows_figure,
    answer_trajectories_figure,
    carry_over_figure,
    concept_overlap_figure,
    controls_figure,
    dose_figure,
    dose_slider_figure,
    drops_figure,
    equal_cost_figure,
    error_kinds_figure,
    faithfulness_figure,
    flips_figure,
    frequency_figure,
    gains_figure,
    induction_figure,
    language_bars_figure,
    languages_figure,
    layer_distribution_figure,
    mean_dose_figure,
    methods_figure,
    neuron_types_figure,
    overlap_matrix_figure,
    pairs_figure,
    perplexity_figure,
    slices_figure,
    stability_figure,
    steps_figure,
    summary_figure,
    templates_figure,
)
from relation_neurons.figures.single_neuron import NEURON_FIGURES
from relation_neurons.results.experiment_result import ExperimentResult

FigureFunctions = Mapping[str, tuple[Callable[..., go.Figure], tuple[str, ...]]]


def _both_measures(
    make: Callable[..., go.Figure], label: str, tables: tuple[str, ...], **options: object
) -> FigureFunctions:
    """The same figure for both measures."""
    return {
        f"{label}_logprob": (partial(make, measure="logprob", **options), tables),
        f"{label}_accuracy": (partial(make, measure="correct", **options), tables),
    }


def _pairs(effects: pd.DataFrame, answers: pd.DataFrame, *, measure: str) -> go.Figure:
    """Effects between relations, with the mean change of own facts on the diagonal."""
    return pairs_figure(effects, measure, answers=answers)


def _trajectories(facts: pd.DataFrame, answers: pd.DataFrame) -> go.Figure:
    """Answer trajectories, with the values of k read from the answers."""
    return answer_trajectories_figure(facts, ks=sorted(answers["k"].unique().tolist()))


def _flows(facts: pd.DataFrame, answers: pd.DataFrame) -> go.Figure:
    """Answer flows, with the values of k read from the answers."""
    return answer_flows_figure(facts, ks=sorted(answers["k"].unique().tolist()))


FIGURES: Mapping[str, FigureFunctions] = {
    "summary": {
        "summary": (summary_figure, ("summary", "controls")),
        "accuracy": (partial(summary_figure, measure="correct"), ("summary", "controls")),
    },
    "layers": {"layers": (layer_distribution_figure, ("layers",))},
    "overlap": {
        "pairs": (overlap_matrix_figure, ("pairs",)),
    },
    "sharing": {
        **_both_measures(
            controls_figure,
            "differences",
            ("differences",),
            group="facts",
            panel="neurons",
            title="Less the effect of the other relation's own neurons",
        ),
        **_both_measures(controls_figure, "effects", ("effects",), group="facts", panel="neurons"),
    },
    "intra": _both_measures(controls_figure, "effects", ("effects",), panel="facts"),
    "inter": {
        **_both_measures(_pairs, "effects", ("effects", "answers")),
        "gains": (gains_figure, ("gains",)),
        "flips": (flips_figure, ("flips",)),
    },
    "pairs": _both_measures(pairs_figure, "effects", ("effects",)),
    "sweep": {
        **_both_measures(dose_figure, "dose", ("effects", "others")),
        **_both_measures(mean_dose_figure, "mean_dose", ("effects", "others")),
        **_both_measures(dose_slider_figure, "slider", ("effects", "others")),
    },
    "cumulativity": {
        "steps": (steps_figure, ("steps",)),
        "trajectories": (_trajectories, ("facts", "answers")),
        "flows": (_flows, ("facts", "answers")),
        **_both_measures(slices_figure, "slices", ("slices",)),
        "synergy": (partial(controls_figure, panel="split", title="Beyond the sum of its parts"), ("synergy",)),
    },
    "languages": {
        **_both_measures(languages_figure, "languages", ("effects", "by_language")),
        **_both_measures(language_bars_figure, "bars", ("effects",)),
        **_both_measures(drops_figure, "drops", ("by_language",), by="language"),
    },
    "templates": _both_measures(templates_figure, "templates", ("effects", "pooled")),
    "concepts": {"overlaps": (concept_overlap_figure, ("overlaps",))},
    "perplexity": {"perplexity": (perplexity_figure, ("perplexity", "states"))},
    "frequency": {"frequency": (frequency_figure, ("frequency",))},
    "neuron-types": {
        **_both_measures(neuron_types_figure, "types", ("effects", "pooled")),
        **_both_measures(drops_figure, "drops", ("pooled",), by="site"),
    },
    "errors": {"kinds": (error_kinds_figure, ("kinds",))},
    "confounds": {
        **_both_measures(controls_figure, "selections", ("selections",), panel="selection"),
        **_both_measures(controls_figure, "controls", ("controls",), panel="match"),
    },
    "neuron": NEURON_FIGURES,
    "faithfulness": {
        "curves": (faithfulness_figure, ("average",)),
        "induction": (induction_figure, ("induction",)),
    },
    "carry-over": _both_measures(carry_over_figure, "carry_over", ("effects", "pooled")),
    "stability": {"stability": (stability_figure, ("stability",))},
    "methods": {
        **_both_measures(methods_figure, "methods", ("methods",)),
        **_both_measures(equal_cost_figure, "equal_cost", ("equal_cost",)),
    },
}
"""For each experiment and label: the function that makes the figure, and the tables that it takes."""


def draw(name: str, result: ExperimentResult) -> dict[str, go.Figure]:
    """Make the figures of an experiment by label, except those with an empty table.

    Raises:
        RelationNeuronsError: If the tables were written by another version of this package and lack
            data that the figures need.
    """
    try:
        return {
            label: make(*(result.tables[table] for table in tables))
            for label, (make, tables) in FIGURES.get(name, {}).items()
            if all(len(result.tables[table]) for table in tables)
        }
    except KeyError as error:
        raise refuse(
            f"The tables of {name} have no {error}, which its figures need",
            do=f"reproduce {name} again with this version",
        ) from error
