"""The page, before anything has been clicked."""

from __future__ import annotations

from dash import dcc, html
from dash.development.base_component import Component

from relation_neurons.explorer.components import GRAPH
from relation_neurons.explorer.run_data import RunData
from relation_neurons.explorer.scatter import AXES, HEIGHT

FACTS = (5, 10, 20, 40)
"""Facts per relation to choose from."""
NAMES = {"score": "score", "ap": "average precision", "layer": "layer"}


def page(data: RunData) -> Component:
    """The whole page of a run."""
    return html.Div(
        [
            dcc.Store(id="basket", data=[]),
            dcc.Store(id="selected"),
            dcc.Download(id="file"),
            _header(data),
            html.Main(
                [
                    html.Div([_neurons(data), _card()], className="columns"),
                    _basket(data),
                    _ablation(data),
                ]
            ),
        ]
    )


def example(data: RunData, relation: str) -> str:
    """A text to continue: the first template of a relation, filled with a subject of its evaluation facts."""
    first = data.study.evaluation(relation)[0]
    template = next(one for one in data.study.relations if one.name == relation).templates[0]
    return template.replace("{}", first.subject)


def _header(data: RunData) -> Component:
    config, study = data.study.config, data.study
    facts = [
        ("model", study.model.cfg.model_name),
        ("run", str(data.run.path)),
        ("site", config.site),
        ("ranked by", config.scorer.replace("_", " ")),
        ("neurons per relation", f"{study.k:,}"),
    ]
    other = "This run was made by another version of the code; live numbers may differ from its report."
    notes = [] if data.is_of_this_code else [html.P(other, className="note")]
    pairs = [html.Div([html.Dt(name), html.Dd(value)]) for name, value in facts]
    return html.Header([html.H1("Explore relation neurons"), html.Dl(pairs), *notes])


def _neurons(data: RunData) -> Component:
    relation = dcc.Dropdown(list(data.relations), data.relations[0], id="relation", clearable=False)
    axis = dcc.RadioItems({name: NAMES[name] for name in AXES}, "score", id="axis", inline=True)
    note = (
        "Each point is a neuron. The lower it is, the more its ablation is estimated to lower the log-probability of "
        "the relation's objects (detection facts). The grey band holds 95 % of random neurons of the same layers. "
        "Click on a point to see its card."
    )
    return html.Section(
        [
            html.H2("Neurons"),
            html.Div([html.Label("Relation", htmlFor="relation"), relation], className="field"),
            html.Div([html.Span("Horizontal axis", className="label"), axis], className="field"),
            dcc.Graph(id="scatter", config=GRAPH, style={"height": f"{HEIGHT}px"}),
            html.P(note, className="note"),
            html.Div([html.Label("Find a neuron", htmlFor="pick"), dcc.Dropdown(id="pick")], className="field"),
        ],
        className="pane",
    )


def _card() -> Component:
    add = html.Button("Add to basket", id="add", disabled=True, className="main")
    make = html.Button("Make its card", id="make", hidden=True)
    return html.Section(
        [
            html.H2("Card", id="card-title"),
            html.Div([add, make], className="row"),
            dcc.Loading(html.Div(id="card"), delay_show=300),
        ],
        className="pane",
    )


def _basket(data: RunData) -> Component:
    most = min(len(one) for one in data.neurons.values())
    number = dcc.Input(id="n-best", type="number", min=1, max=most, step=1, value=min(10, most))
    name = dcc.Input(id="name", type="text", value="basket", maxLength=80)
    return html.Section(
        [
            html.H2("Basket", id="basket-title"),
            html.Div(id="chips"),
            html.Div(
                [
                    html.Label("Best neurons of the relation", htmlFor="n-best"),
                    html.Div(number, className="small"),
                    html.Button("Add them", id="add-best"),
                    html.Button("Empty the basket", id="clear"),
                ],
                className="row",
            ),
            html.Div(
                [
                    html.Label("Name of the set", htmlFor="name"),
                    html.Div(name, className="medium"),
                    html.Button("Export as a file", id="export"),
                    html.Span(id="export-note", className="note"),
                ],
                className="row",
            ),
        ],
        className="pane",
    )


def _ablation(data: RunData) -> Component:
    available = min(len({one.columns["fact"] for one in data.study.evaluation(name)}) for name in data.relations)
    choices = sorted({min(n, available) for n in FACTS})
    facts = dcc.RadioItems({str(n): str(n) for n in choices}, str(choices[0]), id="n-facts", inline=True)
    prompt = dcc.Textarea(id="prompt", value=example(data, data.relations[0]), maxLength=2000, rows=2)
    return html.Section(
        [
            html.H2("Ablate the basket"),
            html.Div([html.Label("Prompt to continue", htmlFor="prompt"), prompt], className="field"),
            html.Div([html.Span("Facts per relation", className="label"), facts], className="field"),
            html.Div(
                [html.Button("Ablate", id="ablate", className="main"), html.Span(id="busy", className="note")],
                className="row",
            ),
            html.Div(id="result", role="status"),
        ],
        className="pane",
    )
