"""The command line: parses, calls, prints."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import pandas as pd
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relation_neurons.cli import data, doctor, figures, neuron, notebooks, report, reproduce, runs
from relation_neurons.errors import RelationNeuronsError, nearest, refuse, unusable
from relation_neurons.experiments.compare import CompareConfig, compare
from relation_neurons.experiments.pipeline import RunConfig
from relation_neurons.experiments.pipeline import run as run_pipeline
from relation_neurons.models.loading import parity
from relation_neurons.relations import loading
from relation_neurons.report import run
from relation_neurons.storage.fingerprint import digest

GOES_ON = ("run", "reproduce", "compare-methods", "neuron", "notebooks run", "data fetch", "data translate")
"""Commands that keep what they have done, so that one that was stopped goes on."""

app = tyro.extras.SubcommandApp()
app.command(data.app, name="data", help="Get, check, describe and translate relations.")
app.command(reproduce.app, name="reproduce", help="Carry out an experiment of the paper, or all of them.")
app.command(notebooks.app, name="notebooks", help="List, execute and copy the notebooks.")
app.command(runs.app, name="runs", help="List, show, verify and clean run folders.")
app.command(name="doctor")(doctor.doctor_command)
app.command(name="neuron")(neuron.neuron_command)
app.command(name="figures")(figures.figures_command)
app.command(name="report")(report.report_command)
app.command(name="compare-methods")(reproduce.compare_methods_command)


@app.command(name="run")
def run_command(config: Annotated[RunConfig, tyro.conf.arg(name="")], out: Path | None = None) -> None:
    """Find the neurons of each relation, ablate them, and compare recall with matched random controls.

    Writes a folder with the tables and report.html, one page that works offline. A run that was stopped goes on where
    it was when it is called again with the same options.

    Args:
        config: What to do.
        out: The run folder; by default one under `runs/` named after model and options.
    """
    console, started = Console(), time.monotonic()
    out = out or Path("runs") / f"{Path(config.model).stem}-{digest(config)[:8]}"
    results = run_pipeline(config, out)
    for measure, title in (("logprob", "Log-probability of the object (nats)"), ("correct_string", "Accuracy")):
        console.print(_summary_table(results.summary, measure, title))
    console.print(run.verdict_sentence(results.summary), soft_wrap=True)
    console.print(f"Took {time.monotonic() - started:.0f} s. Open {out / 'report.html'}", soft_wrap=True)


@app.command(name="relations")
def relations_command(sources: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """List relations with their facts, distinct objects and the share of the most frequent one.

    Args:
        sources: Names, files or folders; all shipped relations by default.
    """
    table = Table("relation", "facts", "objects", "majority", "first template")
    for relation in loading.load_relations(*sources):
        counts = str(len(relation.facts)), str(len(relation.objects)), f"{relation.majority_share:.0%}"
        table.add_row(relation.name, *counts, relation.templates[0])
    Console().print(table)


@app.command(name="parity")
def parity_command(model: str = "smollm2-135m") -> None:
    """Compare the loaded model's logits with Hugging Face's, in float32.

    Args:
        model: A Llama-architecture model, named as for `run`.
    """
    found = parity(model)
    Console().print(
        f"{model}: largest logit difference {found.max_logit_difference:.1e} over {found.n_tokens} tokens, "
        f"same next token at {found.argmax_agreement:.1%}",
        soft_wrap=True,
    )


@app.command(name="compare-scores")
def compare_scores_command(config: Annotated[CompareConfig, tyro.conf.arg(name="")]) -> None:
    """Rank neurons by average precision and by scorers of other methods, and say how many of the best are common.

    Args:
        config: What to compare.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title = f"Share of common neurons among the {config.k} best: mean over relations [least, largest]"
    for column in ("scorer", "and", "common", "by chance"):
        table.add_column(column)
    for row in compare(config).to_dict("records"):
        common = f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        table.add_row(row["first"], row["second"], common, f"{row['chance']:.2f}")
    Console().print(table)


def _summary_table(summary: pd.DataFrame, measure: str, title: str) -> Table:
    table = Table(title=f"{title}: mean, 95 % interval over n facts", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("relation", no_wrap=True)
    columns = ("n", "clean", "own", "other", "random", "own_minus_random")
    for name in columns:
        table.add_column(name.replace("_minus_", " - "))
    for row in run.summary_rows(summary, measure):
        style = {"below": "bold blue", "above": "bold red"}.get(row["side"], "")
        cells = (row[name].replace(" [", "\n[") for name in columns)
        table.add_row(row["relation"], *cells, style=style)
    return table


def _require_command(words: Sequence[str]) -> None:
    """Refuse a command that there is not, naming the one that was meant."""
    groups = {"data": data.app, "reproduce": reproduce.app}
    groups |= {"notebooks": notebooks.app, "runs": runs.app}
    known, said = app, "relation-neurons"
    for word in words[:2]:
        names = tuple(known._subcommands)
        if word.startswith("-"):
            return
        word = word.replace("_", "-")
        if word not in names:
            raise refuse(f"'{word}' is no command of {said}", expected=nearest(word, names), do=f"see {said} --help")
        if word not in groups:
            return
        known, said = groups[word], f"{said} {word}"


def _stopped(words: Sequence[str]) -> str:
    """What to say when a command was stopped."""
    said = " ".join([*words[:2], ""]).replace("_", "-")
    goes_on = any(said.startswith(f"{command} ") for command in GOES_ON)
    return f"Stopped. The same command {'goes on from here' if goes_on else 'begins anew'}."


def _fail(error: RelationNeuronsError) -> NoReturn:
    console = Console(stderr=True, highlight=False)
    console.print("[bold red]Error:[/] ", end="")
    console.print(str(error), markup=False, soft_wrap=True)
    sys.exit(2)


def main() -> None:
    """Entry point: errors of input are one line on standard error and exit status 2."""
    try:
        _require_command(sys.argv[1:])
        app.cli(
            prog="relation-neurons",
            description="Find, ablate and explore relation-specific neurons.",
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except RelationNeuronsError as error:
        _fail(error)
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(unusable(error))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the impatient press twice, and need no traceback either
        Console(stderr=True).print(_stopped(sys.argv[1:]))
        sys.exit(130)
