"""Experiments by name: one loaded model, shared answers, and for each tables, figures and a verdict in words."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.offline

from relation_neurons.experiments import registry
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.design import DesignConfig, Plan, plan
from relation_neurons.experiments.frequency import FrequencyConfig
from relation_neurons.experiments.neuron_cards import DEFAULT_CARDS, CardsConfig, kept_cards
from relation_neurons.experiments.profiles import Profile
from relation_neurons.experiments.properties import properties
from relation_neurons.experiments.registry import EXPERIMENTS, RUN, RUN_OPTIONS
from relation_neurons.experiments.session import prepare
from relation_neurons.experiments.study import Study
from relation_neurons.inference.units import InProcess
from relation_neurons.progress import bar, tell
from relation_neurons.report.figure_registry import draw
from relation_neurons.report.study import write_study_report
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.results.neuron_cards import read_cards
from relation_neurons.results.neuron_verdicts import tie_rule
from relation_neurons.results.scorecard import as_json, scorecards
from relation_neurons.results.sentences import critical
from relation_neurons.statistics.formatting import count_text
from relation_neurons.storage.fingerprint import digest
from relation_neurons.storage.run_folder import RunFolder
from relation_neurons.workers.config import NO_WORKERS, WorkersConfig

FREQUENCY_NEEDS = "frequency is left out: it needs --counts or --corpus."


def reproduce(
    names: Sequence[str],
    config: StudyConfig,
    out: Path,
    *,
    options: Mapping[str, Any] | None = None,
    design: DesignConfig | None = None,
    workers: WorkersConfig = NO_WORKERS,
    cards: CardsConfig | None = None,
) -> list[ExperimentResult]:
    """Run experiments on one loaded model, or resume them.

    Args:
        names: Of `registry.EXPERIMENTS` or `registry.BESIDE`.
        config: The model, the relations and the measurements.
        out: The folder. `run.json` holds the configuration; `answers/` and `rankings/` hold the measurements so
            far, which all experiments in this folder share; each experiment has a folder with its tables
            (parquet), figures (HTML that works offline), `verdict.md` and `options.json`. `neurons.parquet` holds each
            relation's neurons, `critical.parquet` the critical neurons of the site, `scorecard.json` the
            claims of the paper (`results.scorecard`), and `report.html`, one page that works offline, all that the
            folder holds so far.
        options: Of experiments by name; by default the paper's.
        design: By default as the options say; with `auto`, a pilot on detection facts chooses facts, control sets and
            pairs for an effect. Lines before the start and `design.parquet` tell which; the same command takes the
            same again.
        workers: Processes that run the model; by default this one does. Tables are the same for any number of them.
        cards: Also make cards of each relation's best neurons, in `cards/` and `cards.html`; by default none.

    Returns:
        The results, in order; with two or more experiments the three properties come last.

    Raises:
        RelationNeuronsError: An unknown name, input that cannot be used, or a folder of another study.
    """
    chosen = {name: (options or {}).get(name) or registry.options(name) for name in names}
    doing = [""]
    study = prepare(
        config,
        out=out,
        read="all" if "neuron-types" in names else None,
        n_experiments=len(chosen),
        scorers=[scorer for option in chosen.values() for scorer in getattr(option, "scorers", ())],
        cards=cards is not None,
        show=lambda what, total: bar(doing[0] + what, total),
        say=lambda line: tell(doing[0] + line),
        workers=workers,
    )
    with contextlib.closing(study.pool):
        return _carry_out(study, chosen, study.keep_in(out), design, cards, doing)


def _carry_out(
    study: Study,
    chosen: Mapping[str, Any],
    folder: RunFolder,
    design: DesignConfig | None,
    cards: CardsConfig | None,
    doing: list[str],
) -> list[ExperimentResult]:
    """Run the experiments of a study and write all that the folder holds; `doing` names the one at work."""
    planned = None if design is None or design.design == "fixed" else _announced(study, chosen, design, folder)
    found = {}
    for name, option in chosen.items():
        doing[0] = f"{name}: "
        sized, option = (study, option) if planned is None else planned.apply(study, name, option)
        result = registry.find_experiment(name).run(sized, option)
        found[name] = replace(result, name=name, verdict=(*result.verdict, *(sized.stops or ())))
        write_result(folder, name, found[name], option)
    neurons = pd.concat([study.ranking().top_frame(name, study.k) for name in study.names])
    if len(found) > 1:
        found["properties"] = properties(found)
        write_result(folder, "properties", found["properties"], None)
        folder.write_text("verdicts.md", _page(study, found, neurons, planned))
    doing[0] = ""
    if cards is None:
        known = read_cards(folder.path)
    else:
        best = {name: study.target(name) for name in study.names}
        known = kept_cards(study, folder, best, cards, excluded=study.critical.excluded(study.config.site))
    study.rankings.drop_read()
    folder.write_table("neurons", neurons)
    folder.write_table("critical", study.critical.at(study.config.site))
    folder.write_text("scorecard.json", as_json(scorecards([folder.path])))
    folder.write_text("report.html", write_study_report(folder.path, folder.key, known))
    _tell_work(study)
    return list(found.values())


def _tell_work(study: Study) -> None:
    """Say what workers did, and what went wrong on the way."""
    if study.pool.n_workers == 1 and isinstance(study.pool, InProcess):
        return
    answers = study.answers
    tell(
        f"{count_text(study.pool.n_workers, 'worker')} did {count_text(study.pool.n_units, 'unit')}, "
        f"{answers.n_computed:,} answers among them, {answers.n_twice} of these twice."
    )
    for reason in study.pool.lost:
        tell(f"Tried again: {reason}")


def _announced(study: Study, options: Mapping[str, Any], config: DesignConfig, folder: RunFolder) -> Plan:
    """The chosen designs, said and stored before anything of them is measured."""
    found = plan(study, options, config)
    for sentence in str(found).splitlines():
        study.say(sentence)
    folder.write_table("design", found.table)
    return found


def run(
    config: StudyConfig = RUN,
    out: Path | None = None,
    workers: WorkersConfig = NO_WORKERS,
    *,
    cards: CardsConfig | None = DEFAULT_CARDS,
) -> list[ExperimentResult]:
    """Find each relation's neurons, ablate them, and compare recall with matched random controls.

    The command `relation-neurons run`: a study with the experiments of `registry.RUN_OPTIONS`, of which `summary`
    gives the main table.

    Args:
        config: The model, the relations and the measurements.
        out: The folder, as of `reproduce`; by default `default_folder`.
        workers: As of `reproduce`.
        cards: Of which neurons, and how much they show; None makes none.

    Raises:
        RelationNeuronsError: As `reproduce`.
    """
    out = out or default_folder(config)
    return reproduce(list(RUN_OPTIONS), config, out, options=RUN_OPTIONS, workers=workers, cards=cards)


def default_folder(config: StudyConfig) -> Path:
    """The folder of a study that names none, under `runs/`: experiments of the same study share it."""
    return Path("runs") / f"{Path(config.model).stem}-{digest(config)[:8]}"


def write_result(folder: RunFolder, name: str, result: ExperimentResult, option: Any) -> None:
    """Write an experiment's tables, figures and verdict into a folder of its own."""
    for label, table in result.tables.items():
        folder.write_table(f"{name}/{label}", table)
    folder.text("plotly.min.js", plotly.offline.get_plotlyjs)
    for label, figure in draw(name, result).items():
        page = figure.to_html(include_plotlyjs="../plotly.min.js", config={"displaylogo": False, "responsive": True})
        folder.write_text(f"{name}/{label}.html", page)
    folder.write_text(f"{name}/verdict.md", _section(name, result))
    if option is not None:
        folder.write_text(f"{name}/options.json", json.dumps(asdict(option), indent=2, default=str) + "\n")


def all_options(profile: Profile, *, counts: Path | None = None, corpus: Path | None = None) -> dict[str, Any]:
    """Options of every experiment; without counts or a corpus there is no `frequency`."""
    chosen = {name: registry.options(name, profile) for name in EXPERIMENTS}
    if counts is None and corpus is None:
        del chosen["frequency"]
    else:
        chosen["frequency"] = FrequencyConfig(counts=counts, corpus=corpus)
    return chosen


def _section(name: str, result: ExperimentResult) -> str:
    return f"## {name}\n\n{result.question}\n\n" + "\n".join(f"- {sentence}" for sentence in result.verdict) + "\n"


def _page(study: Study, found: Mapping[str, ExperimentResult], neurons: pd.DataFrame, planned: Plan | None) -> str:
    """All verdicts on one page, the properties first."""
    config = study.config
    known = critical(study.critical.at(config.site), config.site, kept=config.keep_critical)
    size = f"{config.prompts.n_evaluation} evaluation facts per relation, {config.n_controls} control sets"
    if planned is not None:
        size = "designed for an effect (" + str(planned).replace("\n", " ") + ")"
    head = (
        f"# {study.model.cfg.model_name}: {len(study.names)} relations, {study.k} neurons each at site {config.site}"
        f"\n\n{config.prompts.shots} few-shot examples, {size}, seed {config.seed}. {tie_rule(neurons)} {known} "
        "Tables and figures are in the folders of these names.\n"
    )
    order = ["properties", *(name for name in found if name != "properties")]
    return "\n".join([head, *(_section(name, found[name]) for name in order)])
