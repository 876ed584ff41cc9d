"""The command line: finds the command by its name, imports its module alone, and lets tyro parse the rest."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import tyro
from rich.console import Console

import relation_neurons
from relation_neurons.errors import RelationNeuronsError, nearest, refuse, unusable

PROGRAM = "relation-neurons"
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


class Command(NamedTuple):
    """Where a command is, and what it does.

    Attributes:
        place: Module in `relation_neurons.cli`, and the name of a function, or of an app that groups commands.
        help: One line for the list of commands; of functions the first sentence of the docstring.
        shortcut: The place of a function that is given the words behind the command before the command is loaded, and
            says whether it has done all that they ask for.
    """

    place: str
    help: str
    shortcut: str = ""

    def load(self) -> Any:
        """The function or the app; only now is its module imported."""
        return _loaded(self.place)

    def take_shortcut(self, words: Sequence[str]) -> bool:
        """Whether the shortcut has done all there is to do."""
        return bool(self.shortcut) and bool(_loaded(self.shortcut)(words))


def _loaded(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"relation_neurons.cli.{module}"), name)


COMMANDS: Mapping[str, Command] = {
    "data": Command("data:app", "Get, check, describe and translate relations."),
    "models": Command("models:app", "List and download the embedded models."),
    "reproduce": Command("reproduce:app", "Carry out an experiment of the paper, or all of them."),
    "notebooks": Command("notebooks:app", "List, execute and copy the notebooks."),
    "runs": Command("runs:app", "List, show, verify and clean run folders."),
    "run": Command(
        "reproduce:run_command",
        "Find the neurons of each relation, ablate them, and compare recall with matched random controls.",
    ),
    "doctor": Command(
        "doctor:doctor_command",
        "Look at this machine and, if one is named, at a model on it; exit status 1 if there is trouble.",
    ),
    "neuron": Command(
        "neuron:neuron_command",
        "Analyse one neuron: average precision, top activating prompts, promoted tokens and ablation effects.",
        "neuron_card:shown_at_once",
    ),
    "generate": Command(
        "generate:generate_command",
        "Let a model continue texts: clean, with a relation's neurons ablated, and with matched random ones ablated.",
    ),
    "explore": Command(
        "explore:explore_command",
        "Explore a finished run in the browser: its neurons, their cards, and what ablating a basket of them changes.",
    ),
    "figures": Command(
        "figures:figures_command",
        "Draw the figures of a study again from its tables, as images or pages; no model is loaded.",
    ),
    "report": Command(
        "report:report_command", "Rebuild report.html of a run from its tables alone; no model is loaded."
    ),
    "scorecard": Command(
        "scorecard:scorecard_command",
        "Judge every claim of the paper by the experiments of one folder or of several; no model is loaded.",
    ),
    "compare-methods": Command(
        "reproduce:compare_methods_command",
        "Rank neurons by every scorer, ablate the k best of each, and test own and other facts.",
    ),
    "relations": Command(
        "data:relations_command",
        "List relations with their facts, distinct objects and the share of the most frequent one.",
    ),
    "parity": Command(
        "comparisons:parity_command", "Compare the loaded model's logits with Hugging Face's, in float32."
    ),
    "compare-scores": Command(
        "comparisons:compare_scores_command",
        "Rank neurons by average precision and by scorers of other methods, and say how many of the best are common.",
    ),
}
"""The commands in the order of the help page."""


def command_names(group: str | None = None) -> tuple[str, ...]:
    """The names of commands: the first words, or those that follow a group, none if it is a single command.

    Args:
        group: A first word, whose module is imported.
    """
    if group is None:
        return tuple(COMMANDS)
    return tuple(getattr(COMMANDS[group].load(), "_subcommands", ()))


def _app(words: Sequence[str]) -> tyro.extras.SubcommandApp:
    """The commands, of which only the one that is called does anything; the others have a name and a line of help."""
    app, completion = tyro.extras.SubcommandApp(), any(word.startswith("--tyro-") for word in words)
    called = next((word for word in map(_dashed, words) if word in COMMANDS), None)
    for name, command in COMMANDS.items():
        if name != called and not completion:
            app.command(name=name, help=command.help)(_nothing)
        elif isinstance(loaded := command.load(), tyro.extras.SubcommandApp):
            app.command(loaded, name=name, help=command.help)
        else:
            app.command(name=name)(loaded)  # whose docstring is on its help page
    return app


def _nothing() -> None:
    """Stand for a command that is not called."""


def _dashed(word: str) -> str:
    return word.replace("_", "-")


def _require_command(words: Sequence[str]) -> None:
    """Refuse an unknown command, naming the nearest one."""
    group = None
    for word in map(_dashed, words[:2]):
        names = command_names(group)
        if word.startswith("-") or not names:
            return
        if word not in names:
            program = PROGRAM if group is None else f"{PROGRAM} {group}"
            raise refuse(
                f"'{word}' is not a command of {program}", expected=nearest(word, names), do=f"see {program} --help"
            )
        group = word


def _stopped(words: Sequence[str]) -> str:
    """The message when a command was stopped."""
    command = _dashed(" ".join([*words[:2], ""]))
    resumes = any(command.startswith(f"{name} ") for name in RESUMABLE)
    return f"Stopped. The same command {'resumes from here' if resumes else 'starts over'}."


def _fail(error: RelationNeuronsError) -> NoReturn:
    console = Console(stderr=True, highlight=False)
    console.print("[bold red]Error:[/] ", end="")
    console.print(str(error), markup=False, soft_wrap=True)
    sys.exit(2)


def main() -> None:
    """Entry point: errors of input are one line on standard error and exit status 2."""
    words = sys.argv[1:]
    # Read when PyTorch is imported: threads that wait for others leave the cores to them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if words == ["--version"]:
            print(f"{PROGRAM} {relation_neurons.__version__}")
            return
        if words and words[0] in COMMANDS and COMMANDS[words[0]].take_shortcut(words[1:]):
            return
        _require_command(words)
        _app(words).cli(
            prog=PROGRAM,
            description="Find, ablate and explore relation-specific neurons. --version prints the version.",
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
        Console(stderr=True).print(_stopped(words))
        sys.exit(130)
