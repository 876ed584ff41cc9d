"""Print the card of a neuron that a finished run already has; no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relation_neurons.errors import refuse
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.explorer.finished_run import finished_run, stored_config
from relation_neurons.figures.single_neuron import visible
from relation_neurons.report.card_nodes import effect_text, place_text
from relation_neurons.results.neuron_cards import Card
from relation_neurons.statistics.formatting import interval_text
from relation_neurons.storage.fingerprint import code_digest, versions

PRINTED = 8
"""Relations and tokens that the command prints."""


def settings_of(path: Path, given: StudyConfig, default: StudyConfig, out: Path | None) -> tuple[StudyConfig, Path]:
    """The settings of a finished run, and where to write.

    Args:
        path: Of the run.
        given: The settings on the command line, which must be the defaults.
        default: The defaults.
        out: Where the user wants to write, if he says so.

    Raises:
        RelationNeuronsError: No finished run, or settings beside it.
    """
    if given != default:
        raise refuse("There are settings of a study beside --run", do="leave them out: those of the run are taken")
    run = finished_run(path)
    return stored_config(run), out or path


def require_same_code(path: Path) -> None:
    """Refuse to write measurements into the folder of a run that other code has made, which would archive it."""
    key = finished_run(path).key
    if (key.get("code"), key.get("versions")) != (code_digest()[:16], versions()):
        do = "pass --out for a folder of its own, or give the run's command again"
        raise refuse(f"{path} was made by another version of the code, and this neuron has no card there", do=do)


def print_card(console: Console, card: Card) -> None:
    """Print what a card says."""
    console.print(f"{card.neuron}: {place_text(card)}", soft_wrap=True, markup=False, highlight=False)
    for row in card.effects.to_dict("records"):
        console.print(f"- Ablated alone. {effect_text(row)}.", soft_wrap=True, markup=False, highlight=False)
    rows = card.scores.to_dict("records")
    names = [str(row["relation"]) for row in rows]
    precision = {
        "AP": [f"{row['ap']:.3f} [{row['ap_low']:.3f}, {row['ap_high']:.3f}]" for row in rows],
        "shuffled, 97.5 %": [f"{row['null_high']:.3f}" for row in rows],
    }
    effects = {
        "effect": [interval_text(row, decimals=3) for row in rows],
        "its layer, 95 %": [f"{row['layer_low']:+.3f} to {row['layer_high']:+.3f}" for row in rows],
    }
    for what, found in (("Average precision", precision), ("Attributed effect of ablation (nats)", effects)):
        console.print(text_table(f"{what}{first_of(rows)}: 95 % over facts", {"relation": names, **found}))
    if len(card.tokens):
        sides = {str(side): part.to_dict("records") for side, part in card.tokens.groupby("side", sort=False)}
        columns = {side: [f"{visible(one['token'])} ({one['z']:+.1f})" for one in part] for side, part in sides.items()}
        console.print(text_table("Tokens, standard deviations from the mean of the vocabulary", columns))
    for _, tokens in card.prompts.groupby("place", sort=True):
        first = tokens.iloc[0]
        text = f"- {first['relation']}, mean activation {first['value']:+.3g}: {''.join(tokens['token'])}"
        console.print(text, soft_wrap=True, markup=False, highlight=False)


def first_of(rows: Sequence[object]) -> str:
    """What to say where only the first relations are printed."""
    return f" (first {PRINTED} of {len(rows)} relations)" if len(rows) > PRINTED else ""


def text_table(title: str, columns: Mapping[str, list[str]]) -> Table:
    """A table of texts that are printed as they are."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=name != "relation", overflow="fold")
    n = min(PRINTED, max(map(len, columns.values())))
    for number in range(n):
        table.add_row(*(Text(cells[number]) if number < len(cells) else "" for cells in columns.values()))
    return table
