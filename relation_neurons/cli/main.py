"""The command line: parses, calls, prints."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Literal, NoReturn

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relation_neurons.cli import data, doctor, figures, models, neuron, notebooks, report, reproduce, runs
from relation_neurons.errors import RelationNeuronsError, nearest, refuse, unusable
from relation_neurons.experiments.score_correlation import ScoreAgreementConfig, score_agreement
from relation_neurons.models.loading import parity
from relation_neurons.relations.loading import load_relations

RESUMABLE = (
    "run",
    "reproduce",
    "compare-methods",
    "neuron",
    "notebooks run",
    "data fetch",
    "data translate",
    "models fetch",
)
"""Commands that store what they have done, so that they can be resumed."""

app = tyro.extras.SubcommandApp()
app.command(data.app, name="data", help="Get, check, describe and translate relations.")
app.command(models.app, name="models", help="List and download the embedded models.")
app.command(reproduce.app, name="reproduce", help="Carry out an experiment of the paper, or all of them.")
app.command(notebooks.app, name="notebooks", help="List, execute and copy the notebooks.")
app.command(runs.app, name="runs", help="List, show, verify and clean run folders.")
app.command(name="run")(reproduce.run_command)
app.command(name="doctor")(doctor.doctor_command)
app.command(name="neuron")(neuron.neuron_command)
app.command(name="figures")(figures.figures_command)
app.command(name="report")(report.report_command)
app.command(name="compare-methods")(reproduce.compare_methods_command)


@app.command(name="relations")
def relations_command(sources: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """List relations with their facts, distinct objects and the share of the most frequent one.

    Args:
        sources: Names, files or folders; all shipped relations by default.
    """
    table = Table("relation", "facts", "objects", "majority", "first template")
    for relation in load_relations(*sources):
        counts = str(len(relation.facts)), str(len(relation.objects)), f"{relation.majority_share:.0%}"
        table.add_row(relation.name, *counts, relation.templates[0])
    Console().print(table)


@app.command(name="parity")
def parity_command(model: str = "smollm2-135m", device_map: Literal["auto"] | None = None) -> None:
    """Compare the loaded model's logits with Hugging Face's, in float32.

    Args:
        model: A Llama-architecture model, named as for `run`.
        device_map: auto spreads a model that is larger than one GPU over all, then over memory and disk.
    """
    found = parity(model, device_map=device_map)
    Console().print(
        f"{model}: largest logit difference {found.max_logit_difference:.1e} over {found.n_tokens} tokens, "
        f"same next token at {found.argmax_agreement:.1%}",
        soft_wrap=True,
    )


@app.command(name="compare-scores")
def compare_scores_command(config: Annotated[ScoreAgreementConfig, tyro.conf.arg(name="")]) -> None:
    """Rank neurons by average precision and by scorers of other methods, and say how many of the best are common.

    Args:
        config: What to compare.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title = f"Share of common neurons among the {config.k} best: mean over relations [least, largest]"
    for column in ("scorer", "and", "common", "by chance"):
        table.add_column(column)
    for row in score_agreement(config).to_dict("records"):
        common = f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        table.add_row(row["first"], row["second"], common, f"{row['chance']:.2f}")
    Console().print(table)


def _require_command(words: Sequence[str]) -> None:
    """Refuse an unknown command, naming the nearest one."""
    groups = {"data": data.app, "models": models.app, "reproduce": reproduce.app}
    groups |= {"notebooks": notebooks.app, "runs": runs.app}
    known, name = app, "relation-neurons"
    for word in words[:2]:
        names = tuple(known._subcommands)
        if word.startswith("-"):
            return
        word = word.replace("_", "-")
        if word not in names:
            raise refuse(f"'{word}' is not a command of {name}", expected=nearest(word, names), do=f"see {name} --help")
        if word not in groups:
            return
        known, name = groups[word], f"{name} {word}"


def _stopped(words: Sequence[str]) -> str:
    """The message when a command was stopped."""
    command = " ".join([*words[:2], ""]).replace("_", "-")
    resumes = any(command.startswith(f"{name} ") for name in RESUMABLE)
    return f"Stopped. The same command {'resumes from here' if resumes else 'starts over'}."


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
