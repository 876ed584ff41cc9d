"""A neuron's card as a tree of elements, which a page writes as HTML and the explorer as components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from relation_neurons.figures.single_neuron import SHADES, STRONGEST, visible
from relation_neurons.results.neuron_cards import Card
from relation_neurons.statistics.effects import NOT_SHOWN
from relation_neurons.statistics.formatting import count_text, interval_text

EMPTY = ("br", "wbr")
"""Elements without an end."""


@dataclass(frozen=True)
class Node:
    """An element.

    Attributes:
        tag: Its name in HTML.
        children: Elements and texts.
        attributes: By their names in HTML, such as `class` and `title`.
        style: Declarations by the names of properties.
    """

    tag: str
    children: tuple[Node | str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    style: Mapping[str, str] = field(default_factory=dict)


def node(tag: str, *children: Node | str, style: Mapping[str, str] | None = None, **attributes: str) -> Node:
    """An element; `cls` is its class."""
    named = {"class" if name == "cls" else name: value for name, value in attributes.items()}
    return Node(tag, children, named, style or {})


def to_html(one: Node | str) -> Markup:
    """Write an element as HTML; all texts are escaped.

    Example:
        >>> str(to_html(node("p", "1 < 2", cls="note")))
        '<p class="note">1 &lt; 2</p>'
    """
    if isinstance(one, str):
        return Markup(escape(one))
    given = dict(one.attributes)
    if one.style:
        given["style"] = ";".join(f"{name}:{value}" for name, value in one.style.items())
    opened = f"<{one.tag}" + "".join(f' {name}="{escape(value)}"' for name, value in given.items()) + ">"
    if one.tag in EMPTY:
        return Markup(opened)
    return Markup(opened) + Markup("").join(map(to_html, one.children)) + Markup(f"</{one.tag}>")


def card_node(card: Card) -> Node:
    """The card of a neuron: prompts, tokens, ablation, and a row for every relation."""
    return node(
        "div",
        node("h4", "Top activating prompts"),
        prompts_node(card.prompts),
        node("h4", "Tokens promoted and suppressed"),
        tokens_node(card.tokens),
        node("h4", "Ablated alone"),
        effects_node(card.effects),
        node("h4", "Every relation"),
        scores_node(card.scores),
        cls="card",
    )


def place_text(card: Card) -> str:
    """Which relations chose the neuron.

    Example: `country_capital: rank 3, score 0.412; country_language: rank 17, score 0.207`.
    """
    rows = card.places.to_dict("records")
    return "; ".join(f"{row['relation']}: rank {row['rank']}, score {row['score']:.3f}" for row in rows)


def prompts_node(prompts: pd.DataFrame) -> Node:
    """Prompts whose tokens are shaded by activation: orange above zero, blue below."""
    largest = float(prompts["activation"].abs().max()) if len(prompts) else 0.0
    items = []
    for _, tokens in prompts.groupby("place", sort=True):
        first = tokens.iloc[0]
        shaded: list[Node | str] = []
        for token, value in zip(tokens["token"], tokens["activation"], strict=True):
            colour = f"rgba({SHADES[1 if value >= 0 else -1]},{STRONGEST * abs(value) / (largest or 1):.2f})"
            shaded.append(node("span", token, style={"background": colour}, title=f"{value:+.4g}"))
        note = node("small", f"{first['relation']}, mean {first['value']:+.3g}")
        items.append(node("li", node("span", *shaded, cls="text"), " ", note))
    scale = f"Shaded by activation, orange above and blue below zero; the strongest shade is {largest:.3g}."
    return node("div", node("ol", *items, cls="prompts"), node("p", scale, cls="note"))


def tokens_node(tokens: pd.DataFrame) -> Node:
    """The tokens that the output weights promote and suppress, with standard deviations from the vocabulary's mean."""
    if tokens.empty:
        return node("p", "The neuron does not write to the residual stream directly, or its weights cannot be read.")
    lines = []
    for side in ("promotes", "suppresses"):
        chips = [
            node("span", visible(str(row["token"])), " ", node("small", f"{row['z']:+z.1f}"), cls=f"token {side}")
            for row in tokens[tokens["side"] == side].to_dict("records")
        ]
        lines.append(node("p", node("b", side), " ", *(part for chip in chips for part in (chip, " ")), cls="tokens"))
    note = "Direct effect on the logits, in standard deviations from the mean of the vocabulary."
    return node("div", *lines, node("p", note, cls="note"))


def effects_node(effects: pd.DataFrame) -> Node:
    """What ablating the neuron alone changed, beside random neurons of its layer."""
    if effects.empty:
        return node("p", "Not ablated alone. Add it to the basket to ablate it.", cls="note")
    return node("ul", *(node("li", effect_text(row)) for row in effects.to_dict("records")), cls="effects")


def effect_text(row: Mapping[Any, Any]) -> str:
    """A measured effect with its interval, its number of facts and its control."""
    random = count_text(int(row["n_random"]), "random neuron")
    return (
        f"{row['relation']}: the log-probability of the object changes by {interval_text(row, decimals=3)} nats "
        f"(95 %, n = {count_text(int(row['n']), 'fact')}); under {random} of its layer "
        f"by {row['random']:+z.3f} ({row['random_min']:+z.3f} to {row['random_max']:+z.3f})"
    )


HEADS = {
    "relation": "",
    "average precision": "of its mean activation over the query; below it, the 97.5 % quantile with shuffled labels",
    "attributed effect (nats)": "estimated change in log-probability if it were ablated alone; below it, the central "
    "95 % of all neurons of its layer",
}
"""Columns of the table of relations, and what they are."""


def scores_node(scores: pd.DataFrame) -> Node:
    """A row per relation: average precision beside shuffled labels, and the attributed effect beside its layer's."""
    head = node("tr", *(Node("th", (name,), {"title": what} if what else {}) for name, what in HEADS.items()))
    body = [_score_row(row) for row in scores.to_dict("records")]
    table = node("table", node("thead", head), node("tbody", *body))
    known = scores["n_attributed"].dropna()
    facts = f" and {int(known.min())} attributed" if len(known) else ""
    note = (
        f"95 % intervals over at least {int(scores['n_facts'].min())} scored{facts} detection facts of each relation. "
    )
    note += "Bold: above chance (Holm), or outside the range of its layer."
    return node("div", node("div", table, cls="wide"), node("p", note, cls="note"))


def _score_row(row: Mapping[Any, Any]) -> Node:
    width = f"{100 * min(max(float(row['ap']), 0.0), 1.0):.0f}%"
    bar = node("span", node("span", style={"width": width}), cls="bar")
    precision = f"{row['ap']:.2f} [{row['ap_low']:.2f}, {row['ap_high']:.2f}]"
    shuffled = node("small", f"shuffled, up to {row['null_high']:.2f}")
    cells = [node("td", str(row["relation"]))]
    cells.append(_cell(bar, " ", precision, node("br"), shuffled, strong=row["verdict"] != NOT_SHOWN))
    if pd.isna(row["effect"]):
        return node("tr", *cells, node("td", "not read"))
    layer = node("small", f"its layer, {row['layer_low']:+z.3f} to {row['layer_high']:+z.3f}")
    outside = not row["layer_low"] <= row["effect"] <= row["layer_high"]
    return node("tr", *cells, _cell(interval_text(row, decimals=3), node("br"), layer, strong=outside))


def _cell(*children: Node | str, strong: bool) -> Node:
    return Node("td", children, {"class": "shown"} if strong else {})
