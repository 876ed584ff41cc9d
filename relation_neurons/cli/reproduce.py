"""The commands `reproduce NAME` and `compare-methods`: parse, call, print."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.registry import EXPERIMENTS, METHODS, Experiment, Profile
from relation_neurons.experiments.runner import FREQUENCY_NEEDS, all_options, reproduce
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.storage.fingerprint import digest

app = tyro.extras.SubcommandApp()


def _command(name: str, experiment: Experiment) -> Callable[..., None]:
    """The command of one experiment, whose options are those of the study and its own."""

    def command(study, options, out=None):  # type: ignore[no-untyped-def]
        _report([name], study, out, {name: options})

    command.__annotations__ = {
        "study": Annotated[StudyConfig, tyro.conf.arg(name="")],
        "options": Annotated[experiment.config, tyro.conf.arg(name="")],
        "out": Path | None,
        "return": None,
    }
    about = (experiment.config.__doc__ or "").strip()
    command.__doc__ = f"""{about}

    Writes tables, figures and a verdict; a stopped experiment goes on where it was when it is called again.

    Args:
        study: The model, its relations and what is asked.
        options: Of this experiment.
        out: The folder; by default one under `runs/` named after model and options, shared by all experiments of the
            same study.
    """
    return command


for _name, _experiment in EXPERIMENTS.items():
    app.command(name=_name)(_command(_name, _experiment))


@app.command(name="all")
def all_command(
    study: Annotated[StudyConfig, tyro.conf.arg(name="")],
    profile: Profile = "full",
    counts: Path | None = None,
    corpus: Path | None = None,
    out: Path | None = None,
) -> None:
    """Run every experiment on one model load, sharing activations, scores and answers.

    Args:
        study: The model, its relations and what is asked.
        profile: How much is asked beside each relation's own facts: `full`, as much as in the paper; `demo`, what a
            small model on a CPU is done with within the hour; `smoke`, only to see that everything works.
        counts: A table of co-occurrences for `frequency`; without it and `--corpus` that experiment is left out.
        corpus: A folder of texts to count co-occurrences in.
        out: The folder; by default one under `runs/` named after model and options.
    """
    options = all_options(profile, counts=counts, corpus=corpus)
    _report(list(options), study, out, options)
    if "frequency" not in options:
        Console().print(FREQUENCY_NEEDS)


compare_methods_command = _command("methods", METHODS)


def _report(names: list[str], study: StudyConfig, out: Path | None, options: dict[str, Any]) -> None:
    console, started = Console(), time.monotonic()
    out = out or Path("runs") / f"study-{Path(study.model).stem}-{digest(study)[:8]}"
    for result in reproduce(names, study, out, options=options):
        _print(console, result)
    console.print(f"Took {time.monotonic() - started:.0f} s. Open {out / 'report.html'}", soft_wrap=True)


def _print(console: Console, result: ExperimentResult) -> None:
    console.print(f"[bold]{result.name}[/] {result.question}", soft_wrap=True)
    for sentence in result.verdict:
        console.print(f"  - {sentence}", soft_wrap=True, markup=False, highlight=False)
