"""Which figures each experiment has: a function of its tables for every label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import plotly.graph_objects as go

from relation_neurons.experiments.finding import Finding
from relation_neurons.figures.doses import dose_figure, fates_figure, mean_dose_figure, slices_figure, steps_figure
from relation_neurons.figures.effects import (
    controls_figure,
    flips_figure,
    frequency_figure,
    methods_figure,
    pairs_figure,
)
from relation_neurons.figures.selected import (
    concept_overlap_figure,
    layer_distribution_figure,
    multiplicity_figure,
    overlap_matrix_figure,
)
from relation_neurons.figures.transfer import (
    error_kinds_figure,
    languages_figure,
    neuron_types_figure,
    perplexity_figure,
    templates_figure,
)

Drawings = Mapping[str, tuple[Callable[..., go.Figure], tuple[str, ...]]]


def _twice(draw: Callable[..., go.Figure], label: str, tables: tuple[str, ...], **options: object) -> Drawings:
    """The same figure for both measures."""
    return {
        f"{label}_logprob": (partial(draw, measure="logprob", **options), tables),
        f"{label}_accuracy": (partial(draw, measure="correct", **options), tables),
    }


FIGURES: Mapping[str, Drawings] = {
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
    },
    "cumulativity": {
        "steps": (steps_figure, ("steps",)),
        "fates": (fates_figure, ("facts",)),
        **_twice(slices_figure, "slices", ("slices",)),
        **_twice(controls_figure, "together", ("together",)),
    },
    "languages": _twice(languages_figure, "languages", ("effects", "by_language")),
    "templates": _twice(templates_figure, "templates", ("effects", "pooled")),
    "concepts": {"overlaps": (concept_overlap_figure, ("overlaps",))},
    "perplexity": {"perplexity": (perplexity_figure, ("perplexity", "states"))},
    "frequency": {"frequency": (frequency_figure, ("frequency",))},
    "neuron-types": _twice(neuron_types_figure, "types", ("effects", "pooled")),
    "errors": {"kinds": (error_kinds_figure, ("kinds",))},
    "confounds": {
        **_twice(controls_figure, "selections", ("selections",), panel="selection"),
        **_twice(controls_figure, "controls", ("controls",), panel="match"),
    },
    "methods": _twice(methods_figure, "methods", ("methods",)),
}
"""For each experiment by name and each label: what draws it, and the tables that it is given."""


def draw(name: str, finding: Finding) -> dict[str, go.Figure]:
    """The figures of an experiment by label; those whose tables are empty are left out."""
    return {
        label: make(*(finding.tables[table] for table in tables))
        for label, (make, tables) in FIGURES.get(name, {}).items()
        if all(len(finding.tables[table]) for table in tables)
    }
