"""Experiments by name, and how much they ask: `smoke` takes seconds, `demo` minutes on a CPU, `full` is the paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from relation_neurons.edge import check_fields
from relation_neurons.errors import nearest, refuse
from relation_neurons.experiments.asking import Show
from relation_neurons.experiments.concepts import ConceptsConfig, concepts
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.confounds import ConfoundsConfig, confounds
from relation_neurons.experiments.cumulativity import CumulativityConfig, cumulativity
from relation_neurons.experiments.error_kinds import ErrorKindsConfig, error_kinds
from relation_neurons.experiments.finding import Finding
from relation_neurons.experiments.frequency import FrequencyConfig, frequency
from relation_neurons.experiments.inter import InterConfig, inter
from relation_neurons.experiments.intra import IntraConfig, intra
from relation_neurons.experiments.language_modelling import LanguageModellingConfig, language_modelling
from relation_neurons.experiments.languages import LanguagesConfig, languages
from relation_neurons.experiments.layers import LayersConfig, layers
from relation_neurons.experiments.methods import MethodsConfig, methods
from relation_neurons.experiments.neuron_types import NeuronTypesConfig, neuron_types
from relation_neurons.experiments.overlap import OverlapConfig, overlap
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.sweep import SweepConfig, sweep
from relation_neurons.experiments.templates import TemplatesConfig, templates
from relation_neurons.memory import estimate, require_memory
from relation_neurons.models import load_model
from relation_neurons.packs import load_relations
from relation_neurons.progress import bar
from relation_neurons.prompts import PromptConfig, make_prompts
from relation_neurons.relations import Relation
from relation_neurons.runs import RunFolder, digest, study_key

Profile = Literal["smoke", "demo", "full"]


@dataclass(frozen=True)
class Experiment:
    """An experiment by name.

    Attributes:
        run: What carries it out.
        config: Its options; made without arguments they are the paper's.
        demo: Options that a small model on a CPU is done with in minutes.
        smoke: Options that show in seconds that everything works; by default those of `demo`.
    """

    run: Callable[[Study, Any], Finding]
    config: type[Any]
    demo: Any
    smoke: Any = None


DEMO_KS = (10, 200, 1000, 3000, 10_000, 50_000)
SMOKE_KS = (200, 3000, 20_000)
EXPERIMENTS: Mapping[str, Experiment] = {
    "layers": Experiment(layers, LayersConfig, LayersConfig(), LayersConfig(n_shuffles=2)),
    "neuron-types": Experiment(neuron_types, NeuronTypesConfig, NeuronTypesConfig(n_type_controls=2)),
    "overlap": Experiment(overlap, OverlapConfig, OverlapConfig(), OverlapConfig(n_permutations_multiplicity=20)),
    "intra": Experiment(intra, IntraConfig, IntraConfig(n_detection_asked=10), IntraConfig(n_detection_asked=0)),
    "inter": Experiment(inter, InterConfig, InterConfig(n_asked=12), InterConfig(n_asked=4)),
    "sweep": Experiment(
        sweep,
        SweepConfig,
        SweepConfig(ks=DEMO_KS, n_sweep_controls=2, n_other=1),
        SweepConfig(ks=SMOKE_KS, n_sweep_controls=2, n_other=1),
    ),
    "cumulativity": Experiment(
        cumulativity,
        CumulativityConfig,
        CumulativityConfig(ks=DEMO_KS, n_slices=3, n_slice_controls=2),
        CumulativityConfig(ks=SMOKE_KS, n_slices=2, n_slice_controls=2),
    ),
    "languages": Experiment(
        languages,
        LanguagesConfig,
        LanguagesConfig(n_language_controls=2),
        LanguagesConfig(languages=("de", "zh"), n_language_controls=2),
    ),
    "templates": Experiment(templates, TemplatesConfig, TemplatesConfig(n_template_controls=2)),
    "concepts": Experiment(concepts, ConceptsConfig, ConceptsConfig(n_concept_controls=2)),
    "perplexity": Experiment(
        language_modelling, LanguageModellingConfig, LanguageModellingConfig(n_sentence_controls=3)
    ),
    "frequency": Experiment(frequency, FrequencyConfig, FrequencyConfig()),
    "errors": Experiment(error_kinds, ErrorKindsConfig, ErrorKindsConfig()),
    "confounds": Experiment(confounds, ConfoundsConfig, ConfoundsConfig(n_confound_controls=2)),
}
"""By their names on the command line, in the order in which `all` runs them: those that read the same together."""
METHODS = Experiment(methods, MethodsConfig, MethodsConfig(n_other=2, n_method_controls=2))

STUDIES: Mapping[str, StudyConfig] = {
    "smoke": StudyConfig(
        n_controls=2, validation="none", prompts=PromptConfig(shots=1, n_evaluation=6, n_detection=16)
    ),
    "demo": StudyConfig(n_controls=4, validation="none", prompts=PromptConfig(n_evaluation=25)),
    "full": StudyConfig(),
}
"""What each profile asks of every relation."""

for _experiment in (*EXPERIMENTS.values(), METHODS):
    check_fields(_experiment.config)


def options(name: str, profile: str = "full") -> Any:
    """Options of an experiment in a profile.

    Args:
        name: Of `EXPERIMENTS`, or `methods`.
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
        RelationNeuronsError: There is none of that name.
    """
    known = {**EXPERIMENTS, "methods": METHODS}
    if name not in known:
        raise refuse(f"'{name}' is no experiment", expected=nearest(name, known))
    return known[name]


def study_config(profile: str, **changes: Any) -> StudyConfig:
    """What a profile asks of every relation, with some fields changed.

    Raises:
        RelationNeuronsError: An unknown profile, or a value that a field cannot have.
    """
    if profile not in STUDIES:
        raise refuse(f"'{profile}' is no profile", expected=nearest(profile, get_args(Profile)))
    return replace(STUDIES[profile], **changes)


def open_study(
    model: str = "smollm2-135m",
    relations: Sequence[str | Path | Relation] = ("shipped",),
    *,
    profile: str = "demo",
    folder: str | Path | None = None,
    show: Show = bar,
    read: str | None = None,
    **changes: Any,
) -> Study:
    """Load a model and its relations, ready for experiments.

    Args:
        model: As `relation-neurons run --model` takes it.
        relations: Names, files, folders, or relations themselves.
        profile: How much is asked: `smoke`, `demo` or `full`.
        folder: Where answers are kept, in a folder named after all that they depend on; a later call with the same
            arguments goes on from there. None keeps them in memory.
        show: Makes a progress bar of a label and a total.
        read: Sites to read together, such as `all`, where several sites will be ranked.
        changes: Other fields of `StudyConfig`, such as `k`, `site` and `seed`.

    Raises:
        RelationNeuronsError: Whatever of the input cannot be used.
    """
    found = load_relations(*relations)
    named = tuple(one.name if isinstance(one, Relation) else str(one) for one in relations)
    config = study_config(profile, model=model, relations=named, **changes)
    require_room(config, found, read or config.site, folder, say=lambda line: None)  # numbers of a machine, not kept
    loaded = load_model(config.model, device=config.device, dtype=config.dtype)
    kept = None
    if folder is not None:
        Study(loaded, found, config)  # refuses what cannot be asked before there is a folder
        key = study_key(config, found, loaded)
        kept = RunFolder(Path(folder) / digest(key)[:16], key)
    return Study(loaded, found, config, folder=kept, show=show, read=read)


def require_room(
    config: StudyConfig,
    relations: Sequence[Relation],
    site: str,
    out: str | Path | None,
    *,
    n_experiments: int = 1,
    **how: Any,
) -> None:
    """Say what memory and disk a study needs, and refuse what cannot fit, before its model is loaded.

    Args:
        config: What is asked.
        relations: The relations it names.
        site: What is read at once.
        out: Where answers and activations are kept, if anywhere.
        n_experiments: How many will ask; what each adds to the disk is a rough guess.
        how: As for `require_memory`.

    Raises:
        RelationNeuronsError: It cannot fit; the message names options with which it would.
    """
    prompts = make_prompts(relations, config.prompts)
    needed = estimate(
        config.model,
        prompts.detection,
        site,
        n_answers=len(prompts.evaluation) * (1 + len(relations) + config.n_controls) * n_experiments,
        batch_size=config.batch_size,
        device=config.device,
        dtype=config.dtype,
        out=out,
        shards=out is not None,
    )
    require_memory(needed, **how)


def run_experiment(study: Study, name: str, profile: str = "demo", **changes: Any) -> Finding:
    """Carry out an experiment by name, with its options in a profile.

    Args:
        study: From `open_study`.
        name: Of `EXPERIMENTS`, or `methods`.
        profile: How much is asked beside each relation's own facts: `smoke`, `demo` or `full`.
        changes: Options of the experiment that are to be others.

    Raises:
        RelationNeuronsError: An unknown experiment or profile, or a value that an option cannot have.
    """
    chosen = replace(options(name, profile), **changes)
    return replace(find_experiment(name).run(study, chosen), name=name)
