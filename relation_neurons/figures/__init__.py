"""Figures: pure functions from tables to plotly figures."""

from relation_neurons.figures.ablation import effect_matrix_figure, effects_figure
from relation_neurons.figures.doses import dose_figure, mean_dose_figure, slices_figure, steps_figure
from relation_neurons.figures.effects import (
    controls_figure,
    flips_figure,
    frequency_figure,
    methods_figure,
    pairs_figure,
)
from relation_neurons.figures.fates import fates_figure
from relation_neurons.figures.neurons import layers_figure, overlap_figure
from relation_neurons.figures.relations import facts_figure, overlap_of_names_figure, token_lengths_figure
from relation_neurons.figures.selected import (
    concept_overlap_figure,
    layer_distribution_figure,
    multiplicity_figure,
    overlap_matrix_figure,
)
from relation_neurons.figures.transfer import (
    drops_figure,
    error_kinds_figure,
    languages_figure,
    neuron_types_figure,
    perplexity_figure,
    templates_figure,
)

__all__ = [
    "concept_overlap_figure",
    "controls_figure",
    "dose_figure",
    "drops_figure",
    "effect_matrix_figure",
    "effects_figure",
    "error_kinds_figure",
    "facts_figure",
    "fates_figure",
    "flips_figure",
    "frequency_figure",
    "languages_figure",
    "layer_distribution_figure",
    "layers_figure",
    "mean_dose_figure",
    "methods_figure",
    "multiplicity_figure",
    "neuron_types_figure",
    "overlap_figure",
    "overlap_matrix_figure",
    "overlap_of_names_figure",
    "pairs_figure",
    "perplexity_figure",
    "slices_figure",
    "steps_figure",
    "templates_figure",
    "token_lengths_figure",
]
