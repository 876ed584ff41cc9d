"""Find, ablate and explore relation-specific neurons in language models.

The public names, in the order of the data flow.
"""

from relation_neurons.errors import RelationNeuronsError  # noqa: I001 (pipeline order)
from relation_neurons.relations.relation import Fact, Relation
from relation_neurons.relations.tables import relation_from_frame
from relation_neurons.relations.loading import load_relations
from relation_neurons.prompts.prompts import Prompt, PromptConfig, Prompts, make_prompts
from relation_neurons.prompts.contrast import contrast
from relation_neurons.prompts.concepts import concept_prompts, neutral_sentences
from relation_neurons.models.loading import load_model
from relation_neurons.activations.collection import Activations, collect_activations
from relation_neurons.scores.average_precision import average_precision
from relation_neurons.scores.effect_size import by_effect_size
from relation_neurons.models.sites import Neuron
from relation_neurons.neurons.neuron_set import NeuronSet, top_k
from relation_neurons.neurons.controls import random_controls
from relation_neurons.interventions.values import Constant, Mean, Quantile, Resample, Scale, Value, Zero
from relation_neurons.interventions.interventions import Intervention, ablate, intervene
from relation_neurons.evaluation.recall import Condition, recall, recall_under
from relation_neurons.evaluation.perplexity import perplexity
from relation_neurons.evaluation.critical_neurons import critical_neurons
from relation_neurons.evaluation.relation_summary import describe
from relation_neurons.attribution.attribute import Attributions, attribute
from relation_neurons.results.run import Run, open_run
from relation_neurons.neurons.files import load_neurons, save_neurons
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.session import open_study, run_experiment

__all__ = [
    "Activations",
    "Attributions",
    "Case",
    "Condition",
    "Constant",
    "Fact",
    "Intervention",
    "Mean",
    "Neuron",
    "NeuronSet",
    "Prompt",
    "PromptConfig",
    "Prompts",
    "Quantile",
    "Relation",
    "RelationNeuronsError",
    "Resample",
    "Run",
    "Scale",
    "Study",
    "StudyConfig",
    "Value",
    "Zero",
    "ablate",
    "attribute",
    "average_precision",
    "by_effect_size",
    "collect_activations",
    "concept_prompts",
    "contrast",
    "critical_neurons",
    "describe",
    "intervene",
    "load_model",
    "load_neurons",
    "load_relations",
    "make_prompts",
    "neutral_sentences",
    "open_run",
    "open_study",
    "perplexity",
    "random_controls",
    "recall",
    "recall_under",
    "relation_from_frame",
    "run_experiment",
    "save_neurons",
    "top_k",
]
__version__ = "0.1.0"
