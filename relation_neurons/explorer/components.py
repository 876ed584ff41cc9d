"""Parts of the page as Dash components: cards, the basket's neurons, and what its ablation changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from relation_neurons.explorer.ablation import N_CONTROLS, RANDOM, SET, Ablated
from relation_neurons.figures.common import ENDS, error_bars
from relation_neurons.figures.style import OWN, ZERO, row_height, styled
from relation_neurons.figures.style import RANDOM as GREY
from relation_neurons.report.card_nodes import Node, card_node, place_text
from relation_neurons.results.neuron_cards import Card
from relation_neurons.statistics.formatting import count_text, interval_text

GRAPH: Any = {"displaylogo": False, "responsive": True, "plotlyServerURL": ""}
"""Of every figure: no button leads away from this machine."""


def to_dash(one: Node | str) -> Component | str:
    """An element of a card as a component."""
    if isinstance(one, str):
        return one
    attributes = {"className" if name == "class" else name: value for name, value in one.attributes.items()}
    kind = getattr(html, one.tag.capitalize())
    children = [to_dash(child) for child in one.children]
    return kind(children, style=dict(one.style) or None, **attributes)


def card_body(card: Card) -> list[Component | str]:
    """A card with the relations that chose its neuron above it."""
    places = place_text(card) or "In the set of no relation: a random neuron."
    return [html.P(places, className="note"), to_dash(card_node(card))]


def chips(basket: Sequence[str], most: int = 60) -> list[Component]:
    """The neurons of the basket, each with a button that takes it out again."""
    if not basket:
        return [html.P("Empty. Click on a point above, and add its neuron.", className="note")]
    shown = [
        html.Span(
            [neuron, html.Button("\u00d7", id={"type": "remove", "neuron": neuron}, title=f"Take {neuron} out")],
            className="chip",
        )
        for neuron in basket[:most]
    ]
    more = [html.Span(f"and {len(basket) - most} more", className="note")] if len(basket) > most else []
    return [html.Div([*shown, *more], className="chips")]


def ablated_view(found: Ablated) -> list[Component]:
    """Continuations, and a table and a figure of recall."""
    written = [] if found.generations is None else [generations_view(found.generations.table)]
    figure = effects_figure(found.effects)
    return [
        *written,
        html.H3("Recall"),
        html.P(
            f"{count_text(found.n_neurons, 'neuron')} ablated together, and {N_CONTROLS} random sets of as many in the "
            "same layers. Accuracy is of the first two tokens of the answer. Brackets are 95 % intervals over n facts. "
            f"{N_CONTROLS} random sets show a size, but are too few for a test; the report has the tested effects.",
            className="note",
        ),
        html.Div(
            [
                html.Div(effects_table(found.effects), className="wide"),
                dcc.Graph(
                    figure=figure, config=GRAPH, id="effects-figure", style={"height": f"{figure.layout.height}px"}
                ),
            ],
            className="columns",
        ),
    ]


def generations_view(table: pd.DataFrame) -> Component:
    """Continuations of the user's text, with what differs from the clean model's marked."""
    names = {"clean": "unchanged", SET: SET, RANDOM: RANDOM}
    rows = []
    for row in table.to_dict("records"):
        same, whole = str(row["agrees"]), str(row["generated"])
        rest = [html.Mark(whole[len(same) :] or "\u00a0")] if row["differs"] else []
        rows.append(html.Tr([html.Th(names[row["condition"]]), html.Td([same, *rest], className="text")]))
    prompt = html.P([html.B("Prompt: "), str(table["prompt"].iloc[0])])
    return html.Div([html.H3("Continuations"), prompt, html.Table(html.Tbody(rows), id="continuations")])


HEADS = ("relation", "n", "change in accuracy", "change in log-probability (nats)")


def effects_table(effects: pd.DataFrame) -> Component:
    """A row per relation; bold where the basket's interval lies beyond zero and beyond all random sets."""
    parts = {str(name): rows.set_index("facts") for name, rows in effects.groupby("measure", sort=False)}
    rows = []
    for relation in parts["logprob"].sort_values("effect", kind="stable").index:
        right, logprob = (parts[name].loc[relation].to_dict() for name in ("correct", "logprob"))
        before = f"{right['clean']:.2f} [{right['clean_low']:.2f}, {right['clean_high']:.2f}]"
        accuracy = _beside_random(right, html.Small(f"before {before}"))
        cells = [html.Td(str(relation)), html.Td(str(int(logprob["n"]))), accuracy, _beside_random(logprob)]
        rows.append(html.Tr(cells))
    return html.Table([html.Thead(html.Tr([html.Th(name) for name in HEADS])), html.Tbody(rows)], id="effects")


def _beside_random(row: Mapping[Any, Any], *more: Component) -> Component:
    """An effect, and below it those of the random sets."""
    random = f"random {row['random']:+z.2f} ({row['random_min']:+z.2f} to {row['random_max']:+z.2f})"
    text = html.Span(interval_text(row), className="shown" if stands_out(row) else None)
    return html.Td([text, *(part for note in (html.Small(random), *more) for part in (html.Br(), note))])


def effects_figure(effects: pd.DataFrame) -> go.Figure:
    """Changes in log-probability by relation, and the mean and range of the random sets."""
    rows = effects[effects["measure"] == "logprob"].sort_values("effect", ascending=False, kind="stable")
    names, figure = list(rows["facts"]), go.Figure()
    parts = (
        ("random sets: mean and range", "random", ("_min", "_max"), GREY, "square", -0.15),
        ("basket: 95 % over facts", "effect", ENDS, OWN, "circle", 0.15),
    )
    for label, column, ends, colour, symbol, shift in parts:
        figure.add_scatter(
            x=rows[column],
            y=[place + shift for place in range(len(names))],
            error_x=error_bars(rows, column, ends),
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": symbol},
            name=label,
            hovertemplate="%{x:+.3f}<extra>" + label + "</extra>",
        )
    figure.add_vline(x=0, line_width=1, line_color=ZERO)
    height = 110 + row_height(names) * len(names)
    figure = styled(figure, "Change in log-probability of the object (nats)", height=height)
    return figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4])


def stands_out(row: Mapping[Any, Any]) -> bool:
    """Whether an effect's interval lies on one side of zero and of every random set."""
    below = row["effect_high"] < min(0.0, row["random_min"])
    return bool(below or row["effect_low"] > max(0.0, row["random_max"]))
