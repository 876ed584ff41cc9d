"""Print the card of a neuron that a finished run already has; no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relation_neurons.figures.single_neuron import visible
from relation_neurons.models.sites import SITES, Neuron
from relation_neurons.report.card_nodes import effect_text, place_text
from relation_neurons.report.neuron_cards import CARDS_PAGE, anchor
from relation_neurons.results.neuron_cards import Card, read_cards
from relation_neurons.statistics.formatting import interval_text
from relation_neurons.storage.run_files import KEY, read_key

PRINTED = 8
"""Relations and tokens that the command prints."""


def shown_at_once(words: Sequence[str]) -> bool:
    """Print the card of `neuron NEURON --run RUN` if that run has it; of other words nothing, and it is false.

    PyTorch, whose import takes longer than all else, is not imported.
    """
    if len(words) != 3 or "--run" not in words[:2]:
        return False
    at = words.index("--run")
    path, text = Path(words[at + 1]), words[2 if at == 0 else 0]
    cards = read_cards(path) if (path / KEY).is_file() else None
    if cards is None or text.startswith("-"):
        return False
    site = read_key(path)["config"]["site"]
    neuron = str(Neuron.parse(text, site if site in SITES else "post"))
    if neuron not in cards.names:
        return False
    console = Console()
    print_card(console, cards.card(neuron))
    console.print(f"Open {path}/{CARDS_PAGE}#{anchor(neuron)}", soft_wrap=True)
    return True


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
        "its layer, 95 %": [f"{row['layer_low']:+z.3f} to {row['layer_high']:+z.3f}" for row in rows],
    }
    for what, found in (("Average precision", precision), ("Attributed effect of ablation (nats)", effects)):
        console.print(text_table(f"{what}{first_of(rows)}: 95 % over facts", {"relation": names, **found}))
    if len(card.tokens):
        sides = {str(side): part.to_dict("records") for side, part in card.tokens.groupby("side", sort=False)}
        columns = {
            side: [f"{visible(one['token'])} ({one['z']:+z.1f})" for one in part] for side, part in sides.items()
        }
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
