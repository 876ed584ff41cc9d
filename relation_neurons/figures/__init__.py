"""Figures: pure functions from tables to plotly figures."""

from relation_neurons.figures.ablation import effect_matrix_figure, effects_figure
from relation_neurons.figures.neurons import layers_figure, overlap_figure
from relation_neurons.figures.relations import facts_figure, overlap_of_names_figure, token_lengths_figure

__all__ = [
    "effect_matrix_figure",
    "effects_figure",
    "facts_figure",
    "layers_figure",
    "overlap_figure",
    "overlap_of_names_figure",
    "token_lengths_figure",
]
