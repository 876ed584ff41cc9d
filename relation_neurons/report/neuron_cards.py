"""The page of the cards of a run's best neurons, beside its report."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

from relation_neurons.report.card_nodes import card_node, place_text, to_html
from relation_neurons.results.neuron_cards import NeuronCards

CARDS_PAGE = "cards.html"
"""Name of the page in the run folder."""


def cards_page(cards: NeuronCards, run: Mapping[str, Any]) -> str:
    """Render the cards, folded up under their relations; a neuron of several relations stands under the first.

    Args:
        cards: Of the run.
        run: Contents of its `run.json`.

    Returns:
        HTML that works offline.
    """
    shown: set[str] = set()
    sections: dict[str, list[dict[str, Any]]] = {}
    for relation in cards.tables["neurons"]["relation"].unique():
        rows = cards.tables["neurons"]
        own = rows[(rows["relation"] == relation) & (rows["kind"] == "chosen")].set_index("neuron")
        sections[relation] = []
        for name in cards.best(relation):
            first = name not in shown
            shown.add(name)
            card = cards.card(name)
            sections[relation].append(
                {
                    "name": name,
                    "anchor": anchor(name),
                    "row": own.loc[name].to_dict(),
                    "places": place_text(card),
                    "card": to_html(card_node(card)) if first else None,
                }
            )
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("relation_neurons.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("cards.html")
    return template.render(sections=sections, run=run, about=cards.about, css=cards_css())


def card_links(cards: NeuronCards) -> dict[str, str]:
    """Where on the page each neuron's card is, from a page beside it."""
    return {name: f"{CARDS_PAGE}#{anchor(name)}" for name in cards.names}


def cards_css() -> str:
    """The style of cards, which the explorer shares."""
    return (resources.files("relation_neurons.report") / "templates" / "cards.css").read_text(encoding="utf-8")


def anchor(neuron: str) -> str:
    """The id of a card on the page.

    Example:
        >>> anchor("gate:L5.N3")
        'gate-L5.N3'
    """
    return neuron.replace(":", "-")
