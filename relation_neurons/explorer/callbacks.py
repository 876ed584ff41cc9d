"""What happens on a click: callbacks take the state of the page, and call what can be tested without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash
import plotly.graph_objects as go
from dash import ALL, Input, Output, State, ctx, dcc, html, no_update

from relation_neurons.errors import RelationNeuronsError
from relation_neurons.explorer.ablation import ablate_basket
from relation_neurons.explorer.basket import added, exported, removed
from relation_neurons.explorer.components import ablated_view, card_body, chips
from relation_neurons.explorer.layout import example
from relation_neurons.explorer.run_data import RunData
from relation_neurons.explorer.scatter import clicked, picks, scatter_figure
from relation_neurons.statistics.formatting import count_text

HINT = "Click on a point, or find a neuron by its rank or name."
NO_CARD = "This neuron is not among the relation's best, whose cards were made with the run."
BUSY = "The model is at work ..."


def connect(app: dash.Dash, data: RunData) -> None:
    """Register all callbacks."""
    _connect_neurons(app, data)
    _connect_card(app, data)
    _connect_basket(app, data)
    _connect_export(app, data)
    _connect_ablation(app, data)


def _connect_neurons(app: dash.Dash, data: RunData) -> None:
    @app.callback(
        Output("scatter", "figure"),
        Input("relation", "value"),
        Input("axis", "value"),
        Input("basket", "data"),
        Input("selected", "data"),
    )
    def draw(relation: str, axis: str, basket: list[str], selected: str | None) -> go.Figure:
        return scatter_figure(data.scatter(relation), axis, basket=basket, selected=selected)

    @app.callback(Output("pick", "options"), Output("pick", "value"), Input("relation", "value"))
    def offer(relation: str) -> tuple[list[dict[str, str]], None]:
        return picks(data.scatter(relation)), None

    @app.callback(
        Output("selected", "data"),
        Input("scatter", "clickData"),
        Input("pick", "value"),
        prevent_initial_call=True,
    )
    def select(click: dict[str, Any] | None, pick: str | None) -> Any:
        found = clicked(click) if ctx.triggered_id == "scatter" else pick
        return found or no_update


def _connect_card(app: dash.Dash, data: RunData) -> None:
    @app.callback(
        Output("card", "children"),
        Output("card-title", "children"),
        Output("add", "disabled"),
        Output("make", "hidden"),
        Input("selected", "data"),
        Input("make", "n_clicks"),
        State("relation", "value"),
        running=[(Output("make", "disabled"), True, False)],
    )
    def show(selected: str | None, _: int | None, relation: str) -> tuple[Any, str, bool, bool]:
        if selected is None:
            return html.P(HINT, className="note"), "Card", True, True
        try:
            card = data.make_card(selected, relation) if ctx.triggered_id == "make" else data.card(selected)
        except RelationNeuronsError as error:
            return _refused(error), selected, True, True
        if card is None:
            return html.P(NO_CARD, className="note"), selected, False, False
        return card_body(card), selected, False, True


def _connect_basket(app: dash.Dash, data: RunData) -> None:
    @app.callback(
        Output("basket", "data"),
        Input("add", "n_clicks"),
        Input("add-best", "n_clicks"),
        Input("clear", "n_clicks"),
        Input({"type": "remove", "neuron": ALL}, "n_clicks"),
        State("basket", "data"),
        State("selected", "data"),
        State("relation", "value"),
        State("n-best", "value"),
        prevent_initial_call=True,
    )
    def change(_a: Any, _b: Any, _c: Any, _d: Any, basket: list[str], one: str | None, relation: str, n: Any) -> Any:
        if not (ctx.triggered and ctx.triggered[0]["value"]):  # a button that has only just appeared
            return no_update
        return changed(data, ctx.triggered_id, basket, one, relation, n)

    @app.callback(
        Output("chips", "children"),
        Output("basket-title", "children"),
        Output("export", "disabled"),
        Output("ablate", "disabled"),
        Output("clear", "disabled"),
        Input("basket", "data"),
    )
    def show(basket: list[str]) -> tuple[Any, str, bool, bool, bool]:
        title = f"Basket: {count_text(len(basket), 'neuron')}" if basket else "Basket"
        return chips(basket), title, not basket, not basket, not basket


def _connect_export(app: dash.Dash, data: RunData) -> None:
    @app.callback(
        Output("file", "data"),
        Output("export-note", "children"),
        Input("export", "n_clicks"),
        State("basket", "data"),
        State("name", "value"),
        prevent_initial_call=True,
    )
    def export(_: int, basket: list[str], name: str | None) -> tuple[Any, Any]:
        try:
            content = exported(data, basket, name or "")
        except RelationNeuronsError as error:
            return no_update, _refused(error)
        note = f"{name}.parquet: rn.load_neurons reads it, and relation-neurons generate --neurons {name}.parquet"
        return dcc.send_bytes(content, f"{name}.parquet"), note


def changed(
    data: RunData, button: Any, basket: Sequence[str], selected: str | None, relation: str, n: object
) -> list[str]:
    """The basket after a click on one of its buttons.

    Args:
        data: The run.
        button: The id of the button; of those that take a neuron out, a dictionary that names it.
        basket: Before.
        selected: The neuron on the card.
        relation: The relation that is shown.
        n: How many of its best are added.
    """
    if isinstance(button, dict):
        return removed(basket, str(button.get("neuron")))
    if button == "clear":
        return []
    if button == "add":
        return added(basket, [selected] if selected else [])
    best = data.neurons[relation]
    number = min(max(int(n), 1), len(best)) if isinstance(n, int | float) else 0
    return added(basket, map(str, best.neurons[:number]))


def _connect_ablation(app: dash.Dash, data: RunData) -> None:
    examples = {relation: example(data, relation) for relation in data.relations}

    @app.callback(Output("prompt", "value"), Input("relation", "value"), State("prompt", "value"))
    def suggest(relation: str, prompt: str | None) -> Any:
        return examples[relation] if not prompt or prompt in examples.values() else no_update  # what is typed stays

    @app.callback(
        Output("result", "children"),
        Input("ablate", "n_clicks"),
        State("basket", "data"),
        State("prompt", "value"),
        State("n-facts", "value"),
        running=[(Output("ablate", "disabled"), True, False), (Output("busy", "children"), BUSY, "")],
        prevent_initial_call=True,
    )
    def ablate(_: int, basket: list[str], prompt: str | None, n_facts: str) -> Any:
        try:
            return ablated_view(ablate_basket(data, basket, prompt or "", int(n_facts)))
        except RelationNeuronsError as error:
            return _refused(error)


def _refused(error: RelationNeuronsError) -> html.P:
    return html.P(str(error), className="error", role="alert")
