"""Flow diagram of answers from one number of ablated neurons to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int
from numpy import ndarray

from relation_neurons.figures.answer_trajectories import OUTCOMES, course_matrix, outcome_matrix, step_labels
from relation_neurons.figures.common import empty_figure, with_menu
from relation_neurons.figures.style import BUTTONS, RANDOM, styled

SHORT = ("right", "regained", "gained", "lost", "wrong")
"""Labels of boxes, in the order of `OUTCOMES`."""
COLUMNS = 5
EXAMPLES = 4
HEIGHT, GAP, THICK = 400, 18, 12
"""Height of the diagram, gap between its boxes, and width of its boxes, in pixels."""


class Box(NamedTuple):
    """Answers with the same outcome at one step."""

    step: int
    outcome: int
    n: int
    middle: float


def answer_flows_figure(facts: pd.DataFrame, ks: Sequence[int] | None = None, columns: int = COLUMNS) -> go.Figure:
    """Flows between outcomes of answers as more neurons are ablated; a menu selects the relation.

    Args:
        facts: Table of `cumulativity.flip_table`.
        ks: Numbers of ablated neurons, ascending, as for `answer_trajectories_figure`.
        columns: Largest number of columns, including the unablated model and the largest k. Outcomes
            account for every k: an answer is `regained` if it was wrong at any smaller k.
    """
    title = "Answer flows: lost, gained and regained answers"
    if facts.empty:
        return empty_figure(title)
    courses = course_matrix(facts)
    labels = ["0", *step_labels(facts, courses, ks)]
    if ks is not None:
        labels[1:] = [f"{k:,}" for k in ks]
    steps = np.unique(np.linspace(0, len(labels) - 1, min(columns, len(labels))).round().astype(int))
    outcomes, relations = outcome_matrix(courses)[:, steps], facts["relation"].to_numpy()
    column_labels = [labels[step] for step in steps]
    selections = {f"all relations ({len(facts)})": np.ones(len(facts), dtype=bool)}
    for name in facts["relation"].unique():
        is_in_relation = relations == name
        selections[f"{name} ({is_in_relation.sum()})"] = is_in_relation
    figure = go.Figure([_flow_diagram(facts[rows], outcomes[rows], column_labels) for rows in selections.values()])
    figure = with_menu(styled(figure, title, height=HEIGHT + 30, legend_rows=0), list(selections))
    figure.update_layout(height=HEIGHT + 130, margin={"t": 110, "b": 20, "l": 14, "r": 14})
    labels_of = [[*_column_heads(column_labels), *_box_labels(outcomes[rows])] for rows in selections.values()]
    menu = figure.layout.updatemenus[0]
    menu.pad.b = 30
    for button, box_labels in zip(menu.buttons, labels_of, strict=True):
        button.update(method="update", args=[*button.args, {"annotations": box_labels}])
    return figure.update_layout(annotations=labels_of[0])


def _flow_diagram(facts: pd.DataFrame, outcomes: Int[ndarray, "answer column"], labels: Sequence[str]) -> go.Sankey:
    """Diagram of the answers; the boxes follow the order of `OUTCOMES`, right answers on top."""
    boxes, names = _boxes(outcomes), list(OUTCOMES)
    last = max(outcomes.shape[1] - 1, 1)
    node = {
        "x": [min(max(box.step / last, 0.001), 0.999) for box in boxes],
        "y": [min(max(box.middle, 0.001), 0.999) for box in boxes],
        "color": [RANDOM if box.outcome == 4 else OUTCOMES[names[box.outcome]] for box in boxes],
        "customdata": [f"k = {labels[box.step]}<br>{box.n} of {len(facts)} {names[box.outcome]}" for box in boxes],
        "hovertemplate": "%{customdata}<extra></extra>",
        "pad": GAP,
        "thickness": THICK,
        "line": {"width": 0},
    }
    return go.Sankey(arrangement="fixed", node=node, link=_links(facts, outcomes, labels, boxes))


def _links(
    facts: pd.DataFrame, outcomes: Int[ndarray, "answer column"], labels: Sequence[str], boxes: Sequence[Box]
) -> dict[str, object]:
    """The flows between the boxes of neighbouring columns."""
    box_index = {(box.step, box.outcome): number for number, box in enumerate(boxes)}
    facts_text = (facts["relation"] + ": " + facts["subject"]).to_numpy()
    links: dict[str, list[object]] = {name: [] for name in ("source", "target", "value", "color", "customdata")}
    for step in range(outcomes.shape[1] - 1):
        for before, after in sorted(set(zip(outcomes[:, step].tolist(), outcomes[:, step + 1].tolist(), strict=True))):
            flow = (outcomes[:, step] == before) & (outcomes[:, step + 1] == after)
            change = f"{SHORT[before]} at k = {labels[step]}, {SHORT[after]} at k = {labels[step + 1]}"
            links["source"].append(box_index[step, before])
            links["target"].append(box_index[step + 1, after])
            links["value"].append(int(flow.sum()))
            links["color"].append(_pale(after))
            links["customdata"].append(
                f"{change}<br>{flow.sum()} of {len(facts)} answers<br>{_examples(facts_text[flow])}"
            )
    return {**links, "hovertemplate": "%{customdata}<extra></extra>"}


def _boxes(outcomes: Int[ndarray, "answer column"]) -> list[Box]:
    """All boxes with their vertical centres from 0 (top) to 1; heights are proportional to answers."""
    most = max(len(np.unique(column)) for column in outcomes.T)
    scale = (1 - (most - 1) * GAP / HEIGHT) / len(outcomes)
    boxes = []
    for step, column in enumerate(outcomes.T):
        top = 0.0
        for outcome, n in zip(*np.unique(column, return_counts=True), strict=True):
            boxes.append(Box(step, int(outcome), int(n), top + scale * n / 2))
            top += scale * n + GAP / HEIGHT
    return boxes


def _examples(facts: ndarray) -> str:
    """A few facts, spread evenly over all of them."""
    selected = facts[np.unique(np.linspace(0, len(facts) - 1, min(EXAMPLES, len(facts))).round().astype(int))]
    return "<br>".join([*map(str, selected), *(["..."] if len(facts) > EXAMPLES else [])])


def _pale(outcome: int) -> str:
    """The translucent colour of a flow."""
    colour = OUTCOMES[list(OUTCOMES)[outcome]]
    if not colour.startswith("#"):
        return "rgba(127,127,127,0.2)"
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.45)"


def _column_heads(labels: Sequence[str]) -> list[dict[str, object]]:
    """Annotations above the columns: the numbers of ablated neurons."""
    return [
        {
            **_beside(number, len(labels)),
            "text": "no ablation" if number == 0 else f"k = {label}",
            "xshift": 0,
            "y": 1,
            "yanchor": "bottom",
            "yshift": 8,
        }
        | ({} if number in (0, len(labels) - 1) else {"xanchor": "center"})
        for number, label in enumerate(labels)
    ]


def _box_labels(outcomes: Int[ndarray, "answer column"]) -> list[dict[str, object]]:
    """Annotations of the boxes: outcome and number of answers, readable on top of the flows."""
    return [
        {
            **_beside(box.step, outcomes.shape[1]),
            "text": f"{SHORT[box.outcome]} {box.n}",
            "y": 1 - box.middle,
            "yanchor": "middle",
            "font": {"size": 11, **BUTTONS["font"]},
            "bgcolor": "rgba(245,245,245,0.8)",
            "borderpad": 1,
        }
        for box in _boxes(outcomes)
    ]


def _beside(column: int, n: int) -> dict[str, object]:
    """Position to the right of a column's boxes, or to the left in the last column."""
    last = column == n - 1 > 0
    position = {"x": column / max(n - 1, 1), "xanchor": "right" if last else "left", "xref": "paper", "yref": "paper"}
    return {
        **position,
        "xshift": -THICK - 3 if last else THICK + 3 if column == 0 else THICK / 2 + 3,
        "showarrow": False,
    }
