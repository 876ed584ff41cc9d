"""Find, ablate and explore relation-specific neurons in language models.

The public names, in the order of the data flow. A name's module is imported when the name is first used, so that
`import relation_neurons` takes no time; type checkers and editors read the imports below.
"""

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relation_neurons.errors import RelationNeuronsError  # noqa: I001 (pipeline order)
    from relation_neurons.relations.relation import Fact, Relation
    from relation_neurons.relations.frames import relation_from_frame
    from relation_neurons.relations.loading import load_relations
    from relation_neurons.prompts.prompts import Prompt, PromptConfig, Prompts, make_prompts
    from relation_neurons.prompts.contrast import contrast
    from relation_neurons.prompts.concepts import concept_prompts, neutral_sentences
    from relation_neurons.models.loading import load_model
    from relation_neurons.activations.collection import Activations, collect_activations
    from relation_neurons.scores.average_precision import average_precision
    from relation_neurons.scores.effect_size import by_effect_size
    from relation_neurons.models.sites import Neuron
    from relation_neurons.neurons.neuron_set import NeuronSet
    from relation_neurons.neurons.selection import top_k
    from relation_neurons.neurons.controls import random_controls
    from relation_neurons.interventions.values import Constant, Mean, Quantile, Resample, Scale, Value, Zero
    from relation_neurons.interventions.interventions import Intervention, ablate, intervene
    from relation_neurons.evaluation.recall import Condition, recall, recall_under
    from relation_neurons.evaluation.generations import compare_generations
    from relation_neurons.evaluation.perplexity import perplexity
    from relation_neurons.evaluation.critical_neurons import critical_neurons
    from relation_neurons.evaluation.relation_summary import describe
    from relation_neurons.attribution.attribute import Attributions, attribute
    from relation_neurons.results.run import Run, open_run
    from relation_neurons.results.scorecard import scorecard
    from relation_neurons.neurons.files import load_neurons, save_neurons
    from relation_neurons.workers.config import WorkersConfig
    from relation_neurons.neurons.foreign_files import import_neurons
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
    "WorkersConfig",
    "Zero",
    "ablate",
    "attribute",
    "average_precision",
    "by_effect_size",
    "collect_activations",
    "compare_generations",
    "concept_prompts",
    "contrast",
    "critical_neurons",
    "describe",
    "import_neurons",
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
    "scorecard",
    "top_k",
]
__version__ = "0.1.0"

_MODULES = {
    "errors": ("RelationNeuronsError",),
    "relations.relation": ("Fact", "Relation"),
    "relations.frames": ("relation_from_frame",),
    "relations.loading": ("load_relations",),
    "prompts.prompts": ("Prompt", "PromptConfig", "Prompts", "make_prompts"),
    "prompts.contrast": ("contrast",),
    "prompts.concepts": ("concept_prompts", "neutral_sentences"),
    "models.loading": ("load_model",),
    "activations.collection": ("Activations", "collect_activations"),
    "scores.average_precision": ("average_precision",),
    "scores.effect_size": ("by_effect_size",),
    "models.sites": ("Neuron",),
    "neurons.neuron_set": ("NeuronSet",),
    "neurons.selection": ("top_k",),
    "neurons.controls": ("random_controls",),
    "interventions.values": ("Constant", "Mean", "Quantile", "Resample", "Scale", "Value", "Zero"),
    "interventions.interventions": ("Intervention", "ablate", "intervene"),
    "evaluation.recall": ("Condition", "recall", "recall_under"),
    "evaluation.generations": ("compare_generations",),
    "evaluation.perplexity": ("perplexity",),
    "evaluation.critical_neurons": ("critical_neurons",),
    "evaluation.relation_summary": ("describe",),
    "attribution.attribute": ("Attributions", "attribute"),
    "results.run": ("Run", "open_run"),
    "results.scorecard": ("scorecard",),
    "neurons.files": ("load_neurons", "save_neurons"),
    "workers.config": ("WorkersConfig",),
    "neurons.foreign_files": ("import_neurons",),
    "experiments.config": ("StudyConfig",),
    "experiments.case": ("Case",),
    "experiments.study": ("Study",),
    "experiments.session": ("open_study", "run_experiment"),
}
"""The public names of each module, the same as in the imports above."""
_HOME = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # which would take any name for a public one

    def __getattr__(name: str) -> object:
        """Import what is first used: a public name, or a package such as `figures`."""
        if name in _HOME:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        elif name[0] != "_" and importlib.util.find_spec(f"{__name__}.{name}"):
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            message = f"module '{__name__}' has no attribute '{name}'"
            raise AttributeError(message, name=name, obj=sys.modules[__name__])
        globals()[name] = value  # this function is not asked again
        return value

    def __dir__() -> list[str]:
        """The public names, imported or not, and what every module has."""
        return sorted({*globals(), *__all__})
