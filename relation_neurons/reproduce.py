"""Experiments by name: one model load, shared answers, and for each a table, a figure and a verdict in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import plotly.offline

from relation_neurons.drawing import draw
from relation_neurons.errors import nearest, refuse
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
from relation_neurons.experiments.properties import properties
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.sweep import SweepConfig, sweep
from relation_neurons.experiments.templates import TemplatesConfig, templates
from relation_neurons.models import load_model
from relation_neurons.packs import load_relations
from relation_neurons.progress import bar
from relation_neurons.runs import RunFolder, study_key


@dataclass(frozen=True)
class Experiment:
    """An experiment by name.

    Attributes:
        run: What carries it out.
        config: Its options; made without arguments they are the paper's.
        demo: Options that a small model on a CPU is done with in minutes.
    """

    run: Callable[[Study, Any], Finding]
    config: type[Any]
    demo: Any


DEMO_KS = (10, 200, 1000, 3000, 10_000, 50_000)
EXPERIMENTS: Mapping[str, Experiment] = {
    "layers": Experiment(layers, LayersConfig, LayersConfig()),
    "neuron-types": Experiment(neuron_types, NeuronTypesConfig, NeuronTypesConfig(n_type_controls=2)),
    "overlap": Experiment(overlap, OverlapConfig, OverlapConfig()),
    "intra": Experiment(intra, IntraConfig, IntraConfig(n_detection_asked=10)),
    "inter": Experiment(inter, InterConfig, InterConfig(n_asked=12)),
    "sweep": Experiment(sweep, SweepConfig, SweepConfig(ks=DEMO_KS, n_sweep_controls=2, n_other=1)),
    "cumulativity": Experiment(
        cumulativity, CumulativityConfig, CumulativityConfig(ks=DEMO_KS, n_slices=3, n_slice_controls=2)
    ),
    "languages": Experiment(languages, LanguagesConfig, LanguagesConfig(n_language_controls=2)),
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
Profile = Literal["paper", "demo"]
FREQUENCY_NEEDS = "frequency is left out: it needs --counts or --corpus."


def reproduce(
    names: Sequence[str], config: StudyConfig, out: Path, *, options: Mapping[str, Any] | None = None
) -> list[Finding]:
    """Carry out experiments on one model load, or go on with them where they stopped.

    Args:
        names: Of `EXPERIMENTS`, or `methods`.
        config: The model, its relations and what is asked.
        out: The folder. `run.json` says what was asked; `answers/` and `rankings/` hold what was measured so far, from
            which every experiment in this folder takes what it needs; each experiment has a folder with its tables
            (parquet), figures (HTML that works offline), `verdict.md` and `options.json`.
        options: Of experiments by name; by default the paper's.

    Returns:
        What was found, in order; with two or more experiments the three properties come last.

    Raises:
        RelationNeuronsError: An unknown name, whatever of the input cannot be used, or a folder of another study.
    """
    known = {**EXPERIMENTS, "methods": METHODS}
    for name in names:
        if name not in known:
            raise refuse(f"'{name}' is no experiment", expected=nearest(name, known))
    relations = load_relations(*config.relations)
    model = load_model(config.model, device=config.device, dtype=config.dtype)
    folder = RunFolder(out, study_key(config, relations, model))
    together = "all" if "neuron-types" in names else None
    doing = [""]
    study = Study(
        model, relations, config, folder=folder, show=lambda what, total: bar(doing[0] + what, total), read=together
    )
    chosen = {name: (options or {}).get(name) or known[name].config() for name in names}
    findings = {}
    for name, option in chosen.items():
        doing[0] = f"{name}: "
        findings[name] = replace(known[name].run(study, option), name=name)
        write_finding(folder, name, findings[name], option)
    if len(findings) > 1:
        findings["properties"] = properties(findings)
        write_finding(folder, "properties", findings["properties"], None)
        folder.write_text("verdicts.md", _page(study, findings))
    return list(findings.values())


def write_finding(folder: RunFolder, name: str, finding: Finding, option: Any) -> None:
    """Write an experiment's tables, figures and verdict into a folder of its own."""
    for label, table in finding.tables.items():
        folder.write_table(f"{name}/{label}", table)
    if not (folder.path / "plotly.min.js").is_file():
        folder.write_text("plotly.min.js", plotly.offline.get_plotlyjs())
    for label, figure in draw(name, finding).items():
        page = figure.to_html(include_plotlyjs="../plotly.min.js", config={"displaylogo": False, "responsive": True})
        folder.write_text(f"{name}/{label}.html", page)
    folder.write_text(f"{name}/verdict.md", _section(name, finding))
    if option is not None:
        folder.write_text(f"{name}/options.json", json.dumps(asdict(option), indent=2, default=str) + "\n")


def all_options(profile: Profile, *, counts: Path | None = None, corpus: Path | None = None) -> dict[str, Any]:
    """Options of every experiment; without counts or a corpus there is no `frequency`."""
    chosen = {name: one.config() if profile == "paper" else one.demo for name, one in EXPERIMENTS.items()}
    if counts is None and corpus is None:
        del chosen["frequency"]
    else:
        chosen["frequency"] = FrequencyConfig(counts=counts, corpus=corpus)
    return chosen


def _section(name: str, finding: Finding) -> str:
    return f"## {name}\n\n{finding.question}\n\n" + "\n".join(f"- {sentence}" for sentence in finding.verdict) + "\n"


def _page(study: Study, findings: Mapping[str, Finding]) -> str:
    """All verdicts on one page, the properties first."""
    config = study.config
    head = (
        f"# {study.model.cfg.model_name}: {len(study.names)} relations, {study.k} neurons each at site {config.site}"
        f"\n\n{config.prompts.shots} solved examples, {config.prompts.n_evaluation} evaluation facts per relation, "
        f"{config.n_controls} control sets, seed {config.seed}. Tables and figures are in the folders of these names.\n"
    )
    order = ["properties", *(name for name in findings if name != "properties")]
    return "\n".join([head, *(_section(name, findings[name]) for name in order)])
