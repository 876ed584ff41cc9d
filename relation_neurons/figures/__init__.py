"""Figures: pure functions from tables to plotly figures."""

from relation_neurons.figures.answer_flows import answer_flows_figure
from relation_neurons.figures.answer_trajectories import answer_trajectories_figure
from relation_neurons.figures.carry_over import carry_over_figure
from relation_neurons.figures.dose_response import dose_figure, mean_dose_figure, slices_figure, steps_figure
from relation_neurons.figures.dose_slider import dose_slider_figure
from relation_neurons.figures.effects import controls_figure, flips_figure, pairs_figure
from relation_neurons.figures.error_analysis import error_kinds_figure
from relation_neurons.figures.faithfulness import faithfulness_figure, induction_figure
from relation_neurons.figures.frequency import frequency_figure
from relation_neurons.figures.gains import gains_figure
from relation_neurons.figures.language_bars import language_bars_figure
from relation_neurons.figures.neuron_locations import (
    concept_overlap_figure,
    layer_distribution_figure,
)
from relation_neurons.figures.relations import facts_figure, overlap_of_names_figure, token_lengths_figure
from relation_neurons.figures.score_correlation import score_pair_figure
from relation_neurons.figures.scorer_comparison import equal_cost_figure, methods_figure
from relation_neurons.figures.shared_neurons import overlap_matrix_figure
from relation_neurons.figures.single_neuron import (
    neuron_effects_figure,
    neuron_scores_figure,
    neuron_tokens_figure,
    neuron_values_figure,
    shaded_prompts,
)
from relation_neurons.figures.stability import stability_figure
from relation_neurons.figures.summary import summary_figure
from relation_neurons.figures.transfer import (
    drops_figure,
    languages_figure,
    neuron_types_figure,
    perplexity_figure,
    templates_figure,
)

__all__ = [
    "answer_flows_figure",
    "answer_trajectories_figure",
    "carry_over_figure",
    "concept_overlap_figure",
    "controls_figure",
    "dose_figure",
    "dose_slider_figure",
    "drops_figure",
    "equal_cost_figure",
    "error_kinds_figure",
    "facts_figure",
    "faithfulness_figure",
    "flips_figure",
    "frequency_figure",
    "gains_figure",
    "induction_figure",
    "language_bars_figure",
    "languages_figure",
    "layer_distribution_figure",
    "mean_dose_figure",
    "methods_figure",
    "neuron_effects_figure",
    "neuron_scores_figure",
    "neuron_tokens_figure",
    "neuron_types_figure",
    "neuron_values_figure",
    "overlap_matrix_figure",
    "overlap_of_names_figure",
    "pairs_figure",
    "perplexity_figure",
    "score_pair_figure",
    "shaded_prompts",
    "slices_figure",
    "stability_figure",
    "steps_figure",
    "summary_figure",
    "templates_figure",
    "token_lengths_figure",
]
