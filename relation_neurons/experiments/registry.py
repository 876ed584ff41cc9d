"""Experiments by name, in three sizes: `smoke` takes about a minute, `demo` minutes on a CPU, `full` is the paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from relation_neurons.errors import nearest, refuse
from relation_neurons.experiments.carry_over import CarryOverConfig, carry_over
from relation_neurons.experiments.concepts import ConceptsConfig, concepts
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.confounds import ConfoundsConfig, confounds
from relation_neurons.experiments.cumulativity import CumulativityConfig, cumulativity
from relation_neurons.experiments.error_analysis import ErrorKindsConfig, error_kinds
from relation_neurons.experiments.faithfulness import FaithfulnessConfig, faithfulness
from relation_neurons.experiments.frequency import FrequencyConfig, frequency
from relation_neurons.experiments.inter_relation import InterConfig, inter
from relation_neurons.experiments.intra_relation import IntraConfig, intra
from relation_neurons.experiments.k_sweep import SweepConfig, sweep
from relation_neurons.experiments.languages import LanguagesConfig, languages
from relation_neurons.experiments.layers import LayersConfig, layers
from relation_neurons.experiments.named_pairs import NamedPairsConfig, named_pairs
from relation_neurons.experiments.neuron_types import NeuronTypesConfig, neuron_types
from relation_neurons.experiments.overlap import OverlapConfig, overlap
from relation_neurons.experiments.perplexity import LanguageModellingConfig, language_modelling
from relation_neurons.experiments.profiles import Profile
from relation_neurons.experiments.scorer_comparison import MethodsConfig, methods
from relation_neurons.experiments.sharing import SharingConfig, sharing
from relation_neurons.experiments.stability import StabilityConfig, stability
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.summary import SummaryConfig, summary
from relation_neurons.experiments.templates import TemplatesConfig, templates
from relation_neurons.prompts.prompts import PromptConfig
from relation_neurons.results.experiment_result import ExperimentResult


@dataclass(frozen=True)
class Experiment:
    """An experiment by name.

    Attributes:
        run: The function that runs it.
        demo: Options with which a small model on a CPU takes minutes.
        smoke: Options that show in about a minute that everything works; by default those of `demo`.
    """

    run: Callable[[Study, Any], ExperimentResult]
    demo: Any
    smoke: Any = None

    @property
    def config(self) -> type[Any]:
        """The class of its options; made without arguments they are the paper's."""
        return type(self.demo)


DEMO_KS = (10, 200, 1000, 3000, 10_000, 50_000)
SMOKE_KS = (200, 3000, 20_000)
EXPERIMENTS: Mapping[str, Experiment] = {
    "layers": Experiment(layers, LayersConfig(), LayersConfig(n_shuffles=2)),
    "neuron-types": Experiment(
        neuron_types, NeuronTypesConfig(n_type_controls=3), NeuronTypesConfig(n_type_controls=2)
    ),
    "overlap": Experiment(overlap, OverlapConfig()),
    "stability": Experiment(stability, StabilityConfig(n_samples=3), StabilityConfig(n_samples=2)),
    "sharing": Experiment(
        sharing, SharingConfig(n_sharing_controls=20), SharingConfig(n_pairs=1, n_sharing_controls=2)
    ),
    "intra": Experiment(intra, IntraConfig(n_detection_tested=10), IntraConfig(n_detection_tested=0)),
    "inter": Experiment(
        inter,
        InterConfig(n_cross_controls=2, n_tested=12),
        InterConfig(n_cross_controls=2, n_tested=4, n_mechanism_controls=1),
    ),
    "pairs": Experiment(named_pairs, NamedPairsConfig(n_pair_controls=20), NamedPairsConfig(n_pair_controls=2)),
    "sweep": Experiment(
        sweep,
        SweepConfig(ks=DEMO_KS, n_sweep_controls=2, n_other=1),
        SweepConfig(ks=SMOKE_KS, n_sweep_controls=2, n_other=1),
    ),
    "cumulativity": Experiment(
        cumulativity,
        CumulativityConfig(ks=DEMO_KS, n_slices=3, n_slice_controls=2),
        CumulativityConfig(ks=SMOKE_KS, n_slices=2, n_slice_controls=2),
    ),
    "languages": Experiment(
        languages,
        LanguagesConfig(n_language_controls=3),
        LanguagesConfig(languages=("de", "zh"), n_language_controls=2),
    ),
    "templates": Experiment(templates, TemplatesConfig(n_template_controls=3), TemplatesConfig(n_template_controls=2)),
    "concepts": Experiment(concepts, ConceptsConfig(n_concept_controls=2)),
    "perplexity": Experiment(language_modelling, LanguageModellingConfig(n_sentence_controls=3)),
    "frequency": Experiment(frequency, FrequencyConfig()),
    "errors": Experiment(error_kinds, ErrorKindsConfig()),
    "confounds": Experiment(confounds, ConfoundsConfig(n_confound_controls=2)),
}
"""By their names on the command line, in the order in which `all` runs them: those that read the same together."""
BESIDE: Mapping[str, Experiment] = {
    "summary": Experiment(summary, SummaryConfig()),
    "faithfulness": Experiment(
        faithfulness,
        FaithfulnessConfig(
            ks=(200, 3000), shares=(0.001, 0.01, 0.1, 0.5, 1.0), n_circuit_controls=2, n_induction_controls=2, n_asked=2
        ),
        FaithfulnessConfig(
            scorers=("average_precision",),
            ks=(),
            shares=(0.01, 0.5, 1.0),
            n_circuit_controls=2,
            n_induction_controls=2,
            n_asked=1,
        ),
    ),
    "methods": Experiment(methods, MethodsConfig(n_other=2, n_method_controls=2)),
    "carry-over": Experiment(carry_over, CarryOverConfig(n_other=2, n_carry_over_controls=2)),
}
"""Experiments that `all` leaves out."""

STUDIES: Mapping[str, StudyConfig] = {
    "smoke": StudyConfig(
        n_controls=2,
        validation="none",
        keep_critical=True,  # the screen takes longer than all the rest
        prompts=PromptConfig(shots=1, n_evaluation=6, n_detection=16),
    ),
    "demo": StudyConfig(n_controls=20, validation="none", prompts=PromptConfig(n_evaluation=25)),
    "full": StudyConfig(),
}
"""The study of each profile."""

DEMO_RELATIONS = (
    "country_capital",
    "country_continent",
    "country_currency",
    "country_language",
    "landmark_continent",
    "landmark_country",
    "person_occupation",
    "person_pro_sport",
)
"""Relations of which the embedded model knows enough to lose something; see docs/decisions."""
RUN = StudyConfig(
    relations=DEMO_RELATIONS,
    site="gate",
    scorer="average_precision_x_attribution_t",
    k=100,
    n_controls=20,
    validation="none",
    rule="string",
    prompts=PromptConfig(),
)
"""The defaults of `relation-neurons run`, chosen on detection facts; see docs/decisions."""
RUN_OPTIONS: Mapping[str, Any] = {
    "summary": SummaryConfig(),
    "layers": LayersConfig(n_shuffles=2),
    "overlap": OverlapConfig(),
    "intra": IntraConfig(n_detection_tested=0),
    "inter": InterConfig(n_cross_controls=0, n_tested=20),
}
"""The experiments of `relation-neurons run`, with their options."""


def options(name: str, profile: str = "full") -> Any:
    """Options of an experiment in a profile.

    Args:
        name: Of `EXPERIMENTS` or `BESIDE`.
        profile: `smoke`, `demo` or `full`.

    Raises:
        RelationNeuronsError: An unknown experiment or profile.
    """
    found = find_experiment(name)
    study_config(profile)  # refuses an unknown one
    if profile == "full":
        return found.config()
    return found.demo if profile == "demo" or found.smoke is None else found.smoke


def find_experiment(name: str) -> Experiment:
    """An experiment by name.

    Raises:
        RelationNeuronsError: No experiment has that name.
    """
    known = {**EXPERIMENTS, **BESIDE}
    if name not in known:
        raise refuse(f"'{name}' is not an experiment", expected=nearest(name, known))
    return known[name]


def study_config(profile: str, **changes: Any) -> StudyConfig:
    """The study of a profile, with some fields changed.

    Raises:
        RelationNeuronsError: An unknown profile, or a value that a field cannot have.
    """
    if profile not in STUDIES:
        raise refuse(f"'{profile}' is not a profile", expected=nearest(profile, get_args(Profile)))
    return replace(STUDIES[profile], **changes)
