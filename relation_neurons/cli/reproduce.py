"""The commands `run`, `reproduce NAME` and `compare-methods`: parse, call, print."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.design import DesignConfig
from relation_neurons.experiments.neuron_cards import CardsConfig
from relation_neurons.experiments.profiles import Profile
from relation_neurons.experiments.registry import BESIDE, EXPERIMENTS, RUN, Experiment
from relation_neurons.experiments.runner import FREQUENCY_NEEDS, all_options, default_folder, reproduce, run
from relation_neurons.experiments.summary import PARTS, sides
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.formatting import interval_text
from relation_neurons.workers.config import NO_WORKERS, WorkersConfig

app = tyro.extras.SubcommandApp()


def _command(name: str, experiment: Experiment) -> Callable[..., None]:
    """The command of one experiment, whose options are those of the study and its own."""

    def command(study, options, design, workers, out=None):  # type: ignore[no-untyped-def]
        _report([name], study, out, {name: options}, design, workers)

    command.__annotations__ = {
        "study": Annotated[StudyConfig, tyro.conf.arg(name="")],
        "options": Annotated[experiment.config, tyro.conf.arg(name="")],
        "design": Annotated[DesignConfig, tyro.conf.arg(name="")],
        "workers": Annotated[WorkersConfig, tyro.conf.arg(name="")],
        "out": Path | None,
        "return": None,
    }
    about = (experiment.config.__doc__ or "").strip()
    command.__doc__ = f"""{about}

    Writes tables, figures and a verdict. The same command resumes an experiment that was stopped.

    Args:
        study: The model, the relations and the measurements.
        options: Of this experiment.
        design: As the options say, or for an effect.
        workers: Processes that share the work.
        out: The folder; by default one under `runs/` named after model and options, shared by all experiments of the
            same study.
    """
    return command


for _name, _experiment in {**EXPERIMENTS, **BESIDE}.items():
    if _name == "methods":  # a command of its own, `compare-methods`
        continue
    app.command(name=_name)(_command(_name, _experiment))


@app.command(name="all")
def all_command(
    study: Annotated[StudyConfig, tyro.conf.arg(name="")],
    design: Annotated[DesignConfig, tyro.conf.arg(name="")],
    workers: Annotated[WorkersConfig, tyro.conf.arg(name="")],
    profile: Profile = "full",
    counts: Path | None = None,
    corpus: Path | None = None,
    n_cards: int = 20,
    out: Path | None = None,
) -> None:
    """Run every experiment on one model load, sharing activations, scores and answers.

    Args:
        study: The model, the relations and the measurements.
        design: As the profile says, or for an effect.
        workers: Processes that share the work.
        profile: The size of the experiments: `full`, as in the paper; `demo`, within an hour for a small model on a
            CPU; `smoke`, only to see that everything works.
        counts: A table of co-occurrences for `frequency`; without it and `--corpus` that experiment is left out.
        corpus: A folder of texts to count co-occurrences in.
        n_cards: Best neurons of each relation that get a card; 0 makes none.
        out: The folder; by default one under `runs/` named after model and options.
    """
    options = all_options(profile, counts=counts, corpus=corpus)
    _report(list(options), study, out, options, design, workers, n_cards)
    if "frequency" not in options:
        Console().print(FREQUENCY_NEEDS)


def run_command(
    study: Annotated[StudyConfig, tyro.conf.arg(name="")] = RUN,
    workers: Annotated[WorkersConfig, tyro.conf.arg(name="")] = NO_WORKERS,
    n_cards: int = 20,
    out: Path | None = None,
) -> None:
    """Find the neurons of each relation, ablate them, and compare recall with matched random controls.

    The experiments `summary`, `layers`, `overlap`, `intra` and `inter` in one folder, with report.html, one page that
    works offline, and cards.html, what each of the best neurons does. The same command resumes a run that was stopped.

    Args:
        study: The model, the relations and the measurements.
        workers: Processes that share the work.
        n_cards: Best neurons of each relation that get a card; 0 makes none.
        out: The folder; by default one under `runs/` named after model and options, shared by all experiments of the
            same study.
    """
    console, started = Console(), time.monotonic()
    out = out or default_folder(study)
    results = {result.name: result for result in run(study, out, workers, cards=_cards(n_cards))}
    for measure, title in (("logprob", "Log-probability of the object (nats)"), ("correct", "Accuracy")):
        console.print(_summary_table(results["summary"].table, measure, title))
    for name in ("summary", "properties"):
        _print(console, results[name])
    console.print(f"Took {time.monotonic() - started:.0f} s. Open {out / 'report.html'}", soft_wrap=True)


compare_methods_command = _command("methods", BESIDE["methods"])


def _report(
    names: list[str],
    study: StudyConfig,
    out: Path | None,
    options: dict[str, Any],
    design: DesignConfig,
    workers: WorkersConfig,
    n_cards: int = 0,
) -> None:
    console, started = Console(), time.monotonic()
    out, cards = out or default_folder(study), _cards(n_cards)
    for result in reproduce(names, study, out, options=options, design=design, workers=workers, cards=cards):
        _print(console, result)
    console.print(f"Took {time.monotonic() - started:.0f} s. Open {out / 'report.html'}", soft_wrap=True)


def _cards(n: int) -> CardsConfig | None:
    return CardsConfig(n) if n else None


def _summary_table(summary: pd.DataFrame, measure: str, title: str) -> Table:
    """A row per relation; bold where own minus random leaves zero."""
    table = Table(title=f"{title}: mean, 95 % interval over n facts", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("relation", "n", *PARTS):
        table.add_column(name.replace("_minus_", " - "), no_wrap=name == "relation")
    styles = {"below": "bold blue", "above": "bold red"}
    style = {name: styles.get(side, "") for side, names in sides(summary, measure).items() for name in names}
    for row in summary[summary["measure"] == measure].to_dict("records"):
        cells = (interval_text(row, part).replace(" [", "\n[") for part in PARTS)
        table.add_row(row["relation"], str(row["clean_n"]), *cells, style=style[row["relation"]])
    return table


def _print(console: Console, result: ExperimentResult) -> None:
    console.print(f"[bold]{result.name}[/] {result.question}", soft_wrap=True)
    for sentence in result.verdict:
        console.print(f"  - {sentence}", soft_wrap=True, markup=False, highlight=False)
